"""Puts the service together. The only place that names concrete classes."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearvote.abstaining import AbstainingClassifier
from nearvote.access.attempts import Attempts
from nearvote.access.caller import DEFAULT_TENANT
from nearvote.access.exposure import check_exposure
from nearvote.access.gate import Gate
from nearvote.access.key_file import read_keys
from nearvote.access.watched import Watched
from nearvote.audit.log import AuditLog
from nearvote.backup import Contents, back_up, restore, verify, write_backup
from nearvote.browse import Browser
from nearvote.classify import Classifier, Classifies
from nearvote.clock import system_us
from nearvote.curate import Curator
from nearvote.embedding.batcher import CUDA_BATCH_TOKENS, Batcher
from nearvote.embedding.cache import ViewCache
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Encoder, EncoderSpec
from nearvote.embedding.load import load_encoder
from nearvote.embedding.onnx_encoder import usable_cores
from nearvote.embedding.onnx_quantize import Jury, Labelled
from nearvote.erase import Eraser
from nearvote.errors import CannotBackUp
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.explanation_store import open_explanation_store
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import open_store, stored_examples
from nearvote.examples.store import VectorSpace
from nearvote.explain import Explainer
from nearvote.feedback.inbox import Inbox
from nearvote.feedback.store import open_feedback
from nearvote.learn.jobs import Jobs
from nearvote.learn.learner import Learner
from nearvote.learn.others import labels_by_others
from nearvote.observe.metrics import Metrics, ObservedClassifier, ObservedEncoder
from nearvote.observe.store import ObservedEngine
from nearvote.observe.traces import Tracing
from nearvote.reindex import Reindexed, reindex
from nearvote.rpc.certificates import CertificateFiles, ServedCertificate
from nearvote.rpc.status import log_cause
from nearvote.seeding import load_seeds, seed_examples, shipped_seeds
from nearvote.settings import Settings
from nearvote.shadow import Shadowing
from nearvote.tasks.leases import Leases
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.snapshots import REFRESH_SECONDS
from nearvote.text.surface import SURFACE_VERSION

if TYPE_CHECKING:
    import grpc

    from nearvote.examples.engine import Engine

_MIB = 2**20
_COMPARED = 3_000  # examples that two precisions of an encoder are compared by, at most

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in.

    Attributes:
        gate: Tells who calls.
        credentials: The port's; None for one without TLS.
    """

    gate: Gate
    credentials: "grpc.ServerCredentials | None"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running service."""

    encoder: Encoder
    batcher: Batcher
    engine: ObservedEngine
    store: QdrantStore
    tasks: TaskRegistry
    shadows: Shadows
    classifier: Explainer
    browser: Browser
    curator: Curator
    eraser: Eraser
    audit: AuditLog
    learner: Learner
    inbox: Inbox
    metrics: Metrics
    tracing: Tracing | None
    access: Access


def access_of(settings: Settings, metrics: Metrics) -> Access:
    """Reads keys and certificates, and checks that the service may listen where it is told to.

    Raises:
        InvalidSetting: It may not, or one of the files can't be right.
    """
    path, cert, key = settings.api_keys, settings.tls_cert, settings.tls_key
    asks_certificates = settings.tls_client_ca is not None
    if not settings.allow_insecure:
        check_exposure(settings.address, keys=path is not None, tls=cert is not None, certificates=asks_certificates)
    keys = Watched("api_keys", [path], lambda: read_keys(path)) if path is not None else None
    gate = Gate(keys, certificates=asks_certificates, attempts=Attempts(time.monotonic), denied=metrics.denied)
    if cert is None or key is None:
        return Access(gate, None)
    certificate = ServedCertificate(CertificateFiles(cert, key, settings.tls_client_ca))
    metrics.watch_certificate(certificate.not_after)
    return Access(gate, certificate.credentials())


@contextlib.asynccontextmanager
async def parts_of(
    settings: Settings, seed_progress: Progress, *, encoder: Encoder | None = None
) -> AsyncIterator[Parts]:
    """Builds the parts of a service, ready to serve, and takes them apart at the end.

    Args:
        settings: What it was told.
        seed_progress: Told how many seeds are loaded, and how many there are.
        encoder: One that is loaded already; the one that the settings name when None.

    Raises:
        StartupError: It can't start; the message says why and what to do.
        StoreUnavailable: The store did not answer.
    """
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        access = access_of(settings, metrics)
        tracing = Tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if tracing:
            stack.push_async_callback(tracing.close)
        # Early: a folder in use is known at once, a model takes longer to load.
        engine = ObservedEngine(open_engine(settings), metrics.store_failed)
        stack.push_async_callback(engine.close)
        bare = encoder or await _encoder(settings, engine)
        observed = ObservedEncoder(bare, metrics)
        batcher = _batcher(observed, settings)
        stack.push_async_callback(batcher.close)
        metrics.watch_queue(lambda: batcher.depth, lambda: batcher.queued_tokens)
        store = await open_store(engine, _space(observed.spec, settings))
        audit = AuditLog(await open_audit_store(engine), settings.audit_days)
        embedder = Embedder(observed, batcher, html=settings.html)
        cache = ViewCache(settings.embedding_cache_mib * _MIB, metrics.looked_up)
        metrics.watch_cache(lambda: cache.used_bytes)
        # Messages repeat. Examples come once, and would drive out of the cache what repeats.
        remembering = Embedder(observed, batcher, html=settings.html, cache=cache)
        tasks = TaskRegistry(store, settings.limits, audit=audit)
        stack.push_async_callback(tasks.settle)
        curator = Curator(embedder, store, tasks, settings.limits, audit=audit, forget=remembering.forget)
        stack.push_async_callback(curator.settle)
        leases = Leases(store, alone=engine.kind == "edge")
        if settings.seeds:
            folder = settings.seeds_dir or shipped_seeds()
            await load_seeds(folder, DEFAULT_TENANT, store, tasks, curator, leases, seed_progress)
        shadows = Shadows(store, tasks, settings.limits, audit=audit)
        voting = Classifier(remembering, store, tasks, settings.limits)
        shadowing = Shadowing(voting, shadows, metrics)
        stack.push_async_callback(shadowing.settle)
        voting.answered = shadowing.answered
        classifier = Explainer(
            _observed(voting, settings, tasks, bare.spec, metrics, tracing),
            await open_explanation_store(engine, create=settings.explain_hours > 0),
            settings.explain_hours,
            settings.limits,
            metrics.explanations_dropped,
        )
        stack.push_async_callback(classifier.settle)
        jobs = Jobs()
        learner = Learner(
            embedder,
            store,
            tasks,
            settings.limits,
            jobs,
            leases,
            # By then another replica has heard of a switch, and its searches from before have ended.
            settle_seconds=0 if engine.kind == "edge" else REFRESH_SECONDS + settings.qdrant_timeout_seconds,
        )
        stack.push_async_callback(learner.close)
        stack.push_async_callback(jobs.close)  # first: what learns is told to stop
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
        yield Parts(
            bare,
            batcher,
            engine,
            store,
            tasks,
            shadows,
            classifier,
            Browser(embedder, store, tasks, settings.limits),
            curator,
            eraser,
            audit,
            learner,
            inbox,
            metrics,
            tracing,
            access,
        )


def _batcher(encoder: Encoder, settings: Settings) -> Batcher:
    if encoder.spec.engine == "torch-cuda":
        return Batcher(encoder, CUDA_BATCH_TOKENS, max_queued_tokens=settings.max_queued_tokens)
    several = encoder.spec.engine.startswith("onnx")  # the others have threads of their own
    workers = (settings.threads or usable_cores()) if several else 1
    return Batcher(encoder, workers=workers, max_queued_tokens=settings.max_queued_tokens)


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


async def reindex_with(settings: Settings, progress: Progress) -> Reindexed:
    """Embeds all stored examples again with the encoder that the settings name."""
    async with contextlib.AsyncExitStack() as stack:
        engine = open_engine(settings)
        stack.push_async_callback(engine.close)
        encoder = await _encoder(settings, engine)
        batcher = Batcher(encoder)
        stack.push_async_callback(batcher.close)
        embedder = Embedder(encoder, batcher, html=settings.html)
        audit = AuditLog(await open_audit_store(engine))
        return await reindex(engine, embedder, _space(encoder.spec, settings), progress, audit)


async def back_up_to(settings: Settings, output: Path, progress: Progress) -> Contents:
    """Writes everything stored to a file that appears whole or not at all, for its owner alone."""
    if settings.qdrant_url is None and not settings.data_dir.is_dir():
        raise CannotBackUp(f"there is no store in {settings.data_dir}: name it with --data-dir or --qdrant-url")
    engine = open_engine(settings)
    try:
        return await write_backup(output, back_up(engine, progress))
    finally:
        await engine.close()


async def restore_from(settings: Settings, file: Path, progress: Progress, *, replace: bool) -> Contents:
    """Puts a backup into the store that the settings name."""
    with file.open("rb") as backup:
        verify(backup)  # before the store is opened, which may create its folder
        backup.seek(0)
        engine = open_engine(settings)
        try:
            return await restore(engine, backup, replace=replace, progress=progress)
        finally:
            await engine.close()


def open_engine(settings: Settings) -> "Engine":
    """Qdrant Edge in the data folder, or the Qdrant server that the settings name.

    Raises:
        StoreLocked: Another process has the folder open.
    """
    if settings.qdrant_url is None:
        return EdgeEngine(
            settings.data_dir, storage=settings.vector_storage, min_free_bytes=settings.min_free_disk_mib * _MIB
        )
    # Importing qdrant-client takes half a second, so only where it is used.
    from nearvote.examples.server_engine import ServerEngine  # noqa: PLC0415

    key = settings.qdrant_api_key
    return ServerEngine.connect(
        settings.qdrant_url,
        grpc_port=settings.qdrant_grpc_port,
        api_key=key.get_secret_value() if key else None,
        timeout_seconds=settings.qdrant_timeout_seconds,
        storage=settings.vector_storage,
    )


async def _encoder(settings: Settings, engine: "Engine") -> Encoder:
    jury = None
    if settings.precision == "int8":
        stored = await stored_examples(engine, _COMPARED)
        known = stored or seed_examples(settings.seeds_dir or shipped_seeds())
        jury = Jury([Labelled(one.task, one.labels[0], one.text) for one in known], labels_by_others)
    return load_encoder(
        settings.model,
        settings.model_revision,
        settings.device,
        settings.cache_dir,
        settings.threads,
        settings.precision,
        jury,
    )


def _space(spec: EncoderSpec, settings: Settings) -> VectorSpace:
    # The same text read as HTML is another text.
    reading = f"s{SURFACE_VERSION}{'html' if settings.html else ''}"
    return VectorSpace(f"{spec.key}{reading}", spec.dimension, spec.model)
