"""Another encoder, tried on live messages before it is switched to."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import AuditLog, EventQuery
from nearvote.classify import Classification, Classifier, Options
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix, Tokens
from nearvote.errors import CannotReindex, FitNotFound, InvalidField, StoreUnavailable
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.engine import Engine
from nearvote.examples.places import Source
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.learn.switching import Switcher
from nearvote.limits import Limits
from nearvote.reindex.beside import Beside, Coming
from nearvote.reindex.reindexer import Reindexer
from nearvote.shadow import MAX_EMBEDDING, Shadowing, is_drawn
from nearvote.tasks.document import task_from_document, task_to_document
from nearvote.tasks.fit import Fit
from nearvote.tasks.fits import Fits
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadow import Shadow
from nearvote.tasks.shadows import Shadows
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.policy import Policy
from tests.contract import reindexed
from tests.contract.reindexed import NEW, OLD, TASK, LetterEncoder, Shop, example, put, ready, serving, stored

# Nearest to "money for you" with either encoder, and to "see you later", of which it is an anagram, with the new one
# alone.
SAME, OTHER = "more money for you", "retal uoy ees"


class Counts:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.changes: Counter[tuple[str, str, str]] = Counter()

    def shadowed(self, _tenant: str, task: str, outcome: str, count: int) -> None:
        self.outcomes[task, outcome] += count

    def shadow_changed(self, _tenant: str, _task: str, of: str, before: str, after: str) -> None:
        self.changes[of, before, after] += 1


@dataclass(slots=True)
class Replica:
    """A process that answers by the old encoder, and may have the new one."""

    store: QdrantStore
    tasks: TaskRegistry
    shadows: Shadows
    shadowing: Shadowing
    classifier: Classifier
    counts: Counts = field(default_factory=Counts)

    async def ask(self, *texts: str, tasks: Sequence[str] = ("spam",)) -> list[Classification]:
        """Answers, and returns when all is tried."""
        options = Options(request_ids=tuple(f"r{i}" for i in range(len(texts))))
        answers = await self.classifier.classify("acme", texts, tasks, options)
        await self.shadowing.settle()
        return answers

    async def try_fit(self, version: int) -> Shadow:
        """Begins to try a fit that finds in its metric what is found without it."""
        task = await self.tasks.get("acme", "spam", fresh=True)
        metric = LinearMetric(np.eye(OLD.spec.dimension, dtype=np.float32))
        fit = Fit(
            version, metric, in_metric=True, prototypes=None, policy=task.policy, replaced_version=0,
            replaced_policy=task.policy, unfitted_policy=task.policy,
        )  # fmt: skip
        await self.tasks.fits.put("acme", "spam", fit)
        slot = await Switcher(self.store, self.tasks, 0.0).fill("acme", task, metric, version)
        return await self.shadows.start_fit("acme", task, fit, slot, 1.0)


@dataclass(slots=True)
class Scene:
    """A store with an encoder that is ready to be switched to."""

    engine: Engine
    shop: Shop
    reindexer: Reindexer
    audit: AuditLog
    batcher: Batcher

    async def replica(self, ready: Coming, loaded: Coming | None = None) -> Replica:
        store, limits, counts = await serving(self.engine), Limits(), Counts()
        tasks = TaskRegistry(store, limits, audit=self.audit)
        beside = Beside(self.engine, store, limits, ready, loaded or ready)
        shadows = Shadows(store, tasks, limits, audit=self.audit, encoders=beside)
        classifier = Classifier(Embedder(OLD, self.batcher), store, tasks, limits)
        shadowing = Shadowing(classifier, shadows, counts, beside)
        classifier.answered = shadowing.answered
        return Replica(store, tasks, shadows, shadowing, classifier, counts)


@pytest.fixture
async def scene(engine: Engine) -> AsyncIterator[Scene]:
    """A task that calls what is most like "money for you" odd or spam, and the rest ham."""
    await stored(engine, ["money for you", "see you later", "who is there"])
    shop, batcher = Shop(engine), Batcher(OLD)
    reindexer = await shop.reindexer()
    yield Scene(engine, shop, reindexer, AuditLog(await open_audit_store(engine)), batcher)
    await reindexer.close()
    await batcher.close()


@pytest.fixture
async def replica(scene: Scene) -> Replica:
    """The process that embeds again."""
    await (await serving(scene.engine)).put_document("task", "acme", "spam", task_to_document(_sharp()))
    return await scene.replica(lambda: scene.reindexer.ready)


def _sharp() -> Any:
    """The task with a policy that goes by the nearest example in the meaning view."""
    policy = Policy(k=1, surface_weight=0.0, similarity_floor=0.9, margin_floor=0.0)
    return replace(TASK, policy=policy)


async def test_it_is_counted_and_not_told(scene: Scene, replica: Replica) -> None:
    """Agreements and differences of the other encoder are counted; no answer changes, and nothing is embedded twice."""
    before = await replica.ask(SAME, OTHER)
    await ready(scene.reindexer, "letters")
    tried = await replica.shadows.start_encoder("acme", "spam", 1.0)
    assert (tried.encoder and tried.encoder.model, tried.policy) == ("letters", _sharp().policy)
    after = await replica.ask("see you later", OTHER, "see you later")
    assert after[1].predictions == before[1].predictions
    assert after[1].predictions[0].label is None, "the encoder that serves has not seen these words"
    assert replica.counts.outcomes == {("spam", "agree"): 2, ("spam", "differ"): 1}
    assert replica.counts.changes == {("label", "TOO_FAR", "ham"): 1}
    assert scene.shop.aside.embedded == 3
    assert scene.shop.counted.embedded == 4


async def test_tasks_share_what_is_embedded(scene: Scene, replica: Replica) -> None:
    """A message that is tried for several tasks is embedded once, and each task counts the share that it asked for."""
    await replica.store.put_document("task", "acme", "abuse", task_to_document(replace(_sharp(), name="abuse")))
    await ready(scene.reindexer, "letters")
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    await replica.shadows.start_encoder("acme", "abuse", 0.5)
    texts = [f"see you later number {i}" for i in range(20)]
    await replica.ask(*texts, tasks=["abuse", "spam"])
    half = sum(is_drawn(f"r{i}", 0.5) for i in range(20))
    counted = Counter(
        {name: sum(n for (task, _), n in replica.counts.outcomes.items() if task == name) for name in ("spam", "abuse")}
    )
    assert counted == {"spam": 20, "abuse": half}
    assert 0 < half < 20
    assert scene.shop.aside.embedded == 20


async def test_the_task_as_it_would_be(scene: Scene, replica: Replica) -> None:
    """A fitted task is tried as it is after a switch: without its fit, by the policy from before it."""
    unfitted = replace(_sharp().policy, similarity_floor=-1.0)
    fit = Fit(
        1, None, in_metric=False, prototypes=None, policy=_sharp().policy, replaced_version=0,
        replaced_policy=unfitted, unfitted_policy=unfitted,
    )  # fmt: skip
    await Fits(replica.store).put("acme", "spam", fit)
    fitted = replace(_sharp(), fit_version=1)
    await replica.store.put_document("task", "acme", "spam", task_to_document(fitted))
    await ready(scene.reindexer, "letters")
    tried = await replica.shadows.start_encoder("acme", "spam", 1.0)
    assert tried.policy == unfitted
    await replica.ask("xxxxx")
    assert replica.counts.changes[("label", "TOO_FAR", "ham")] + replica.counts.changes["label", "TOO_FAR", "spam"] == 1
    await scene.reindexer.switch()
    after = task_from_document((await (await serving(scene.engine)).documents("task", "acme"))["spam"])
    assert (after.policy, after.fit_version) == (tried.policy, 0)


async def test_what_is_refused(scene: Scene, replica: Replica) -> None:
    """Nothing is tried before it is ready, or for a share that can't be; an encoder is not promoted task by task."""
    with pytest.raises(CannotReindex, match="nearvote reindex --model"):
        await replica.shadows.start_encoder("acme", "spam", 1.0)
    await ready(scene.reindexer, "letters")
    with pytest.raises(InvalidField):
        await replica.shadows.start_encoder("acme", "spam", 0.0)
    elsewhere = await scene.replica(lambda: None, lambda: scene.reindexer.ready)
    with pytest.raises(CannotReindex, match="ask the replica"):
        await elsewhere.shadows.start_encoder("acme", "spam", 1.0)
    assert await replica.shadows.read("acme") == {}
    await replica.shadows.start_encoder("acme", "spam", 1.0, by=Caller(name="ann"))
    with pytest.raises(CannotReindex, match="nearvote reindex --switch"):
        await replica.shadows.promote("acme", "spam")
    await replica.shadows.stop("acme", "spam", by=Caller(name="ann"))
    begun, ended = (await scene.audit.page("acme", EventQuery(actor="ann"), 10)).events
    assert (begun.change.action, begun.change.changed_fields) == (Action.SHADOW_STARTED, ("encoder",))
    assert ended.change.action is Action.SHADOW_STOPPED


async def test_in_place_of_a_fit(scene: Scene, replica: Replica) -> None:
    """Begun in place of a fit's trial, an encoder's lets go of the fit and its claim; and a fit's may follow it."""
    of_fit = await replica.try_fit(1)
    await replica.ask("see you later")
    with pytest.raises(CannotReindex):
        await replica.shadows.start_encoder("acme", "spam", 1.0)
    task = await replica.tasks.get("acme", "spam", fresh=True)
    assert (task.tried, task.claimed) == (1, (Slot.A, 1)), "what is refused takes no place"
    await ready(scene.reindexer, "letters")
    of_encoder = await replica.shadows.start_encoder("acme", "spam", 1.0)
    task = await replica.tasks.get("acme", "spam", fresh=True)
    assert (task.tried, task.claimed) == (0, None)
    with pytest.raises(FitNotFound):
        await replica.tasks.fits.get("acme", "spam", 1)
    outdated = [replica.shadows.is_outdated(one, task) for one in (of_fit, of_encoder)]
    assert outdated == [True, False]
    assert await replica.shadows.read("acme") == {"spam": of_encoder}
    await replica.ask("see you later")
    assert (replica.counts.outcomes, scene.shop.aside.embedded) == ({("spam", "agree"): 2}, 1)

    of_fit = await replica.try_fit(2)
    assert await replica.shadows.read("acme") == {"spam": of_fit}
    await replica.ask("see you later")
    assert (replica.counts.outcomes, scene.shop.aside.embedded) == ({("spam", "agree"): 3}, 1)
    await scene.reindexer.switch()
    now = await serving(scene.engine)
    task = task_from_document((await now.documents("task", "acme"))["spam"])
    assert (task.tried, task.claimed, await now.documents("shadow", "acme")) == (0, None, {})


async def test_replicas(scene: Scene, replica: Replica) -> None:
    """A replica that has loaded the encoder tries the same; one that has not counts what it can't try."""
    await ready(scene.reindexer, "letters")
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    ahead = await scene.replica(lambda: None, lambda: scene.reindexer.ready)
    without = await scene.replica(lambda: None)
    for other, outcome in ((ahead, "agree"), (without, "not_loaded")):
        await other.shadows.read("acme")
        await other.ask("see you later")
        assert other.counts.outcomes == {("spam", outcome): 1}


async def test_cancelled(scene: Scene, replica: Replica) -> None:
    """Cancelled, the trial is outdated and rests; the same encoder begun anew is another trial's."""
    await ready(scene.reindexer, "letters")
    tried = await replica.shadows.start_encoder("acme", "spam", 1.0)
    late = await scene.replica(lambda: scene.reindexer.ready)
    await late.shadows.read("acme")
    await scene.reindexer.cancel()
    task = _sharp()
    await replica.ask("see you later")
    assert replica.counts.outcomes == {("spam", "not_loaded"): 1}, "until it is read again"
    assert (await replica.shadows.read("acme"))["spam"] == tried
    assert replica.shadows.is_outdated(tried, task)
    await ready(scene.reindexer, "letters")
    await late.ask("see you later")
    assert late.counts.outcomes == {("spam", "not_loaded"): 1}, "what it has not read of yet it does not mix up"
    await replica.shadows.read("acme")
    assert replica.shadows.is_outdated(tried, task)
    await replica.ask("see you later")
    assert replica.counts.outcomes.total() == 1
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    await replica.ask("see you later")
    assert replica.counts.outcomes[("spam", "agree")] == 1


async def test_gone_on_with(scene: Scene, replica: Replica) -> None:
    """A reindex that is gone on with brings along what came since, and the trial goes on with it."""
    await ready(scene.reindexer, "letters")
    tried = await replica.shadows.start_encoder("acme", "spam", 1.0)
    await put(replica.store, OLD, [example("a quick brown fox")])
    await replica.ask("a quick brown fox")
    assert replica.counts.outcomes == {("spam", "differ"): 1}, "what is tried has not seen it"
    await ready(scene.reindexer)
    await replica.shadows.read("acme")
    assert not replica.shadows.is_outdated(tried, _sharp())
    await replica.ask("a quick brown fox")
    assert replica.counts.outcomes[("spam", "agree")] == 1


async def test_switched(scene: Scene, replica: Replica) -> None:
    """After the switch the trial of the encoder is over; one of a policy goes on, and neither comes back."""
    await replica.store.put_document("task", "acme", "abuse", task_to_document(replace(_sharp(), name="abuse")))
    await ready(scene.reindexer, "letters")
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    await replica.shadows.start("acme", "abuse", Policy(), 1.0)
    await scene.reindexer.switch()
    assert (await (await serving(scene.engine)).documents("shadow", "acme")).keys() == {"abuse"}
    await replica.ask("see you later")  # of a call that had begun before
    assert replica.counts.outcomes == {("spam", "not_loaded"): 1}
    await ready(scene.reindexer, back=True)
    await scene.reindexer.switch()
    assert (await (await serving(scene.engine)).documents("shadow", "acme")).keys() == {"abuse"}


class HeldEncoder(LetterEncoder):
    """Encodes once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_encode = threading.Event()
        self.may_encode.set()
        self.is_asked = threading.Event()

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        self.is_asked.set()
        assert self.may_encode.wait(60)
        return super().encode(windows, alone=alone)


async def test_let_go_of_meanwhile(scene: Scene, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that is closed while it is tried fails nobody: messages are counted, and the next ones tried."""
    held = HeldEncoder()
    monkeypatch.setitem(reindexed.ENCODERS, "letters", held)
    await ready(scene.reindexer, "letters")
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    held.may_encode.clear()
    held.is_asked.clear()
    answering = asyncio.create_task(replica.ask("see you later"))
    await asyncio.to_thread(held.is_asked.wait, 60)
    closing = asyncio.create_task(scene.reindexer.close())
    (answer,) = await answering
    assert answer.predictions[0].label == "ham"
    assert replica.counts.outcomes == {("spam", "not_loaded"): 1}
    held.may_encode.set()
    await closing
    await ready(scene.reindexer)
    await replica.ask("see you later")
    assert replica.counts.outcomes[("spam", "agree")] == 1


async def test_nothing_half_done_is_tried(scene: Scene, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is begun while examples are still being embedded, nor once another process has let go of them."""
    held = HeldEncoder()
    monkeypatch.setitem(reindexed.ENCODERS, "letters", held)
    held.may_encode.clear()
    await scene.reindexer.start(Source("letters"))
    await asyncio.to_thread(held.is_asked.wait, 60)
    with pytest.raises(CannotReindex, match="no encoder is ready"):
        await replica.shadows.start_encoder("acme", "spam", 1.0)
    held.may_encode.set()
    await scene.reindexer.finished()
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    await (await Shop(scene.engine).reindexer()).cancel()
    with pytest.raises(CannotReindex, match="no encoder is ready"):
        await replica.shadows.start_encoder("acme", "spam", 1.0)


async def test_a_failure_is_nobodys(scene: Scene, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that fails is counted as such while its encoder is there."""
    await ready(scene.reindexer, "letters")
    await replica.shadows.start_encoder("acme", "spam", 1.0)

    async def fails(*_: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr("nearvote.reindex.beside._Desk.judge", fails)
        await replica.ask("see you later")
    await replica.ask("see you later")
    assert replica.counts.outcomes == {("spam", "failed"): 1, ("spam", "agree"): 1}


async def test_policies_do_not_wait_for_an_encoder(
    scene: Scene, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the encoder has no room for is dropped and counted, while policies are tried beside it."""
    held = HeldEncoder()
    monkeypatch.setitem(reindexed.ENCODERS, "letters", held)
    await replica.store.put_document("task", "acme", "abuse", task_to_document(replace(_sharp(), name="abuse")))
    await ready(scene.reindexer, "letters")
    await replica.shadows.start_encoder("acme", "spam", 1.0)
    await replica.shadows.start("acme", "abuse", _sharp().policy, 1.0)
    held.may_encode.clear()
    held.is_asked.clear()
    options = Options(request_ids=("r",))
    await replica.classifier.classify("acme", ["see you later"], ["spam", "abuse"], options)
    await asyncio.to_thread(held.is_asked.wait, 60)
    for _ in range(MAX_EMBEDDING + 3):
        await replica.classifier.classify("acme", ["see you later"], ["spam", "abuse"], options)
    await replica.shadowing._voting.settle()
    assert replica.counts.outcomes[("abuse", "agree")] == MAX_EMBEDDING + 4
    assert replica.counts.outcomes[("spam", "dropped")] == 3
    held.may_encode.set()
    await replica.shadowing.settle()
    assert replica.counts.outcomes[("spam", "agree")] == MAX_EMBEDDING + 1


def test_the_texts_are_what_they_are_said_to_be() -> None:
    """One message is nearest to the same example with both encoders, and the other with the new one alone."""

    def vector(encoder: Any, text: str) -> Matrix:
        return np.asarray(encoder.encode(encoder.tokenize([text]))[0])

    assert float(vector(NEW, OTHER) @ vector(NEW, "see you later")) > 0.99
    assert float(vector(OLD, OTHER) @ vector(OLD, "see you later")) < 0.9
