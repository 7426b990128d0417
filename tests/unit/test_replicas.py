"""Two replicas on one store, each with what it remembers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearvote.errors import FitRunning, TaskNotFound, UnknownLabel
from nearvote.examples.example import Draft
from nearvote.examples.store import EmbeddedExample, SearchQuery
from nearvote.learn import learner as module
from nearvote.learn.goal import Goal
from nearvote.learn.jobs import JobState
from nearvote.learn.switching import Switcher
from nearvote.tasks.leases import LEASE_SECONDS, Leases
from nearvote.tasks.task import Label, Task
from nearvote.voting.metric import Slot
from tests.conftest import Desk, FakeClock, OpenDesk
from tests.unit.test_learner import Shop, _in_a_metric


class Interrupted:
    """A store on which something else happens before the next of its writes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, examples: Sequence[EmbeddedExample]) -> None:
        await self._interrupt("put")
        await self._inner.put(examples)

    async def project(self, slot: Slot, vectors: Mapping[str, Any]) -> None:
        await self._interrupt("project")
        await self._inner.project(slot, vectors)

    async def _interrupt(self, what: str) -> None:
        if what in self.before:
            await self.before.pop(what)()


def interrupt(shop: Shop, what: str, act: Callable[[], Awaitable[object]]) -> None:
    """Has something happen elsewhere before a replica's next write of a kind."""
    shop.store._inner.before[what] = act


def shop_of(desk: Desk) -> Shop:
    """A replica."""
    return Shop(replace(desk, store=Interrupted(desk.store)))  # type: ignore[arg-type]


@pytest.fixture
async def shops(open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Shop, Shop]]:
    """Two replicas, whose fits always serve in their metric."""
    monkeypatch.setattr(module, "fit_corpus", _in_a_metric)
    desk = await open_desk()
    found = shop_of(desk), shop_of(desk)
    yield found
    for shop in found:
        await shop.jobs.close()
        await shop.curator.settle()


async def in_slot(shop: Shop) -> int:
    """How many examples are in the slot that serves."""
    _, slot = await shop.serving()
    query = SearchQuery("acme", "spam", np.eye(256, dtype=np.float32)[0], 1_000, slot=slot)
    return len((await shop.store.search([query]))[0])


async def total(shop: Shop) -> int:
    """How many examples there are."""
    sizes = await shop.desk.store.class_sizes("acme", "spam")
    return int(sizes.total)


LATE = Draft("spam", "swallow flies high", ("ham",))


@pytest.mark.parametrize("fits_before", [0, 1, 2])
async def test_an_example_added_elsewhere_while_a_slot_is_written(shops: tuple[Shop, Shop], fits_before: int) -> None:
    """An example that another replica adds while a fit writes its slot is in it when the fit serves."""
    one, other = shops
    await one.fill()
    for _ in range(fits_before):
        await one.fit()
    await other.tasks.get("acme", "spam")  # as it is before the fit
    interrupt(one, "project", lambda: other.curator.create("acme", [LATE]))
    assert (await one.fit()).state is JobState.SUCCEEDED
    assert await in_slot(one) == await total(one) == 61


async def test_a_fit_that_comes_to_serve_while_an_example_is_written(shops: tuple[Shop, Shop]) -> None:
    """An example that is written as another replica's fit comes to serve is in its slot when it is acknowledged."""
    one, other = shops
    await one.fill()
    interrupt(other, "put", one.fit)
    await other.curator.create("acme", [LATE])
    assert await one.serving() == (1, Slot.A)
    assert await in_slot(one) == await total(one) == 61


async def test_an_example_is_in_the_slot_that_another_replica_still_searches(shops: tuple[Shop, Shop]) -> None:
    """A replica that has not heard of a switch yet finds in the former slot what came after it."""
    one, other = shops
    await one.fill()
    await one.fit()
    assert await other.serving() == (1, Slot.A)
    await one.fit()
    await one.curator.create("acme", [LATE])
    assert await other.serving() == (1, Slot.A), "within the refresh time"
    assert await in_slot(other) == 61


async def test_an_example_deleted_elsewhere_while_a_slot_is_written(shops: tuple[Shop, Shop]) -> None:
    """A fit goes on when another replica deletes an example whose vectors it is about to write."""
    one, other = shops
    await one.fill()
    (saved,) = await other.curator.create("acme", [LATE])
    interrupt(one, "project", lambda: other.curator.delete("acme", "spam", saved.example.id))
    assert (await one.fit()).state is JobState.SUCCEEDED
    assert await in_slot(one) == await total(one) == 60


async def test_a_task_deleted_elsewhere_while_an_example_is_written(shops: tuple[Shop, Shop]) -> None:
    """An example of a task that another replica deletes meanwhile is refused, and nothing of it stays."""
    one, other = shops
    interrupt(one, "put", lambda: other.tasks.delete("acme", "spam", force=True))
    with pytest.raises(TaskNotFound):
        await one.curator.create("acme", [LATE])
    assert await total(one) == 0


async def test_a_label_taken_away_elsewhere_while_an_example_is_written(shops: tuple[Shop, Shop]) -> None:
    """An example whose label another replica takes away meanwhile is refused, new or known, and is as it was."""
    one, other = shops
    (saved,) = await one.curator.create("acme", [LATE])
    await one.tasks.get("acme", "spam")
    narrow = Task("spam", (Label("ham"),), benign_label="ham")
    interrupt(one, "put", lambda: other.tasks.update("acme", narrow))
    with pytest.raises(UnknownLabel):
        await one.curator.create("acme", [replace(LATE, labels=("spam",)), Draft("spam", "other text", ("spam",))])
    assert await total(one) == 1
    stored = await one.store.get("acme", "spam", [saved.example.id])
    assert stored[saved.example.id].labels == ("ham",)


async def test_two_replicas_fit_a_task(shops: tuple[Shop, Shop]) -> None:
    """A task that one replica fits is not fitted by another; when it is done, it may be."""
    one, other = shops
    await one.fill()
    job = await one.learner.start_fit("acme", "spam", Goal())
    with pytest.raises(FitRunning):
        await other.learner.start_fit("acme", "spam", Goal())
    await one.ended(job)
    assert (await other.fit()).state is JobState.SUCCEEDED
    assert [await shop.serving() for shop in shops] == [(2, Slot.B)] * 2


async def test_a_fit_of_a_replica_that_died(shops: tuple[Shop, Shop]) -> None:
    """What a replica that died was fitting may be fitted by another when its lease has run out, and serves whole."""
    one, other = shops
    await one.fill()
    await one.fit()

    leases = Leases(one.desk.store, now_us=one.desk.clock.now_us)
    assert await leases.take("acme", "fit/spam") is not None
    task = await one.tasks.get("acme", "spam")
    await one.tasks.claim("acme", task, 2)  # and was killed here, its fit not even written
    with pytest.raises(FitRunning):
        await other.learner.start_fit("acme", "spam", Goal())
    await other.curator.create("acme", [LATE])
    one.desk.clock.advance(LEASE_SECONDS)
    assert (await other.fit()).state is JobState.SUCCEEDED
    assert await in_slot(other) == await total(other) == 61


async def test_a_fit_that_was_given_up_does_not_serve(shops: tuple[Shop, Shop], clock: FakeClock) -> None:
    """A fit whose lease another has taken meanwhile, since nothing was heard of it, ends and changes nothing."""
    one, other = shops
    await one.fill()

    async def overtakes() -> None:
        clock.advance(LEASE_SECONDS)
        assert (await other.fit()).state is JobState.SUCCEEDED

    interrupt(one, "project", overtakes)
    job = await one.fit()
    assert job.state is JobState.FAILED
    assert (await other.serving())[0] == (await other.learner.fit("acme", "spam")).version == 2
    assert await in_slot(other) == 60


async def test_a_fit_stopped_from_elsewhere(shops: tuple[Shop, Shop]) -> None:
    """A fit that another replica stops, since examples were deleted for good, does not come to serve."""
    one, other = shops
    await one.fill()
    job = await one.learner.start_fit("acme", "spam", Goal())
    await other.learner.stop_fits("acme", "spam")
    assert (await one.ended(job)).state is JobState.CANCELLED
    assert await one.serving() == (0, None)


async def test_a_lease(open_desk: OpenDesk, clock: FakeClock) -> None:
    """A lease is one holder's: until it is released, or for as long as it is renewed; of many that ask one gets it."""
    store = (await open_desk()).store
    due, waiting, lost = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def pause(_: float) -> None:
        waiting.set()
        await due.wait()
        due.clear()

    replicas = [Leases(store, now_us=clock.now_us, pause=pause) for _ in range(10)]
    (first,) = [lease for lease in await asyncio.gather(*(one.take("", "seeds") for one in replicas)) if lease]
    async with first.kept(lost.set):
        await waiting.wait()
        waiting.clear()
        clock.advance(LEASE_SECONDS - 1)
        due.set()
        await waiting.wait()  # it was renewed
        clock.advance(LEASE_SECONDS - 1)
        assert await replicas[0].take("", "seeds") is None
        assert await first.is_held()
        await replicas[1].revoke("", "seeds")
        assert not await first.is_held()
        due.set()
        await lost.wait()
    second = await replicas[2].take("", "seeds")
    assert second is not None
    async with second.kept():
        pass
    assert await replicas[3].take("", "seeds") is not None, "it was released"


async def test_what_a_former_process_held(open_desk: OpenDesk, clock: FakeClock) -> None:
    """Where one process has the store to itself, what one before it held is free at once; what it holds is not."""
    store = (await open_desk()).store
    assert await Leases(store, alone=True, now_us=clock.now_us).take("", "a") is not None
    after = Leases(store, alone=True, now_us=clock.now_us)
    assert await after.take("", "a") is not None
    assert await after.take("", "a") is None


async def test_a_slot_that_served_is_left_alone_for_a_while(shops: tuple[Shop, Shop]) -> None:
    """Before vectors are written to a slot that has served, replicas that may still search in it are waited for."""
    one, _ = shops
    await one.fill()
    paused: list[tuple[float, int]] = []

    async def pause(seconds: float) -> None:
        paused.append((seconds, one.store.writes.count("project metric_a")))

    one.learner._switcher = Switcher(one.store, one.tasks, 12.0, pause)
    for _ in range(2):
        await one.fit()
    assert paused == [], "neither slot has served before"
    await one.fit()
    assert paused == [(12.0, 1)], "the third fit waited before it wrote to the first one's slot"
    assert one.store.writes.count("project metric_a") == 2
