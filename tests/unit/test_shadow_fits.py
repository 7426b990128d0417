"""Fits that are tried on live messages before they serve, in a real store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE, EventQuery
from nearvote.classify import Options
from nearvote.erase import Eraser
from nearvote.errors import FitNotFound, InvalidField, NearvoteError, ShadowNotFound, StoreUnavailable, TaskChanged
from nearvote.examples.example import Draft
from nearvote.examples.store import SearchQuery, Selection
from nearvote.learn import learner as module
from nearvote.learn.goal import Goal
from nearvote.learn.jobs import Job, JobState
from nearvote.limits import Limits
from nearvote.shadow import Shadowing
from nearvote.tasks.fits import FITS_KIND
from nearvote.tasks.shadow import Shadow
from nearvote.tasks.shadows import Shadows
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.policy import Policy
from tests.conftest import OpenDesk
from tests.unit.test_learner import ASKED, Failing, Shop, _in_a_metric, _unlearned, same
from tests.unit.test_shadow import Counts

LATE = "swallow flies high over the hills"


class Trial(Shop):
    """A shop whose fits are tried, and whose answers are."""

    def try_answers(self) -> None:
        """From now on answers are told to what tries fits."""
        self.shadows = Shadows(
            self.store,
            self.tasks,
            Limits(),
            audit=self.desk.audit,
            now_us=self.desk.clock.now_us,
            monotonic=self.desk.clock.monotonic,
        )
        self.learner._shadows = self.shadows
        self.tasks._audit = self.desk.audit
        self.counts = Counts()
        self.shadowing = Shadowing(self.classifier, self.shadows, self.counts)
        self.classifier.answered = self.shadowing.answered

    async def fit_beside(self, share: float = 1.0) -> Job:
        """Makes a fit that is tried, to its end."""
        return await self.ended(await self.learner.start_fit("acme", "spam", Goal(), shadow_share=share))

    async def ask(self, *texts: str) -> None:
        """Answers, and returns when all is tried."""
        ids = tuple(f"r{i}" for i in range(len(texts)))
        await self.classifier.classify("acme", texts, ["spam"], Options(request_ids=ids))
        await self.shadowing.settle()

    async def in_slot(self, slot: Slot) -> int:
        """How many examples have a vector in a slot."""
        query = SearchQuery("acme", "spam", np.eye(256, dtype=np.float32)[0], 1_000, slot=slot)
        return len((await self.store.search([query]))[0])

    async def kept(self) -> set[int]:
        """The versions of the fits that can be read."""
        documents = await self.store.documents(FITS_KIND, "acme")
        return {body["version"] for body in documents.values() if "metric" in body}

    async def outdated(self) -> bool:
        """Whether the trial is outdated."""
        shadow = (await self.shadows.read("acme"))["spam"]
        return self.shadows.is_outdated(shadow, await self.tasks.get("acme", "spam"))


@pytest.fixture
async def trial(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Trial]:
    """A shop with examples, whose fits search in their metric."""
    monkeypatch.setattr(module, "fit_corpus", _in_a_metric)
    found = Trial(await open_desk())
    found.try_answers()
    await found.fill()
    yield found
    await found.jobs.close()
    await found.curator.settle()


async def test_a_fit_is_tried_before_it_serves(trial: Trial) -> None:
    """A fit that is tried is counted on live messages while every answer is as before; promoted it serves at once."""
    aloof = Policy(similarity_floor=0.99)
    await trial.tasks.update("acme", replace(await trial.tasks.get("acme", "spam"), policy=aloof))
    before = await trial.say()
    job = await trial.fit_beside()
    assert (job.state, job.fit and job.fit.version) == (JobState.SUCCEEDED, 1)
    assert await trial.serving() == (0, None)
    same(before, await trial.say())
    shadow = (await trial.shadows.read("acme"))["spam"]
    assert (shadow.fit_version, shadow.slot, shadow.share, shadow.policy_version) == (1, Slot.A, 1.0, 2)

    encoded = trial.desk.encoder.encoded_count
    await trial.ask(*ASKED)
    assert trial.desk.encoder.encoded_count == encoded + len(ASKED), "none is embedded again"
    assert trial.counts.outcomes.total() == len(ASKED)
    assert trial.counts.outcomes["spam", "differ"] > 0

    task = await trial.shadows.promote("acme", "spam")
    assert (task.fit_version, task.slot, task.policy_version, task.claimed, task.tried) == (1, Slot.A, 3, None, 0)
    assert await trial.shadows.read("acme") == {}
    said = await trial.say()
    assert max(one.prototype_share for one in said) > 0
    events = (await trial.desk.audit.page("acme", EventQuery(task="spam"), 100)).events
    (started,) = [one.change for one in events if one.change.action is Action.SHADOW_STARTED]
    (promoted,) = [one.change for one in events if one.change.action is Action.SHADOW_PROMOTED]
    assert (started.fit_versions, started.policy_versions) == ((0, 1), (2, 2))
    assert (promoted.fit_versions, promoted.policy_versions) == ((0, 1), (2, 3))


async def test_a_fit_is_more_than_its_policy(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit with the policy that serves says something else by its metric, here one in which most texts are alike."""
    aloof = Policy(similarity_floor=0.99)
    await trial.tasks.update("acme", replace(await trial.tasks.get("acme", "spam"), policy=aloof))
    alike = LinearMetric(np.outer(np.eye(256)[0], np.ones(256)).astype(np.float32))
    monkeypatch.setattr(module, "fit_corpus", lambda *_, **_limits: replace(_unlearned, metric=alike, policy=aloof))
    await trial.fit_beside()
    await trial.ask(*ASKED)
    assert trial.counts.outcomes == {("spam", "agree"): len(ASKED)}, "it is not searched in its metric"
    learned = replace(_unlearned, metric=alike, in_metric=True, policy=aloof)
    monkeypatch.setattr(module, "fit_corpus", lambda *_, **_limits: learned)
    await trial.fit_beside()
    await trial.ask(*ASKED)
    assert trial.counts.outcomes["spam", "differ"] > 0


async def test_what_is_tried_is_what_would_serve(trial: Trial) -> None:
    """The candidate says of each message what the fit says once it serves."""
    await trial.fit()
    await trial.fill(count=10, seed=3)
    await trial.fit_beside()
    task = await trial.tasks.get("acme", "spam")
    candidate = (await trial.shadows.read("acme"))["spam"].candidate(task)
    embedded = await trial.desk.embedder.embed(ASKED)
    tried = [one for (one,) in await trial.classifier.judge("acme", ASKED, embedded, [candidate], Options())]
    await trial.shadows.promote("acme", "spam")
    same(tried, await trial.say())


@pytest.mark.parametrize("fits_before", [0, 1, 2])
async def test_an_example_added_meanwhile_is_found_in_the_candidates_metric(trial: Trial, fits_before: int) -> None:
    """An example that comes during the trial is in the candidate's slot, and found there also after promotion."""
    for _ in range(fits_before):
        await trial.fit()
    await trial.fit_beside()
    shadow = (await trial.shadows.read("acme"))["spam"]
    assert shadow.slot is not None
    assert await trial.in_slot(shadow.slot) == 60
    (saved,) = await trial.curator.create("acme", [Draft("spam", LATE, ("ham",))])
    assert await trial.in_slot(shadow.slot) == 61
    task = await trial.tasks.get("acme", "spam")
    near = f"{LATE} now"
    embedded = await trial.desk.embedder.embed([near])
    ((tried,),) = await trial.classifier.judge("acme", [near], embedded, [shadow.candidate(task)], Options())
    assert tried.neighbors[0].example_id == saved.example.id
    promoted = await trial.shadows.promote("acme", "spam")
    assert promoted.slot is shadow.slot
    assert (await trial.say(texts=[near]))[0].neighbors[0].example_id == saved.example.id


async def test_rolled_back_after_promotion(trial: Trial) -> None:
    """From a fit that was promoted one goes back to what served before the trial, as from any fit."""
    await trial.fit()
    served, policy = await trial.say(), (await trial.tasks.get("acme", "spam")).policy
    job = await trial.fit_beside()
    assert job.fit is not None
    assert (job.fit.version, job.fit.replaced_version, job.fit.replaced_policy) == (2, 1, policy)
    await trial.shadows.promote("acme", "spam")
    assert (await trial.serving())[0] == 2
    assert await trial.learner.roll_back("acme", "spam") == 1
    assert await trial.serving() == (1, Slot.A)
    assert (await trial.tasks.get("acme", "spam")).policy == policy
    same(served, await trial.say())


async def test_going_back_during_a_trial(trial: Trial) -> None:
    """While a fit is tried in the former one's slot one goes back all the same, and the trial is outdated."""
    before = await trial.say()
    for _ in range(2):
        await trial.fit()
    await trial.fit_beside()
    assert await trial.learner.roll_back("acme", "spam") == 1
    assert (await trial.serving())[0] == 1
    assert await trial.outdated()
    with pytest.raises(TaskChanged, match="fit it again"):
        await trial.shadows.promote("acme", "spam")
    assert await trial.learner.roll_back("acme", "spam") == 0
    same(before, await trial.say())


async def test_another_fit_takes_the_slot(trial: Trial) -> None:
    """Once another fit has claimed the slot, even one that fails, the trial is outdated: not tried, not promoted."""
    await trial.fit_beside()
    assert not await trial.outdated()
    trial.store.writes.clear()
    trial.store.fail_at = 3  # after the fit and its claim
    assert (await trial.fit()).state is JobState.FAILED
    trial.store.fail_at = None
    assert await trial.outdated()
    await trial.ask(*ASKED)
    assert not trial.counts.outcomes
    with pytest.raises(TaskChanged, match="another fit has taken its place"):
        await trial.shadows.promote("acme", "spam")
    assert await trial.serving() == (0, None)
    await trial.shadows.stop("acme", "spam")
    assert (await trial.fit()).state is JobState.SUCCEEDED
    assert (await trial.serving())[0] == 3
    assert await trial.kept() == {3}


async def test_a_trial_that_waits_while_its_slot_is_taken(trial: Trial) -> None:
    """A message that waited to be tried is not judged by what another fit writes to the slot."""
    await trial.fit_beside()
    told: list[object] = []
    answered = trial.shadowing.answered
    trial.classifier.answered = told.append
    await trial.classifier.classify("acme", ASKED[:1], ["spam"], Options(request_ids=("r",)))
    task = await trial.tasks.get("acme", "spam")
    await trial.tasks.claim("acme", task, 7)
    answered(told[0])  # type: ignore[arg-type]
    await trial.shadowing.settle()
    assert not trial.counts.outcomes


async def test_a_change_of_the_task_makes_it_outdated(trial: Trial) -> None:
    """A fit is promoted only in place of what it was tried beside."""
    await trial.fit_beside()
    await trial.tasks.update("acme", replace(await trial.tasks.get("acme", "spam"), policy=Policy(k=3)))
    assert await trial.outdated()
    with pytest.raises(TaskChanged, match="fit it again"):
        await trial.shadows.promote("acme", "spam")
    assert await trial.serving() == (0, None)


async def test_a_stopped_trial_lets_go_of_its_fit(trial: Trial) -> None:
    """Stopped, the fit and its claim are let go, and what comes is written to its slot no more."""
    await trial.fit()
    await trial.fit_beside()
    assert await trial.kept() == {1, 2}
    await trial.shadows.stop("acme", "spam")
    task = await trial.tasks.get("acme", "spam")
    assert (task.claimed, task.tried, task.written_slots, task.policy_version) == (None, 0, {Slot.A: 1}, 2)
    assert await trial.kept() == {1}
    with pytest.raises(ShadowNotFound):
        await trial.shadows.promote("acme", "spam")
    await trial.curator.create("acme", [Draft("spam", LATE, ("ham",))])
    assert (await trial.in_slot(Slot.A), await trial.in_slot(Slot.B)) == (61, 60)
    assert (await trial.fit()).state is JobState.SUCCEEDED
    assert await trial.in_slot(Slot.B) == 61


async def test_another_trial_takes_its_place(trial: Trial) -> None:
    """A policy, or another fit, that is tried in a fit's place lets go of it."""
    await trial.fit_beside()
    await trial.fit_beside(0.5)
    assert await trial.kept() == {2}
    shadow = (await trial.shadows.read("acme"))["spam"]
    assert (shadow.fit_version, shadow.share, await trial.outdated()) == (2, 0.5, False)
    await trial.shadows.start("acme", "spam", Policy(k=3), 1.0)
    task = await trial.tasks.get("acme", "spam")
    assert (task.claimed, task.tried, await trial.kept()) == (None, 0, set())
    assert (await trial.shadows.promote("acme", "spam")).fit_version == 0
    await trial.shadows.start("acme", "spam", Policy(k=4), 1.0)
    await trial.fit_beside()
    assert (await trial.shadows.promote("acme", "spam")).fit_version == 3


async def test_a_fit_that_did_no_better_in_its_metric(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that searches the plain vectors takes no slot, is tried and promoted, and goes when it is stopped."""
    monkeypatch.setattr(module, "fit_corpus", lambda *_, **_limits: replace(_unlearned, policy=Policy(k=7)))
    await trial.fit_beside()
    task = await trial.tasks.get("acme", "spam")
    assert (task.claimed, task.tried) == (None, 1)
    await trial.ask(*ASKED)
    assert trial.counts.outcomes.total() == len(ASKED)
    await trial.shadows.stop("acme", "spam")
    assert await trial.kept() == set()
    await trial.fit_beside()
    assert (await trial.shadows.promote("acme", "spam")).policy == Policy(k=7)
    assert await trial.serving() == (2, None)


async def test_promotion_and_stop_at_once(trial: Trial) -> None:
    """Stopped on one replica and promoted on another, it is one of the two: never does a fit serve that was let go."""
    other = Trial(trial.desk)
    other.try_answers()
    for _ in range(3):
        await trial.fit_beside()
        tries = (trial.shadows.promote("acme", "spam"), other.shadows.stop("acme", "spam"))
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert all(isinstance(one, NearvoteError) for one in ended if isinstance(one, BaseException))
        trial.desk.clock.advance(3)
        task = await trial.tasks.get("acme", "spam")
        if task.fit_version:
            assert (await trial.tasks.fits.get("acme", "spam", task.fit_version)).version == task.fit_version
        assert (task.tried, await trial.say() != []) == (0, True)


async def test_a_stop_between_reading_a_trial_and_its_promotion(trial: Trial) -> None:
    """A promotion that has read the trial is refused where another replica stops it before it is made."""
    other = Trial(trial.desk)
    other.try_answers()
    await trial.fit_beside()
    get = trial.tasks.fits.get

    async def stopped_meanwhile(tenant: str, task: str, version: int) -> object:
        fit = await get(tenant, task, version)
        await other.shadows.stop("acme", "spam")
        return fit

    trial.tasks.fits.get = stopped_meanwhile  # type: ignore[assignment, method-assign]
    with pytest.raises(TaskChanged):
        await trial.shadows.promote("acme", "spam")
    assert await trial.serving() == (0, None)


async def test_cut_short_at_any_write(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever write of a fit that is to be tried fails, answers stay, and the next fit and trial are made."""
    before = await trial.say()
    failed = 0
    for fail_at in range(1, 12):
        trial.store.writes.clear()
        trial.store.fail_at = fail_at
        job = await trial.fit_beside()
        trial.store.fail_at = None
        if job.state is JobState.SUCCEEDED:
            break
        failed += 1
        same(before, await trial.say())
        for shadow in (await trial.shadows.read("acme")).values():
            assert not shadow.is_of(await trial.tasks.get("acme", "spam")) or await trial.kept()
    assert failed >= 4, "the fit, its claim, a page, the note, the trial"
    assert (await trial.fit_beside()).state is JobState.SUCCEEDED
    task = await trial.shadows.promote("acme", "spam")
    assert await trial.kept() == {task.fit_version}
    monkeypatch.setattr(module, "fit_corpus", _in_a_metric)
    assert (await trial.fit()).state is JobState.SUCCEEDED


async def test_a_replica_killed_before_the_trial_is_written(trial: Trial) -> None:
    """A fit that its task notes as tried, with no trial written, stands in the way of no fit and no trial."""

    async def killed(*_: object, **_more: object) -> Shadow:
        raise asyncio.CancelledError

    trial.shadows._begin = killed  # type: ignore[method-assign]
    begun = await trial.learner.start_fit("acme", "spam", Goal(), shadow_share=1.0)
    await asyncio.gather(*trial.jobs._running.values(), return_exceptions=True)
    assert begun.state is not JobState.SUCCEEDED
    assert (await trial.tasks.get("acme", "spam")).tried == 1
    again = Trial(trial.desk)
    again.try_answers()
    assert await again.shadows.read("acme") == {}
    assert (await again.fit_beside()).state is JobState.SUCCEEDED
    assert (await again.shadows.promote("acme", "spam")).fit_version == 2
    assert await again.kept() == {2}


async def test_it_goes_with_its_task(trial: Trial) -> None:
    """A deleted task takes the trial and its fit along; one of the same name begins without."""
    await trial.fit()
    await trial.fit_beside()
    await trial.tasks.delete("acme", "spam", force=True)
    assert await trial.store.documents(FITS_KIND, "acme") == {}
    assert await trial.shadows.read("acme") == {}


async def test_examples_that_are_erased_leave_the_candidate(trial: Trial) -> None:
    """Examples of a subject leave the candidate's slot, and the answer names the task whose tried fit may know them."""
    await trial.curator.create("acme", [Draft("spam", LATE, ("ham",), subject="person-1")])
    await trial.fit_beside()
    assert await trial.in_slot(Slot.A) == 61

    async def stopped(_tenant: str, _task: str) -> None:
        """Nothing is under way."""

    desk = trial.desk
    eraser = Eraser(trial.store, trial.tasks, desk.audit, stopped, lambda *_: None, desk.clock.now_us)
    erased = await eraser.delete_selected("acme", Selection(subject="person-1"), SERVICE)
    assert (erased.example_count, erased.fitted_tasks) == (1, ("spam",))
    assert await trial.in_slot(Slot.A) == 60


async def test_the_fits_of_both_are_remembered(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the fit that serves nor the one that is tried is read anew with each message."""
    monkeypatch.setattr(module, "fit_corpus", lambda *_, **_limits: _unlearned)
    await trial.fit()
    monkeypatch.setattr(module, "fit_corpus", _in_a_metric)
    await trial.fit_beside()
    await trial.ask("win")
    read: list[str] = []
    document = trial.desk.store.document

    async def reading(kind: str, tenant: str, name: str) -> object:
        read.append(name)
        return await document(kind, tenant, name)

    monkeypatch.setattr(trial.desk.store, "document", reading)
    for text in ASKED:
        await trial.ask(text)
    assert trial.counts.outcomes.total() == 1 + len(ASKED)
    assert read == []


async def test_a_share_that_cannot_be_right(trial: Trial) -> None:
    """A share below 0, above 1, or that is no number, is refused before anything is learned."""
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidField, match="share"):
            await trial.learner.start_fit("acme", "spam", Goal(), shadow_share=share)
    assert await trial.store.documents(FITS_KIND, "acme") == {}


async def test_a_lost_answer_leaves_the_fit_that_serves(trial: Trial) -> None:
    """Where the write that lets a fit serve was made and its answer lost, the fit is not taken for one that failed."""
    save = trial.tasks._save

    async def lost(*arguments: object) -> object:
        task = await save(*arguments)  # type: ignore[arg-type]
        if task.fit_version:
            raise StoreUnavailable("no answer")
        return task

    trial.tasks._save = lost  # type: ignore[assignment, method-assign]
    assert (await trial.fit()).state is JobState.FAILED
    assert isinstance(trial.store, Failing)
    assert await trial.serving() == (1, Slot.A)
    assert (await trial.learner.fit("acme", "spam")).version == 1
    with pytest.raises(FitNotFound):
        await trial.tasks.fits.get("acme", "spam", 2)
    assert len(await trial.say()) == len(ASKED)
