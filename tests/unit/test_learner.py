"""Fitting a task that serves, in a real store."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearvote.classify import Classifier, Options
from nearvote.curate import Curator
from nearvote.errors import (
    CannotFit,
    FitNotFound,
    FitRunning,
    InvalidExample,
    InvalidField,
    StoreUnavailable,
    TaskChanged,
    TaskNotFound,
    TextTooLong,
    UnknownLabel,
)
from nearvote.examples.example import Draft
from nearvote.examples.store import SearchQuery
from nearvote.learn import learner as module
from nearvote.learn.finding import Finding
from nearvote.learn.fitting import Learned, fit_corpus
from nearvote.learn.goal import Goal, GoalKind, ValidationMessage
from nearvote.learn.jobs import Job, Jobs, JobState
from nearvote.learn.learner import Learner
from nearvote.limits import Limits
from nearvote.tasks.document import Revision
from nearvote.tasks.leases import Leases
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.task import Label, Task
from nearvote.voting.metric import Slot
from nearvote.voting.neighbor import View
from nearvote.voting.policy import Policy
from nearvote.voting.prediction import Prediction, ScoreKind
from tests.conftest import Desk, OpenDesk
from tests.unit.made_up import words

ASKED = ["prize money soon", "lunch with the team", "team prize", "an unladen swallow", "12345", "win"]


class Shop:
    """A desk with a learner, on a store that fails where it is told to."""

    def __init__(self, desk: Desk, limits: Limits | None = None) -> None:
        self.desk = desk
        self.store = Failing(desk.store)
        self.tasks = TaskRegistry(self.store, Limits(), now_us=desk.clock.now_us, monotonic=desk.clock.monotonic)
        self.curator = Curator(desk.embedder, self.store, self.tasks, Limits(), desk.clock.now_us)
        self.classifier = Classifier(desk.embedder, self.store, self.tasks, Limits())
        self.jobs = Jobs(desk.clock.now_us)
        leases = Leases(desk.store, now_us=desk.clock.now_us)
        self.shadows = Shadows(
            self.store, self.tasks, Limits(), now_us=desk.clock.now_us, monotonic=desk.clock.monotonic
        )
        self.learner = Learner(
            desk.embedder, self.store, self.tasks, limits or Limits(), self.jobs, leases, self.shadows
        )

    async def fill(self, task: str = "spam", count: int = 30, seed: int = 0) -> None:
        """Adds examples, mostly told by their words."""
        rng = np.random.default_rng(seed)
        common = words(np.random.default_rng(1), 40)
        by_label = {
            "spam": ["win", "money", "prize", "free", "offer", "soon"],
            "ham": ["lunch", "team", "meeting", "you", "see", "later"],
        }
        drafts = [
            Draft(task, " ".join([*rng.choice(own, 3), *rng.choice(common, 4)]), (label,))
            for label, own in by_label.items()
            for _ in range(count)
        ]
        await self.curator.create("acme", drafts)

    async def fit(
        self, task: str = "spam", goal: Goal | None = None, validation: Sequence[ValidationMessage] = ()
    ) -> Job:
        """Fits a task, to its end."""
        return await self.ended(await self.learner.start_fit("acme", task, goal or Goal(), validation))

    async def ended(self, job: Job) -> Job:
        """A job at its end."""
        await asyncio.gather(*self.jobs._running.values())
        return job

    async def say(self, task: str = "spam", texts: Sequence[str] = ASKED) -> list[Prediction]:
        """What is said of some messages."""
        found = await self.classifier.classify("acme", texts, [task], Options())
        return [one.predictions[0] for one in found]

    async def serving(self, task: str = "spam") -> tuple[int, Slot | None]:
        """Which fit serves, and from which slot."""
        found = await self.tasks.get("acme", task)
        return found.fit_version, found.slot


class Failing:
    """A store whose n-th write from now on fails, and the ones after it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.fail_at: int | None = None
        self.writes: list[str] = []
        self.before_projecting: Callable[[], Any] | None = None
        self.acting: list[asyncio.Task[Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _write(self, what: str) -> None:
        self.writes.append(what)
        if self.fail_at is not None and len(self.writes) >= self.fail_at:
            raise StoreUnavailable("the store did not answer")

    async def project(self, slot: Slot, vectors: Mapping[str, Any]) -> None:
        if self.before_projecting is not None:
            act, self.before_projecting = self.before_projecting, None
            # Beside the fit, as a caller's would be: it waits for the page that is being written.
            self.acting.append(asyncio.create_task(act()))
            await asyncio.sleep(0)
        self._write(f"project {slot.value}")
        await self._inner.project(slot, vectors)

    async def put_document(self, kind: str, tenant: str, name: str, body: Mapping[str, Any]) -> None:
        self._write(f"put {kind}")
        await self._inner.put_document(kind, tenant, name, body)

    async def put_document_if(
        self, kind: str, tenant: str, name: str, body: Mapping[str, Any], revision: Revision | None
    ) -> bool:
        self._write(f"put {kind}")
        done: bool = await self._inner.put_document_if(kind, tenant, name, body, revision)
        return done


def _in_a_metric(*arguments: Any, max_k: int) -> Learned:
    """Learns, and lets the metric serve whether it helps or not."""
    learned = fit_corpus(*arguments, max_k=max_k)
    assert learned.metric is not None
    return Learned(learned.metric, True, learned.prototypes, learned.policy, learned.figures)  # noqa: FBT003


_unlearned = Learned(None, False, None, Policy(), {})  # noqa: FBT003


@pytest.fixture
async def shop(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """A shop whose fits always serve in their metric."""
    monkeypatch.setattr(module, "fit_corpus", _in_a_metric)
    found = Shop(await open_desk())
    yield found
    await found.jobs.close()
    await found.curator.settle()


def same(one: Sequence[Prediction], other: Sequence[Prediction]) -> None:
    """Checks that the same is said, whatever its version."""
    for a, b in zip(one, other, strict=True):
        assert (a.labels, a.abstention_reason, a.score_kind) == (b.labels, b.abstention_reason, b.score_kind)
        assert a.scores == pytest.approx(b.scores, abs=1e-6)
        assert [n.example_id for n in a.neighbors] == [n.example_id for n in b.neighbors]
        assert a.top_similarity == pytest.approx(b.top_similarity, abs=1e-6)


async def test_a_fit_serves(shop: Shop) -> None:
    """A fit brings its policy, its prototypes and its slot; what it reached comes with the job."""
    await shop.fill()
    before = await shop.say()
    with pytest.raises(FitNotFound, match="nearvote fit --task spam"):
        await shop.learner.fit("acme", "spam")
    job = await shop.fit()
    assert (job.state, job.progress, job.error) == (JobState.SUCCEEDED, 1.0, None)
    assert job.fit is not None
    assert job is shop.learner.job("acme", job.id)
    assert (job.fit.version, job.fit.replaced_version, job.fit.replaced_policy) == (1, 0, Policy())
    assert job.fit.figures["example_count"] == 60
    task = await shop.tasks.get("acme", "spam")
    assert (task.fit_version, task.slot, task.policy, task.policy_version) == (1, Slot.A, job.fit.policy, 2)
    after = await shop.say()
    assert {one.score_kind for one in before} == {ScoreKind.VOTE_SHARE}
    assert {one.score_kind for one in after} == {ScoreKind.PROBABILITY}
    assert max(one.prototype_share for one in after) > 0
    assert [one.label for one in after[:2]] == ["spam", "ham"]
    assert (await shop.learner.fit("acme", "spam")).version == 1


async def test_fits_take_turns_and_are_gone_back_from(shop: Shop) -> None:
    """A second fit uses the other slot; rolled back, first one and then the plain metric say what they said before."""
    await shop.fill()
    plain = await shop.say()
    await shop.fit()
    first = await shop.say()
    await shop.fill(seed=7, count=20)
    with_more = await shop.say()
    job = await shop.fit(goal=Goal(GoalKind.TARGET_PRECISION, 0.9))
    assert job.fit is not None
    assert (job.fit.version, job.fit.replaced_version) == (2, 1)
    assert await shop.serving() == (2, Slot.B)
    assert [n.example_id for n in with_more[0].neighbors] != [n.example_id for n in first[0].neighbors]
    assert await shop.learner.roll_back("acme", "spam") == 1
    assert await shop.serving() == (1, Slot.A)
    same(with_more, await shop.say())
    assert await shop.learner.roll_back("acme", "spam") == 0
    assert await shop.serving() == (0, None)
    assert (await shop.tasks.get("acme", "spam")).policy == Policy()
    assert {one.score_kind for one in await shop.say()} == {one.score_kind for one in plain}
    with pytest.raises(FitNotFound):
        await shop.learner.roll_back("acme", "spam")
    again = await shop.fit()
    assert again.fit is not None
    assert again.fit.version == 3, "no version is given twice while its fit is kept"


async def test_rolled_back_at_once(shop: Shop) -> None:
    """Gone back from without any change in between, the plain task says to the last digit what it said."""
    await shop.fill()
    plain = await shop.say()
    await shop.fit()
    await shop.learner.roll_back("acme", "spam")
    for one, other in zip(plain, await shop.say(), strict=True):
        assert (one.scores, one.neighbors, one.labels) == (other.scores, other.neighbors, other.labels)


async def test_an_example_added_after_a_fit(shop: Shop) -> None:
    """An example that is added after a fit is in its slot, and counts in the next prediction."""
    await shop.fill()
    await shop.fit()
    (before,) = await shop.say(texts=["swallow flies"])
    (saved,) = await shop.curator.create("acme", [Draft("spam", "swallow flies high", ("spam",))])
    (after,) = await shop.say(texts=["swallow flies"])
    assert after.scores["spam"] > before.scores["spam"]
    assert saved.example.id in {n.example_id for n in after.neighbors if n.view is View.MEANING}
    (itself,) = await shop.say(texts=["swallow flies high"])
    assert (itself.label, itself.score) == ("spam", 1.0)


async def test_examples_added_while_a_fit_is_written(shop: Shop) -> None:
    """Examples that come while vectors are written are in the new slot as well when it serves."""
    await shop.fill()
    ids = []

    async def add() -> None:
        saved = await shop.curator.create("acme", [Draft("spam", "swallow flies high", ("ham",))])
        ids.append(saved[0].example.id)

    shop.store.before_projecting = add
    for slot in (Slot.A, Slot.B):
        assert (await shop.fit()).state is JobState.SUCCEEDED
        assert await shop.serving() == ((1, Slot.A) if slot is Slot.A else (2, Slot.B))
        (vectors,) = (await shop.desk.embedder.embed(["swallow flies high"])).windows
        metric = (await shop.learner.fit("acme", "spam")).metric
        assert metric is not None
        (found,) = await shop.store.search([SearchQuery("acme", "spam", metric.project(vectors)[0], 500, slot=slot)])
        assert len(found) == (await shop.tasks.class_sizes("acme", "spam")).total, "each example is in the slot"
        assert found[0].example_id == ids[0]
        assert found[0].similarity == pytest.approx(1.0, abs=1e-3)


async def test_examples_added_after_the_last_page(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that comes when all vectors are written, and before the fit serves, is in its slot as well."""
    await shop.fill()
    switcher = shop.learner._switcher
    project = switcher._project

    async def then_add(*arguments: Any) -> None:
        monkeypatch.setattr(switcher, "_project", project)
        await project(*arguments)
        await shop.curator.create("acme", [Draft("spam", "swallow flies high", ("ham",))])

    monkeypatch.setattr(switcher, "_project", then_add)
    assert (await shop.fit()).state is JobState.SUCCEEDED
    (found,) = await shop.store.search(
        [SearchQuery("acme", "spam", np.eye(256, dtype=np.float32)[0], 500, slot=Slot.A)]
    )
    assert len(found) == (await shop.tasks.class_sizes("acme", "spam")).total


async def test_examples_added_during_a_fit_are_newer(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a fit learns is newer than the fit: its prototypes have not seen it."""
    await shop.fill()
    times = []

    async def add_meanwhile(*_: Any) -> int:
        shop.desk.clock.advance(1)
        (saved,) = await shop.curator.create("acme", [Draft("spam", "swallow flies high", ("ham",))])
        times.append(saved.example.updated_us)
        return 1

    monkeypatch.setattr(shop.learner, "_next_version", add_meanwhile)
    assert (await shop.fit()).state is JobState.SUCCEEDED
    fit = await shop.learner.fit("acme", "spam")
    assert 0 < fit.created_us < times[0]


async def test_what_was_gone_back_from_is_let_go(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that was gone back from is emptied by the next one, and nobody else gets its version."""
    monkeypatch.setattr(module, "fit_corpus", lambda *_, **_limits: _unlearned)
    await shop.fill(count=2)
    await shop.fit()
    versions = []
    for _ in range(3):
        await shop.fit()
        versions.append((await shop.serving())[0])
        await shop.learner.roll_back("acme", "spam")
    assert versions == [2, 3, 4]
    for gone in (2, 3):
        with pytest.raises(FitNotFound):
            await shop.tasks.fits.get("acme", "spam", gone)
    assert (await shop.tasks.fits.get("acme", "spam", 1)).version == 1


async def test_a_refused_switch_leaves_no_fit(shop: Shop) -> None:
    """A fit that came too late, since the task was changed, is not kept."""
    await shop.fill()
    task = await shop.tasks.get("acme", "spam")

    async def change() -> None:
        await shop.tasks.update("acme", replace(task, policy=Policy(k=3)))

    shop.store.before_projecting = change
    job = await shop.fit()
    assert (job.state, type(job.error)) == (JobState.FAILED, TaskChanged)
    with pytest.raises(FitNotFound):
        await shop.tasks.fits.get("acme", "spam", 1)


async def test_a_fit_that_waits_is_cancelled_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that waits for another is cancelled, and examples are checked, without waiting for the other's end."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **_limits: Any) -> Learned:
        begun.set()
        assert go_on.wait(20)
        return _unlearned

    monkeypatch.setattr(module, "fit_corpus", slow)
    await shop.fill(count=3)
    await shop.tasks.create("acme", Task("twin", (Label("spam"), Label("ham"))))
    await shop.fill("twin", count=3)
    first = await shop.learner.start_fit("acme", "spam", Goal())
    assert await asyncio.to_thread(begun.wait, 20)
    second = await shop.learner.start_fit("acme", "twin", Goal())
    await shop.learner.check("acme", "spam")
    assert (await shop.learner.cancel("acme", second.id)).state is JobState.CANCELLED
    assert first.state is JobState.RUNNING
    go_on.set()
    assert (await shop.ended(first)).state is JobState.SUCCEEDED


async def test_no_more_neighbours_than_the_service_takes(open_desk: OpenDesk) -> None:
    """A fit chooses no k that the service would refuse."""
    shop = Shop(await open_desk(), Limits(max_k=7))
    await shop.fill()
    assert (await shop.fit()).state is JobState.SUCCEEDED
    assert (await shop.tasks.get("acme", "spam")).policy.k <= 7
    await shop.jobs.close()
    await shop.curator.settle()


async def test_what_fails_leaves_what_served(shop: Shop) -> None:
    """Whichever write fails, the former fit serves on with the same answers, and the next fit succeeds."""
    await shop.fill()
    await shop.fit()
    shop.store.writes.clear()
    await shop.fit()
    needed = list(shop.store.writes)
    assert needed == ["put fit", "put task", "project metric_b", "put task"], "else there are other places to fail"
    for place in range(1, len(needed) + 1):
        serving, before = await shop.serving(), await shop.say()
        shop.store.writes.clear()
        shop.store.fail_at = place
        job = await shop.fit()
        shop.store.fail_at = None
        assert (job.state, type(job.error)) == (JobState.FAILED, StoreUnavailable)
        assert await shop.serving() == serving
        same(before, await shop.say())
        good = await shop.fit()
        assert good.state is JobState.SUCCEEDED
        assert good.fit is not None
        assert good.fit.replaced_version == serving[0]
        assert (await shop.serving())[1] is (serving[1].other if serving[1] else None)
        assert await shop.learner.roll_back("acme", "spam") == serving[0]
        same(before, await shop.say())


@pytest.mark.parametrize("further_back", [False, True])
async def test_a_rollback_that_fails(shop: Shop, *, further_back: bool) -> None:
    """When a rollback can't be written the present fit serves on; the last fit's vectors are still in their slot."""
    await shop.fill()
    for _ in range(3):
        await shop.fit()
    if further_back:
        await shop.learner.roll_back("acme", "spam")
    serving, before = await shop.serving(), await shop.say()
    needed = ["put task", "project metric_a", "put task"] if further_back else ["put task"]
    for place in range(1, len(needed) + 1):
        shop.store.writes.clear()
        shop.store.fail_at = place
        with pytest.raises(StoreUnavailable):
            await shop.learner.roll_back("acme", "spam")
        shop.store.fail_at = None
        assert shop.store.writes == needed[:place]
        assert await shop.serving() == serving
        same(before, await shop.say())
    assert await shop.learner.roll_back("acme", "spam") == serving[0] - 1


async def test_tasks_with_the_same_texts(shop: Shop) -> None:
    """One task's fit leaves another one alone that has the same examples."""
    await shop.tasks.create("acme", Task("twin", (Label("spam"), Label("ham"))))
    await shop.fill("spam")
    await shop.fill("twin")
    before = await shop.say("twin")
    await shop.fit("spam")
    same(before, await shop.say("twin"))
    with pytest.raises(FitNotFound):
        await shop.learner.fit("acme", "twin")
    await shop.fit("twin")
    spam = await shop.say("spam")
    await shop.learner.roll_back("acme", "twin")
    same(before, await shop.say("twin"))
    same(spam, await shop.say("spam"))


async def test_one_fit_at_a_time(shop: Shop) -> None:
    """A task that is being fitted is not fitted a second time; cancelled, what served serves on."""
    await shop.fill()
    await shop.fit()
    before, serving = await shop.say(), await shop.serving()
    job = await shop.learner.start_fit("acme", "spam", Goal())
    with pytest.raises(FitRunning):
        await shop.learner.start_fit("acme", "spam", Goal())
    cancelled = await shop.learner.cancel("acme", job.id)
    assert (cancelled.state, cancelled.fit) == (JobState.CANCELLED, None)
    assert await shop.serving() == serving
    same(before, await shop.say())
    assert (await shop.fit()).state is JobState.SUCCEEDED


async def test_labels_that_change_meanwhile(shop: Shop) -> None:
    """A fit of labels that are no longer the task's never comes to serve, and says what to do."""
    await shop.fill()

    task = await shop.tasks.get("acme", "spam")

    async def change() -> None:
        await shop.tasks.update("acme", replace(task, labels=(*task.labels, Label("new"))))

    shop.store.before_projecting = change
    job = await shop.fit()
    assert job.state is JobState.FAILED
    assert "fit it again" in str(job.error)
    assert await shop.serving() == (0, None)
    assert (await shop.fit()).state is JobState.SUCCEEDED


async def test_a_task_deleted_meanwhile(shop: Shop) -> None:
    """A fit of a task that is deleted meanwhile fails and brings nothing back."""
    await shop.fill()

    async def delete() -> None:
        await shop.tasks.delete("acme", "spam", force=True)

    shop.store.before_projecting = delete
    job = await shop.fit()
    assert (job.state, job.fit) == (JobState.FAILED, None)
    with pytest.raises(TaskNotFound):
        await shop.tasks.get("acme", "spam")


async def test_an_example_deleted_meanwhile(shop: Shop) -> None:
    """A fit serves although an example is deleted while vectors are written."""
    await shop.fill()
    (saved,) = await shop.curator.create("acme", [Draft("spam", "swallow flies high", ("ham",))])

    async def delete() -> None:
        await shop.curator.delete("acme", "spam", saved.example.id)

    shop.store.before_projecting = delete
    job = await shop.fit()
    assert (job.state, str(job.error)) == (JobState.SUCCEEDED, "None")


async def test_old_fits_are_let_go(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last five fits can be gone back to; older ones are not kept."""
    monkeypatch.setattr(module, "fit_corpus", lambda *_, **_limits: _unlearned)
    await shop.fill(count=2)
    for _ in range(7):
        assert (await shop.fit()).state is JobState.SUCCEEDED
    kept = []
    for version in range(1, 8):
        try:
            kept.append((await shop.tasks.fits.get("acme", "spam", version)).version)
        except FitNotFound:
            continue
    assert kept == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("goal", "validation", "error", "field"),
    [
        (Goal(GoalKind.TARGET_PRECISION, 0), (), InvalidField, "goal.target_precision"),
        (Goal(GoalKind.TARGET_PRECISION, 1.01), (), InvalidField, "goal.target_precision"),
        (Goal(GoalKind.TARGET_RECALL, -1), (), InvalidField, "goal.target_recall"),
        (Goal(GoalKind.MAX_FALSE_POSITIVES, -1), (), InvalidField, "goal.max_false_positives"),
        (Goal(GoalKind.MAX_FALSE_POSITIVES, 1001), (), InvalidField, "goal.max_false_positives"),
        (Goal(GoalKind.TARGET_RECALL, float("nan")), (), InvalidField, "goal.target_recall"),
        (Goal(), (("a", ()), ("b", ("nope",))), UnknownLabel, "validation_messages[1].labels[0]"),
        (Goal(), (("a", ("spam", "ham")),), InvalidExample, "validation_messages[0].labels"),
        (Goal(), (("a" * 70_000, ()),), TextTooLong, "validation_messages[0].text"),
    ],
)
async def test_refused(
    shop: Shop, goal: Goal, validation: Sequence[tuple[str, tuple[str, ...]]], error: type[Exception], field: str
) -> None:
    """What can't be right is refused by its field's name before anything begins."""
    messages = [ValidationMessage(text, labels) for text, labels in validation]
    with pytest.raises(error) as caught:
        await shop.learner.start_fit("acme", "spam", goal, messages)
    assert getattr(caught.value, "field", None) == field
    with pytest.raises(TaskNotFound):
        await shop.learner.start_fit("acme", "nope", Goal())
    with pytest.raises(TaskNotFound):
        await shop.learner.start_fit("other", "spam", Goal())


async def test_nothing_to_learn_from(shop: Shop) -> None:
    """A task without examples, or of one label alone, or messages without text: the job says what is missing."""
    job = await shop.fit()
    assert (job.state, type(job.error)) == (JobState.FAILED, CannotFit)
    assert "no examples" in str(job.error)
    await shop.curator.create("acme", [Draft("spam", f"win {i}", ("spam",)) for i in range(30)])
    job = await shop.fit()
    assert "same label" in str(job.error)
    await shop.fill()
    job = await shop.fit(validation=[ValidationMessage("", ("spam",)), ValidationMessage("\u200b", ())])
    assert "anything to read" in str(job.error)


async def test_validation_messages_are_judged(shop: Shop) -> None:
    """Messages that are given are judged instead of the examples; those without text are left out."""
    await shop.fill()
    messages = [ValidationMessage(f"win prize {i}", ("spam",)) for i in range(15)]
    messages += [ValidationMessage(f"lunch {i} later", ("ham",)) for i in range(15)]
    messages += [ValidationMessage("", ("ham",)), ValidationMessage("swallow", ())]
    job = await shop.fit(validation=messages)
    assert job.fit is not None
    assert job.fit.figures["judged_count"] == 31
    assert job.fit.figures["accuracy"] > 0.9


async def test_doubtful_examples_of_a_task(shop: Shop) -> None:
    """What is doubtful is looked for among the examples of one task."""
    await shop.fill()
    await shop.curator.create("acme", [Draft("spam", text, ("spam",)) for text in ("one more", "One  more")])
    found = await shop.learner.check("acme", "spam")
    assert {found[0].text, found[0].other_text} == {"One  more", "one more"}
    assert await shop.learner.check("acme", "abuse") != found
    with pytest.raises(TaskNotFound):
        await shop.learner.check("acme", "nope")


async def test_messages_go_before_what_learns(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What learns does so in threads that are less urgent than the one that answers."""
    niceness = []

    def noted(*_: object) -> list[Finding]:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return []

    monkeypatch.setattr(module, "check_examples", noted)
    await shop.fill()
    await shop.learner.check("acme", "spam")
    assert niceness > [os.getpriority(os.PRIO_PROCESS, os.getpid())]


async def test_scipy_is_not_loaded_by_the_least_urgent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts are loaded before a thread that gives way needs them: that would hold the interpreter and wait."""
    loaded_at: list[int] = []

    def load() -> None:
        loaded_at.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    monkeypatch.setattr(module, "load_scipy", load)
    await shop.fill()
    await shop.fit()
    assert set(loaded_at) == {os.getpriority(os.PRIO_PROCESS, os.getpid())}
