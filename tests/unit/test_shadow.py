"""Policies that are tried beside those that serve."""

from collections import Counter
from dataclasses import replace

import pytest

from nearvote.access.caller import Caller
from nearvote.audit.event import Action as AuditAction
from nearvote.audit.log import EventQuery
from nearvote.classify import Answered, Classification, Options
from nearvote.errors import InvalidField, InvalidTask, ShadowNotFound, StoreUnavailable, TaskChanged, TaskNotFound
from nearvote.limits import Limits
from nearvote.shadow import MAX_WAITING, Shadowing, is_drawn
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.snapshots import REFRESH_SECONDS
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Action, LabelPolicy, Policy
from tests.conftest import Desk

FAR = Policy(similarity_floor=-1.0, margin_floor=0.0)  # answers where the default policy says TOO_FAR


class Counts:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.changes: Counter[tuple[str, str, str]] = Counter()

    def shadowed(self, _tenant: str, task: str, outcome: str, count: int) -> None:
        self.outcomes[task, outcome] += count

    def shadow_changed(self, _tenant: str, _task: str, of: str, before: str, after: str) -> None:
        self.changes[of, before, after] += 1


class Trial:
    """A desk whose answers are tried."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.counts = Counts()
        self.shadows = Shadows(
            desk.store,
            desk.tasks,
            Limits(),
            audit=desk.audit,
            now_us=desk.clock.now_us,
            monotonic=desk.clock.monotonic,
        )
        self.shadowing = Shadowing(desk.classifier, self.shadows, self.counts)
        desk.classifier.answered = self.shadowing.answered

    async def ask(self, *texts: str, ids: tuple[str, ...] = ()) -> list[Classification]:
        """Answers, and returns when all is tried."""
        options = Options(request_ids=ids or tuple(f"r{i}" for i in range(len(texts))))
        answers = await self.desk.classifier.classify(self.desk.tenant, texts, ["spam"], options)
        await self.shadowing.settle()
        return answers


@pytest.fixture
async def trial(desk: Desk) -> Trial:
    """A task with an example of each label."""
    await desk.add("win a prize", "spam")
    await desk.add("lunch at noon", "ham")
    return Trial(desk)


async def test_what_differs_is_counted_and_not_told(trial: Trial) -> None:
    """Agreements and differences are counted, with how label and action would change; answers are as ever."""
    before = await trial.ask("win a prize now", "unlike anything")
    policy = replace(FAR, labels={"spam": LabelPolicy(block_score=0.1), "ham": LabelPolicy(block_score=0.1)})
    await trial.shadows.start("acme", "spam", policy, 1.0)
    after = await trial.ask("win a prize now", "unlike anything")

    assert [one.predictions for one in after] == [one.predictions for one in before]
    assert [one.predictions[0].label for one in after] == ["spam", None]
    assert trial.counts.outcomes == {("spam", "differ"): 2}
    assert trial.counts.changes[("action", "none", "block")] == 2
    assert sum(count for (of, *_), count in trial.counts.changes.items() if of == "label") == 1
    await trial.shadows.start("acme", "spam", Policy(), 1.0)
    await trial.ask("win a prize now")
    assert trial.counts.outcomes[("spam", "agree")] == 1


async def test_it_votes_on_the_same_vectors(trial: Trial) -> None:
    """No message is embedded again for a trial, also where the policy asks for more neighbours."""
    await trial.shadows.start("acme", "spam", Policy(k=50, surface_weight=1.0), 1.0)
    encoded = trial.desk.encoder.encoded_count
    await trial.ask("win a prize now")
    assert trial.desk.encoder.encoded_count == encoded + 1
    assert sum(trial.counts.outcomes.values()) == 1


async def test_a_share_is_drawn_by_request_id(trial: Trial) -> None:
    """The same request is always tried or never; of many about the share is; without an id none is."""
    ids = [f"request {i}" for i in range(2_000)]
    drawn = [id_ for id_ in ids if is_drawn(id_, 0.25)]
    assert 400 < len(drawn) < 600
    assert set(drawn) <= {id_ for id_ in ids if is_drawn(id_, 0.5)}
    assert not is_drawn("", 1.0)
    assert all(is_drawn(id_, 1.0) for id_ in ids)

    await trial.shadows.start("acme", "spam", Policy(), 0.25)
    other = next(id_ for id_ in ids if not is_drawn(id_, 0.25))
    await trial.ask("win", "lunch", ids=(drawn[0], other))
    assert trial.counts.outcomes == {("spam", "agree"): 1}


async def test_a_failing_trial_is_nobodys_failure(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a trial fails it is counted; the answer was given, and the next call is tried."""
    await trial.shadows.start("acme", "spam", Policy(), 1.0)

    async def fails(*_: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(trial.desk.classifier, "judge", fails)
        (answer,) = await trial.ask("win a prize now")
    assert answer.predictions[0].label == "spam"
    await trial.ask("win a prize now")
    assert trial.counts.outcomes == {("spam", "failed"): 1, ("spam", "agree"): 1}


async def test_what_there_is_no_room_for_is_dropped(trial: Trial) -> None:
    """When as many calls wait as may, further ones are counted and dropped."""
    await trial.shadows.start("acme", "spam", Policy(), 1.0)
    (task,) = [task for task in await trial.desk.tasks.list_all("acme") if task.name == "spam"]
    told: list[Answered] = []
    trial.desk.classifier.answered = told.append
    await trial.ask("win a prize now")
    assert told[0].tasks == (task,)
    for _ in range(MAX_WAITING + 3):  # without a turn of the loop in between
        trial.shadowing.answered(told[0])
    await trial.shadowing.settle()
    assert trial.counts.outcomes == {("spam", "agree"): MAX_WAITING, ("spam", "dropped"): 3}


async def test_another_replica_sees_it_within_the_bound(trial: Trial) -> None:
    """What one replica begins and ends, another tries and lets be, by what it reads behind an answer."""
    other = Trial(trial.desk)
    await other.ask("win a prize now")  # it has read that there is none
    await trial.shadows.start("acme", "spam", Policy(), 1.0)
    for _ in range(2):
        trial.desk.clock.advance(REFRESH_SECONDS + 0.1)
        await other.ask("win a prize now")
    assert other.counts.outcomes == {("spam", "agree"): 1}
    await trial.shadows.stop("acme", "spam")
    trial.desk.clock.advance(REFRESH_SECONDS + 0.1)
    await other.ask("win a prize now")
    tried = other.counts.outcomes.total()
    await other.ask("win a prize now")
    assert other.counts.outcomes.total() == tried


async def test_promotion_is_one_recorded_change(trial: Trial) -> None:
    """A promoted policy serves as the next version of the task, is recorded with who did it, and is tried no more."""
    await trial.shadows.start("acme", "spam", FAR, 1.0)
    task = await trial.shadows.promote("acme", "spam", by=Caller(name="ops"))
    assert (task.policy, task.policy_version) == (FAR, 2)
    assert await trial.desk.tasks.get("acme", "spam") == task
    assert await trial.shadows.read("acme") == {}
    page = await trial.desk.audit.page("acme", EventQuery(task="spam"), 100, None)
    event = next(one for one in page.events if one.change.action is AuditAction.SHADOW_PROMOTED)
    assert (event.actor, event.change.policy_versions) == ("ops", (1, 2))
    assert event.change.changed_fields == ("policy.similarity_floor", "policy.margin_floor")


async def test_what_was_changed_meanwhile_is_not_overwritten(trial: Trial) -> None:
    """Once the task is another, also on another replica, the policy is tried no more, and its promotion is refused."""
    await trial.shadows.start("acme", "spam", FAR, 1.0)
    task = await trial.desk.tasks.get("acme", "spam")
    other = TaskRegistry(trial.desk.store, Limits(), now_us=trial.desk.clock.now_us)
    changed = replace(task, policy=Policy(k=3, abstention_action=Action.REVIEW))
    await other.update("acme", changed)
    with pytest.raises(TaskChanged, match="start it again"):
        await trial.shadows.promote("acme", "spam")
    assert (await trial.desk.tasks.get("acme", "spam")).policy == changed.policy
    await trial.ask("unlike anything")
    assert not trial.counts.outcomes
    assert "spam" in await trial.shadows.read("acme"), "it is there to be seen, and begun again"


async def test_a_promotion_keeps_the_fit_of_another_replica(trial: Trial) -> None:
    """A replica that has not yet read of a fit lets the policy serve with that fit, and not with the one it knows."""
    desk = trial.desk
    task = await desk.tasks.get("acme", "spam")
    other = TaskRegistry(desk.store, Limits(), now_us=desk.clock.now_us)
    async with other.changing("acme"):
        await other.switch("acme", task, policy=task.policy, fit_version=7, slot=Slot.A)
    await Shadows(desk.store, other, Limits()).start("acme", "spam", FAR, 1.0)
    promoted = await trial.shadows.promote("acme", "spam")
    assert (promoted.policy, promoted.fit_version, promoted.slot) == (FAR, 7, Slot.A)


async def test_who_begins_and_ends_a_trial_is_recorded(trial: Trial) -> None:
    """Begin and end of a trial are on record, by whom, with what differs from what serves; none of it is a version."""
    by = Caller(name="ann", address="ipv4:192.0.2.7:1234")
    await trial.shadows.start("acme", "spam", FAR, 1.0, by=by)
    await trial.shadows.stop("acme", "spam", by=by)
    begun, ended = (await trial.desk.audit.page("acme", EventQuery(actor="ann"), 10)).events
    assert (begun.change.action, ended.change.action) == (AuditAction.SHADOW_STARTED, AuditAction.SHADOW_STOPPED)
    assert set(begun.change.changed_fields) == {"policy.similarity_floor", "policy.margin_floor"}
    assert (begun.change.policy_versions, begun.change.task, begun.address) == ((1, 1), "spam", by.address)
    assert ended.change.changed_fields == ()


async def test_a_trial_that_cannot_be_read_stands_in_nobodys_way(trial: Trial) -> None:
    """Where what is stored of a trial can't be read, others are listed and tried; it can be stopped, or begun anew."""
    await trial.shadows.start("acme", "abuse", Policy(k=3), 1.0)
    await trial.desk.store.put_document("shadow", "acme", "spam", {"share": "some"})
    assert set(await trial.shadows.read("acme")) == {"abuse"}
    with pytest.raises(ShadowNotFound):
        await trial.shadows.promote("acme", "spam")
    await trial.shadows.stop("acme", "spam")
    assert set(await trial.desk.store.documents("shadow", "acme")) == {"abuse"}
    await trial.desk.store.put_document("shadow", "acme", "spam", {})
    await trial.shadows.start("acme", "spam", FAR, 1.0)
    assert set(await trial.shadows.read("acme")) == {"abuse", "spam"}


async def test_it_goes_with_its_task(trial: Trial) -> None:
    """A task that is deleted takes the trial along; one of the same name begins without."""
    await trial.shadows.start("acme", "spam", FAR, 1.0)
    await trial.desk.tasks.delete("acme", "spam", force=True)
    assert await trial.shadows.read("acme") == {}


async def test_what_cannot_be_tried_is_refused(trial: Trial) -> None:
    """A share or policy that can't be right, a task that is not there, and ending what was not begun are refused."""
    for share in (0.0, 1.1, float("nan")):
        with pytest.raises(InvalidField):
            await trial.shadows.start("acme", "spam", Policy(), share)
    with pytest.raises(InvalidTask):
        await trial.shadows.start("acme", "spam", Policy(k=0), 0.5)
    with pytest.raises(TaskNotFound):
        await trial.shadows.start("acme", "nope", Policy(), 0.5)
    for change in (trial.shadows.promote, trial.shadows.stop):
        with pytest.raises(ShadowNotFound):
            await change("acme", "spam")
