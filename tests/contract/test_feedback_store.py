"""Corrections are kept the same in every engine."""

from dataclasses import replace

import pytest

from nearvote.examples.engine import Engine
from nearvote.feedback.correction import Feedback, FeedbackState, Former, Layer, feedback_id
from nearvote.feedback.store import FeedbackStore, open_feedback

HOUR = 3_600_000_000


@pytest.fixture
async def kept(engine: Engine) -> FeedbackStore:
    """A store of corrections on each engine in turn, empty."""
    return await open_feedback(engine)


def feedback(key: str, tenant: str = "acme", task: str = "spam", source: str = "s", created_us: int = 5) -> Feedback:
    """A correction as a store is given it."""
    return Feedback(
        id=feedback_id(tenant, key),
        tenant=tenant,
        key=key,
        task=task,
        text="win money",
        example_id="8a6e0804-2bd0-4672-b79d-d97027f9071a",
        labels=("ham", "spam"),
        source=source,
        state=FeedbackState.PENDING,
        created_us=created_us,
        updated_us=created_us,
    )


async def test_what_is_put_is_got(kept: FeedbackStore, odd_texts: list[str]) -> None:
    """A correction comes back as it was put, with how it can be undone; and only to its own tenant."""
    former = Former(("a", "b"), 2.5, "mail", 1, 2)
    first = feedback("one")
    second = replace(feedback("two"), layer=Layer("stack", 1, 7, former), state=FeedbackState.PROMOTED)
    third = replace(feedback("three"), layer=Layer("stack", 0, 7, None))
    odd = [replace(feedback(f"odd {i}"), text=text) for i, text in enumerate(odd_texts)]
    every = [first, second, third, *odd]
    await kept.put(every)
    assert await kept.get("acme", [one.id for one in every]) == {one.id: one for one in every}
    assert await kept.get("other", [first.id]) == {}
    assert await kept.get("acme", []) == {}
    await kept.put([])


async def test_put_replaces(kept: FeedbackStore) -> None:
    """A correction put again has its new state, and is found by it alone."""
    first = feedback("one")
    await kept.put([first])
    await kept.put([replace(first, state=FeedbackState.REJECTED)])
    assert (await kept.list_page("acme", state=FeedbackState.PENDING)).feedback == []
    assert [one.id for one in (await kept.list_page("acme", state=FeedbackState.REJECTED)).feedback] == [first.id]


async def test_pages(kept: FeedbackStore) -> None:
    """Pages follow one another in the order of ids; each correction is on one. All of them can be gone through."""
    every = sorted((feedback(str(i)) for i in range(7)), key=lambda one: one.id)
    await kept.put(every)
    page = await kept.list_page("acme", limit=3)
    pages = [page.feedback]
    while page.next_id and len(pages) < 4:
        page = await kept.list_page("acme", limit=3, from_id=page.next_id)
        pages.append(page.feedback)
    assert pages == [every[:3], every[3:6], every[6:]]
    assert [one async for one in kept.each("acme")] == every


async def test_each_goes_through_more_than_a_page(kept: FeedbackStore) -> None:
    """Hundreds are gone through page by page, none twice."""
    every = [feedback(str(i)) for i in range(300)]
    await kept.put(every)
    assert sorted([one.id async for one in kept.each("acme")]) == sorted(one.id for one in every)


async def test_lists_can_be_narrowed(kept: FeedbackStore) -> None:
    """By task, state, source and example, and by all at once; never beyond the tenant."""
    a = feedback("a", source="x")
    b = replace(feedback("b", task="abuse"), state=FeedbackState.PROMOTED)
    c = replace(feedback("c", source="x"), example_id="00000000-0000-0000-0000-000000000001")
    other = feedback("a", tenant="other", source="x")
    await kept.put([a, b, c, other])

    async def keys(**given: str | FeedbackState) -> set[str]:
        return {one.key async for one in kept.each("acme", **given)}  # type: ignore[arg-type]

    assert await keys() == {"a", "b", "c"}
    assert await keys(task="spam") == {"a", "c"}
    assert await keys(state=FeedbackState.PROMOTED) == {"b"}
    assert await keys(source="x") == {"a", "c"}
    assert await keys(example_id=a.example_id) == {"a", "b"}
    assert await keys(task="spam", source="x", example_id=c.example_id, state=FeedbackState.PENDING) == {"c"}
    assert await keys(task="abuse", source="x") == set()


async def test_counts_for_limits(kept: FeedbackStore) -> None:
    """What of a source is pending is counted, and what it submitted in an hour by the clock, whatever became of it."""
    await kept.put(
        [
            feedback("a", created_us=HOUR),
            replace(feedback("b", created_us=2 * HOUR - 1), state=FeedbackState.REJECTED),
            feedback("c", created_us=2 * HOUR),
            feedback("d", created_us=HOUR, source="t"),
            feedback("e", created_us=HOUR, tenant="other"),
        ]
    )
    assert await kept.pending_count("acme", "s") == 2
    assert await kept.hour_count("acme", "s", HOUR + 9) == 2
    assert await kept.hour_count("acme", "s", 2 * HOUR) == 1
    assert await kept.hour_count("acme", "nobody", HOUR) == 0


async def test_a_task_takes_its_feedback_with_it(kept: FeedbackStore) -> None:
    """Corrections of a task can be deleted, all at once; others stay."""
    await kept.put([feedback("a"), feedback("b", task="abuse"), feedback("a", tenant="other")])
    await kept.delete_task("acme", "spam")
    assert [one.key async for one in kept.each("acme")] == ["b"]
    assert [one.key async for one in kept.each("other")] == ["a"]


async def test_opening_twice_keeps_what_is_there(engine: Engine) -> None:
    """A store that is opened again has what was put."""
    await (await open_feedback(engine)).put([feedback("a")])
    assert [one.key async for one in (await open_feedback(engine)).each("acme")] == ["a"]


async def test_what_is_due_is_found(kept: FeedbackStore) -> None:
    """What the rule has said to promote is found for all tenants as long as it is pending, and no other."""
    due = [replace(feedback("one"), due=True), replace(feedback("one", tenant="other"), due=True)]
    done = replace(feedback("two"), due=True, state=FeedbackState.REJECTED)
    await kept.put([*due, done, feedback("three")])
    assert sorted(await kept.due(), key=lambda one: one.tenant) == due
    await kept.put([replace(due[0], due=False)])
    assert await kept.due() == [due[1]]


async def test_prune(kept: FeedbackStore) -> None:
    """What was rejected or revoked before a time goes, of all tenants; what is open stays."""
    closed = [
        replace(feedback(f"{state.value} {at}", tenant=tenant), state=state, updated_us=at)
        for state in FeedbackState
        for at in (9, 10)
        for tenant in ("acme", "other")
    ]
    await kept.put(closed)
    await kept.prune(10)
    left = {one.id for tenant in ("acme", "other") for one in (await kept.list_page(tenant)).feedback}
    gone = {one.id for one in closed if one.updated_us == 9 and one.state.value in ("rejected", "revoked")}
    assert len(gone) == 4
    assert left == {one.id for one in closed} - gone
