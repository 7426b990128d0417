"""The record of changes: what it says of each, and that it is written before they are made."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nearvote.access.caller import Caller
from nearvote.audit.event import Action, Change, Event, ExampleChange, ExampleState
from nearvote.audit.log import SERVICE, AuditLog, EventQuery
from nearvote.errors import StoreUnavailable, TaskNotEmpty
from nearvote.examples.audit_store import QdrantAuditStore, open_audit_store
from nearvote.examples.example import Draft, Example
from nearvote.tasks.task import Label, Task
from nearvote.voting.policy import Policy
from tests.conftest import Desk

ANN = Caller(name="ann", address="ipv4:192.0.2.7:1234")
CANARY = "canary in the coal mine"


async def events(desk: Desk, **query: Any) -> list[Event]:
    """Events of the test's tenant."""
    return (await desk.audit.page("acme", EventQuery(**query), 1_000)).events


async def test_examples(desk: Desk) -> None:
    """Adding, changing and deleting an example is recorded with its labels, weight and source before and after."""
    (saved,) = await desk.curator.create("acme", [Draft("spam", CANARY, ("spam",), 1.0, "mail")], by=ANN)
    desk.clock.advance(1)
    changed = Draft("spam", CANARY, ("ham",), 2.0, "review", expires_us=desk.clock.now_us() + 10)
    await desk.curator.create("acme", [changed, Draft("abuse", CANARY, ("none",))], by=ANN)
    await desk.curator.create("acme", [changed], by=ANN)  # nothing changes
    await desk.curator.delete("acme", "spam", saved.example.id, by=Caller(name="bob"))

    before = ExampleState(("spam",), 1.0, "mail")
    after = ExampleState(("ham",), 2.0, "review", changed.expires_us)
    found = (await events(desk))[2:]  # the desk's tasks come first
    assert [(one.actor, one.address, one.change.action, one.change.task) for one in found] == [
        ("ann", ANN.address, Action.EXAMPLES_ADDED, "spam"),
        ("ann", ANN.address, Action.EXAMPLES_ADDED, "abuse"),
        ("ann", ANN.address, Action.EXAMPLES_CHANGED, "spam"),
        ("bob", "", Action.EXAMPLES_DELETED, "spam"),
    ]
    id_ = saved.example.id
    assert found[0].change.examples == (ExampleChange(id_, None, before),)
    assert found[2].change.examples == (ExampleChange(id_, before, after),)
    assert found[3].change.examples == (ExampleChange(id_, after, None),)
    assert [one.change.example_count for one in found] == [1, 1, 1, 1]
    assert "canary" not in str(found), "texts are never recorded"
    assert await events(desk, actor="bob") == found[3:]
    assert await events(desk, start_us=found[1].time_us, end_us=found[3].time_us) == found[1:3]


async def test_tasks(desk: Desk) -> None:
    """Creating, changing, fitting, rolling back and deleting a task is recorded with its versions."""
    task = await desk.tasks.create("acme", Task("mood", (Label("good"), Label("bad"))), by=ANN)
    changed = replace(task, description="how it is", policy=Policy(k=5, margin_floor=0.3))
    task = await desk.tasks.update("acme", changed, by=ANN)
    task = await desk.tasks.switch("acme", task, policy=Policy(), fit_version=1, slot=None, by=ANN)
    back = Action.FIT_ROLLED_BACK
    task = await desk.tasks.switch("acme", task, policy=Policy(), fit_version=0, slot=None, action=back, by=ANN)
    await desk.curator.create("acme", [Draft("mood", CANARY, ("good",))])
    with pytest.raises(TaskNotEmpty):
        await desk.tasks.delete("acme", "mood", force=False, by=ANN)
    await desk.tasks.delete("acme", "mood", force=True, by=ANN)

    found = [one.change for one in await events(desk, task="mood", actor="ann")]
    fields = ("description", "policy.k", "policy.margin_floor")
    assert found == [
        Change(Action.TASK_CREATED, "mood", policy_versions=(0, 1)),
        Change(Action.TASK_UPDATED, "mood", policy_versions=(1, 2), changed_fields=fields),
        Change(Action.TASK_FITTED, "mood", policy_versions=(2, 3), fit_versions=(0, 1), changed_fields=fields[1:]),
        Change(Action.FIT_ROLLED_BACK, "mood", policy_versions=(3, 4), fit_versions=(1, 0)),
        Change(Action.TASK_DELETED, "mood", example_count=1, policy_versions=(4, 0)),
    ]
    assert (await events(desk))[0].actor == SERVICE.name


async def test_large_changes(desk: Desk) -> None:
    """Very many examples make several events, each small enough to be read, and none is lost."""
    changes = [ExampleChange(str(i), None, ExampleState(("spam",), 1.0, "")) for i in range(600)]
    change = Change(Action.EXAMPLES_ADDED, "spam", tuple(changes), example_count=600)
    async with desk.audit.recording("acme", ANN, [change]):
        pass
    found = (await events(desk))[2:]
    assert [one.change.example_count for one in found] == [256, 256, 88]
    assert [own for one in found for own in one.change.examples] == changes


class Watched(QdrantAuditStore):
    """A store of events that fails where it is told to, and can look at what is there when an event comes."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.engine)
        self.fails = False
        self.at_append: Callable[[], Awaitable[None]] | None = None

    async def append(self, events: Sequence[Event]) -> None:
        if self.fails:
            raise StoreUnavailable("it is away")
        if self.at_append:
            await self.at_append()
        await super().append(events)


def watch(desk: Desk) -> Watched:
    """The desk's record, on such a store."""
    watched = Watched(desk)
    desk.audit._store = watched
    return watched


async def test_recorded_before_it_is_made(desk: Desk) -> None:
    """An event is written before its change, so that no change goes without."""
    seen: list[int] = []

    async def look() -> None:
        seen.append((await desk.store.class_sizes("acme", "spam")).total)

    watch(desk).at_append = look
    id_ = await desk.add("hello", "ham")
    await desk.curator.delete("acme", "spam", id_)
    assert seen == [0, 1]


async def test_what_cannot_be_recorded_is_not_made(desk: Desk) -> None:
    """A change whose event can't be written is refused, and nothing of it is made."""
    id_ = await desk.add("hello", "ham")
    watch(desk).fails = True
    refused: list[Awaitable[Any]] = [
        desk.add("another", "ham"),
        desk.add("hello", "spam"),
        desk.curator.delete("acme", "spam", id_),
        desk.tasks.create("acme", Task("new", (Label("a"), Label("b")))),
        desk.tasks.update("acme", replace(await desk.tasks.get("acme", "spam"), description="changed")),
        desk.tasks.delete("acme", "abuse", force=True),
    ]
    for change in refused:
        with pytest.raises(StoreUnavailable):
            await change
    page = await desk.store.list_page("acme", "spam")
    assert [(one.text, one.labels) for one in page.examples] == [("hello", ("ham",))]
    tasks = await desk.tasks.list_all("acme")
    assert [(task.name, task.policy_version) for task in tasks] == [("abuse", 1), ("spam", 1)]


async def test_before_is_what_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who write one text at once the second is recorded as changing what the first wrote."""
    known = desk.curator._known
    other = Draft("spam", "hello", ("spam",), source="other")

    async def overtaken(tenant: str, drafts: Sequence[Draft]) -> dict[str, Example]:
        found = await known(tenant, drafts)
        monkeypatch.setattr(desk.curator, "_known", known)
        await desk.curator.create(tenant, [other], by=Caller(name="bob"))
        return found

    monkeypatch.setattr(desk.curator, "_known", overtaken)
    (saved,) = await desk.curator.create("acme", [Draft("spam", "hello", ("ham",))], by=ANN)
    assert (saved.created, saved.example.labels) == (False, ("ham",))
    added, changed = (await events(desk))[2:]
    assert (added.actor, added.change.action) == ("bob", Action.EXAMPLES_ADDED)
    assert (changed.actor, changed.change.action) == ("ann", Action.EXAMPLES_CHANGED)
    assert changed.change.examples[0].before == added.change.examples[0].after


async def test_what_failed_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that fails after its event was written is followed by an event that says so."""

    async def full(_examples: object) -> None:
        raise StoreUnavailable("no space left")

    monkeypatch.setattr(desk.store, "put", full)
    with pytest.raises(StoreUnavailable):
        await desk.curator.create("acme", [Draft("spam", "hello", ("ham",))], by=ANN)
    intended, failed = (await events(desk))[2:]
    assert (intended.failed_event_id, failed.failed_event_id) == ("", intended.id)
    assert (failed.actor, failed.change.action, failed.change.examples) == ("ann", Action.EXAMPLES_ADDED, ())


async def test_order_and_retention(desk: Desk) -> None:
    """Ids are in the order of writing even where the clock stands still or goes back; old events go, by days."""
    log = AuditLog(await open_audit_store(desk.engine), 2, desk.clock.now_us)
    change = Change(Action.TASK_CREATED, "spam")
    for task in "abc":
        async with log.recording("acme", ANN, [replace(change, task=task)]):
            desk.clock.advance(-1)
    found = await events(desk, actor="ann")
    assert [one.change.task for one in found] == ["a", "b", "c"]
    desk.clock.advance(2 * 86_400)
    await log.prune()
    assert len(await events(desk, actor="ann")) == 3
    desk.clock.advance(10)
    await log.prune()
    assert await events(desk) == []
    await desk.add("hello", "ham")
    desk.clock.advance(9e6)
    await AuditLog(await open_audit_store(desk.engine), 0, desk.clock.now_us).prune()
    assert len(await events(desk)) == 1, "0 days are for ever"
