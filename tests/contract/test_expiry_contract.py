"""Examples that end, and those that are deleted by whose they are: one suite for every store."""

from dataclasses import replace

import pytest

from nearvote.audit.event import Action, Change, Event, ExampleChange, ExampleState
from nearvote.audit.log import EventQuery, first_id
from nearvote.examples.audit_store import QdrantAuditStore, open_audit_store
from nearvote.examples.engine import Engine
from nearvote.examples.example import Example
from nearvote.examples.explanation_store import StoredExplanation, open_explanation_store
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import create_space
from nearvote.examples.store import Selection
from nearvote.voting.ballot import ClassSizes
from tests.conftest import FakeClock
from tests.contract.conftest import SPACE
from tests.contract.test_store_contract import at, example, nearest_to, seen, texts_found

END = 2_000_000_000  # in microseconds; the clock begins before it


@pytest.fixture
async def store(engine: Engine, clock: FakeClock) -> QdrantStore:
    """A store by the test's own clock."""
    return await create_space(engine, SPACE, clock.now_us)


def ending(text: str, expires_us: int | None = END, *, subject: str = "", source: str = "") -> Example:
    """An example that ends."""
    return replace(example(text, "spam", source=source), expires_us=expires_us, subject=subject)


async def pages(store: QdrantStore, selection: Selection) -> list[Example]:
    """All of a selection."""
    return [one async for page in store.select("acme", selection) for one in page]


async def test_what_has_ended_is_not_there(store: QdrantStore, clock: FakeClock) -> None:
    """From its end on an example is not found, got, listed, counted or read, though nothing has deleted it yet."""
    stays, goes, later = ending("stays", None), ending("goes"), ending("later", END + 5)
    await store.put([seen(stays, at(40)), seen(goes, at(0, 5)), seen(later, at(60))])
    assert await texts_found(store, nearest_to(0)) == ["goes", "stays", "later"]
    assert await store.next_end("acme", "spam") == END
    assert await store.class_sizes("acme", "spam") == ClassSizes(3, {"spam": 3})

    clock.advance(1_000 - 0.000_001)
    assert await texts_found(store, nearest_to(0, limit=1)) == ["goes"], "not before its end"
    clock.advance(0.000_001)
    assert clock.now_us() == END
    assert await texts_found(store, nearest_to(0, limit=1)) == ["stays"], "others take its place"
    assert await texts_found(store, nearest_to(0)) == ["stays", "later"]
    ids = [stays.id, goes.id, later.id]
    assert (await store.get("acme", "spam", ids)).keys() == {stays.id, later.id}
    assert (await store.same("acme", ids)).keys() == {stays.id, later.id}
    assert {one.id for one in (await store.list_page("acme", "spam")).examples} == {stays.id, later.id}
    assert await store.class_sizes("acme", "spam") == ClassSizes(2, {"spam": 2})
    windows = [window async for page in store.windows("acme", "spam") for window in page]
    assert {window.example_id for window in windows} == {stays.id, later.id}
    assert await store.next_end("acme", "spam") == END + 5
    assert await pages(store, Selection(expired_us=END)) == [goes]


async def test_many_ended_neighbours(store: QdrantStore, clock: FakeClock) -> None:
    """However many of the nearest have ended, the nearest that have not are found."""
    await store.put([seen(ending(f"gone {i}"), at(i / 10)) for i in range(60)])
    await store.put([seen(ending("there", None), at(30)), seen(ending("further", None), at(50))])
    clock.advance(2_000)
    assert await texts_found(store, nearest_to(0, limit=2)) == ["there", "further"]


async def test_an_end_is_changed(store: QdrantStore, clock: FakeClock) -> None:
    """An end and a subject can be set and taken away."""
    first = ending("a", subject="person-1")
    await store.put([seen(first, at(0, 10))])
    endless = replace(first, expires_us=None, subject="")
    await store.annotate([endless])
    clock.advance(5_000)
    assert await store.get("acme", "spam", [first.id]) == {first.id: endless}
    assert await store.next_end("acme", "spam") is None
    assert await pages(store, Selection(subject="person-1")) == []
    await store.annotate([first])
    assert await store.get("acme", "spam", [first.id]) == {}
    assert await pages(store, Selection(subject="person-1")) == [first]


async def test_delete_selected(store: QdrantStore, engine: Engine, clock: FakeClock) -> None:
    """A selection is deleted with all windows, also what has ended, and nobody else's."""
    mine, ended = ending("mine", None, subject="p", source="s"), ending("ended", subject="p")
    others = [ending("other", None, subject="q"), replace(example("mine", tenant="other"), subject="p")]
    elsewhere = replace(example("mine", task="abuse", source="s"), subject="p")
    await store.put([seen(one, at(0, 10, 20)) for one in (mine, ended, elsewhere, *others)])
    clock.advance(5_000)
    assert {one.id for one in await pages(store, Selection(subject="p"))} == {mine.id, ended.id, elsewhere.id}
    assert await pages(store, Selection(task="spam", source="s", subject="p")) == [mine]
    assert await store.ended(clock.now_us()) == {"acme": 3}

    await store.delete_selected("acme", Selection(task="spam", subject="p"), [mine.id, others[0].id, elsewhere.id])
    left = {one.id for one in await pages(store, Selection(subject="p"))}
    assert left == {ended.id, elsewhere.id}, "those of the ids, and of the selection"
    await store.delete_selected("acme", Selection(task="spam", subject="p"), [ended.id])
    assert await pages(store, Selection(subject="p")) == [elsewhere]
    await store.delete_selected("acme", Selection(source="s"), [])
    assert await pages(store, Selection(subject="p")) == [elsewhere]
    await store.delete_selected("acme", Selection(source="s"), [elsewhere.id])
    assert await engine.count(f"nearvote_examples_{SPACE.key}", {}) == 6, "two of three windows stay"
    assert await store.get("other", "spam", [others[1].id])
    assert await store.ended(clock.now_us()) == {}


CHANGE = Change(
    Action.EXAMPLES_CHANGED,
    "spam",
    (ExampleChange("id", ExampleState(("ham",), 1.0, ""), ExampleState(("spam",), 2.5, "mail", END)),),
    example_count=1,
)


def event(time_us: int, actor: str = "ann", task: str = "spam", tenant: str = "acme") -> Event:
    """An event."""
    return Event(first_id(time_us), tenant, time_us, actor, "ipv4:192.0.2.1:5", replace(CHANGE, task=task))


async def every(audit: QdrantAuditStore, query: EventQuery, limit: int = 2) -> list[Event]:
    """All events of a query, page by page."""
    found, from_id = [], None
    while True:
        page = await audit.page("acme", query, limit, from_id)
        found += page.events
        from_id = page.next_id
        if from_id is None:
            return found


async def test_events_by_time(engine: Engine) -> None:
    """Events come back as they were written, in the order of time, a tenant's own, and those asked for."""
    audit = await open_audit_store(engine)
    events = [event(time_us) for time_us in (5, 10**15, 10**15 + 1, 1_800_000_000_000_000)]
    events.append(event(10**15 + 2, actor="bob", task="abuse"))
    await audit.append([*events[::-1], event(7, tenant="other")])
    ordered = sorted(events, key=lambda one: one.time_us)
    assert await every(audit, EventQuery()) == ordered
    assert await every(audit, EventQuery(start_us=10**15, end_us=10**15 + 2)) == ordered[1:3]
    assert await every(audit, EventQuery(actor="bob")) == await every(audit, EventQuery(task="abuse")) == [events[-1]]
    await audit.append([])
    await (await open_audit_store(engine)).prune(10**15 + 1)
    assert await every(audit, EventQuery()) == ordered[2:]


async def test_explanations(engine: Engine) -> None:
    """An explanation is its tenant's, the last of an id counts, and it goes at its end."""
    assert await open_explanation_store(engine, create=False) is None
    store = await open_explanation_store(engine, create=True)
    assert store is not None
    kept = [StoredExplanation("acme", "r", 1, 10, "{}"), StoredExplanation("acme", "s", 2, 20, "[1]")]
    await store.put([*kept, StoredExplanation("other", "r", 3, 30, "")])
    await store.put([replace(kept[0], body="again")])
    assert await store.get("acme", "r") == replace(kept[0], body="again")
    assert await store.get("acme", "unknown") is None
    await store.prune(10)
    assert (await store.get("acme", "r"), await store.get("acme", "s")) == (None, kept[1])
    assert await open_explanation_store(engine, create=False) is not None


async def test_flush(engine: Engine) -> None:
    """What was written is there after its log was let go."""
    store = await open_explanation_store(engine, create=True)
    assert store is not None
    kept = StoredExplanation("acme", "r", 1, 10, "{}")
    await store.put([kept])
    await engine.flush("nearvote_explanations")
    assert await store.get("acme", "r") == kept
