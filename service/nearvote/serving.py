"""All that stands on one vector space: what answers while its vectors are the ones that are served."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from nearvote.abstaining import AbstainingClassifier
from nearvote.audit.log import AuditLog
from nearvote.browse import Browser
from nearvote.classify import Classifier, Classifies
from nearvote.clock import system_us
from nearvote.curate import Curator
from nearvote.embedding.batcher import CUDA_BATCH_TOKENS, Batcher
from nearvote.embedding.cache import ViewCache
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Encoder, EncoderSpec
from nearvote.embedding.onnx_encoder import usable_cores
from nearvote.erase import Eraser
from nearvote.examples.explanation_store import open_explanation_store
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.standing import Standing
from nearvote.explain import Explainer
from nearvote.feedback.inbox import Inbox
from nearvote.feedback.store import open_feedback
from nearvote.learn.jobs import Jobs
from nearvote.learn.learner import Learner
from nearvote.observe.metrics import Metrics, ObservedClassifier, ObservedEncoder
from nearvote.observe.store import ObservedEngine
from nearvote.observe.traces import Tracing
from nearvote.reindex.beside import Beside, Coming
from nearvote.rpc.status import log_cause
from nearvote.settings import Settings
from nearvote.shadow import Shadowing
from nearvote.tasks.leases import Leases
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.snapshots import REFRESH_SECONDS

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Shared:
    """What stays whichever vectors are served."""

    settings: Settings
    engine: ObservedEngine
    metrics: Metrics
    tracing: Tracing | None
    audit: AuditLog
    jobs: Jobs
    ready: Coming  # what this process has embedded with, and may switch to
    loaded: Coming  # that, or what it has loaded since another replica embeds with it


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers from the vectors of one space."""

    encoder: Encoder
    batcher: Batcher
    cache: ViewCache
    store: QdrantStore
    tasks: TaskRegistry
    shadows: Shadows
    classifier: Explainer
    browser: Browser
    curator: Curator
    eraser: Eraser
    learner: Learner
    inbox: Inbox
    leases: Leases


@contextlib.asynccontextmanager
async def serving_of(shared: Shared, encoder: Encoder, store: QdrantStore) -> AsyncIterator[Serving]:
    """Puts together what answers from a store by its encoder, and takes it apart at the end.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    settings, engine, metrics, audit = shared.settings, shared.engine, shared.metrics, shared.audit
    async with contextlib.AsyncExitStack() as stack:
        observed = ObservedEncoder(encoder, metrics)
        batcher = batcher_of(observed, settings)
        stack.push_async_callback(batcher.close)
        embedder = Embedder(observed, batcher, html=settings.html)
        cache = ViewCache(settings.embedding_cache_mib * _MIB, metrics.looked_up)
        # Messages repeat. Examples come once, and would drive out of the cache what repeats.
        remembering = Embedder(observed, batcher, html=settings.html, cache=cache)
        tasks = TaskRegistry(store, settings.limits, audit=audit, standing=Standing(engine, store))
        stack.push_async_callback(tasks.settle)
        curator = Curator(embedder, store, tasks, settings.limits, audit=audit, forget=remembering.forget)
        stack.push_async_callback(curator.settle)
        beside = Beside(engine, store, settings.limits, shared.ready, shared.loaded)
        shadows = Shadows(store, tasks, settings.limits, audit=audit, encoders=beside)
        voting = Classifier(remembering, store, tasks, settings.limits)
        shadowing = Shadowing(voting, shadows, metrics, beside)
        stack.push_async_callback(shadowing.settle)
        voting.answered = shadowing.answered
        classifier = Explainer(
            _observed(voting, settings, tasks, encoder.spec, metrics, shared.tracing),
            await open_explanation_store(engine, create=settings.explain_hours > 0),
            settings.explain_hours,
            settings.limits,
            metrics.explanations_dropped,
        )
        stack.push_async_callback(classifier.settle)
        leases = Leases(store, alone=engine.kind == "edge")
        learner = Learner(
            embedder,
            store,
            tasks,
            settings.limits,
            shared.jobs,
            leases,
            shadows,
            # By then another replica has heard of a switch, and its searches from before have ended.
            settle_seconds=0 if engine.kind == "edge" else REFRESH_SECONDS + settings.qdrant_timeout_seconds,
        )
        stack.push_async_callback(learner.close)
        feedback = await open_feedback(engine)
        tasks.also_delete(feedback.delete_task)
        inbox = Inbox(
            feedback,
            store,
            tasks,
            embedder,
            curator,
            learner,
            audit=audit,
            forget=remembering.forget,
            keep_days=settings.feedback_days,
            promote_after=settings.feedback_promote_after,
            count=metrics.feedback,
        )
        stack.push_async_callback(inbox.settle)
        curator.also_delete(inbox.erase_about)
        eraser = Eraser(store, tasks, audit, learner.stop_fits, remembering.forget, system_us, inbox.erase)
        stack.push_async_callback(eraser.settle)
        yield Serving(
            encoder,
            batcher,
            cache,
            store,
            tasks,
            shadows,
            classifier,
            Browser(embedder, store, tasks, settings.limits),
            curator,
            eraser,
            learner,
            inbox,
            leases,
        )


def batcher_of(encoder: Encoder, settings: Settings) -> Batcher:
    """A batcher that keeps the machine's cores busy."""
    if encoder.spec.engine == "torch-cuda":
        return Batcher(encoder, CUDA_BATCH_TOKENS, max_queued_tokens=settings.max_queued_tokens)
    several = encoder.spec.engine.startswith("onnx")  # the others have threads of their own
    workers = (settings.threads or usable_cores()) if several else 1
    return Batcher(encoder, workers=workers, express=several, max_queued_tokens=settings.max_queued_tokens)


def _observed(
    classifier: Classifies,
    settings: Settings,
    tasks: TaskRegistry,
    spec: EncoderSpec,
    metrics: Metrics,
    tracing: Tracing | None,
) -> Classifies:
    """A classifier that abstains where it is to, and that is counted and traced."""
    if settings.on_store_failure == "abstain":
        classifier = AbstainingClassifier(classifier, tasks, spec, lambda error: log_cause(error, "classification"))
    if tracing:
        classifier = tracing.traced(classifier)
    return ObservedClassifier(classifier, metrics)
