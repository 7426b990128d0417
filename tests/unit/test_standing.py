"""Writes look whether their store is served: before they are made, and after."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from nearvote.curate import Curator
from nearvote.errors import SpaceSwitching
from nearvote.examples.example import Draft
from nearvote.examples.places import stored_places, write_places
from nearvote.examples.standing import Standing
from nearvote.limits import Limits
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Label, Task
from tests.conftest import Desk

Writes = Callable[[TaskRegistry, Curator], Awaitable[object]]
WRITES: dict[str, Writes] = {
    "a task is created": lambda tasks, _: tasks.create("acme", Task("new", (Label("a"),))),
    "an example is added": lambda _, curator: curator.create("acme", [Draft("spam", "win more", ("spam",))]),
    "an example is relabelled": lambda _, curator: curator.create("acme", [Draft("spam", "win", ("ham",))]),
}


class Looks:
    """A store that is served for so many looks."""

    def __init__(self, count: int) -> None:
        self._left = count

    async def wait(self) -> None:
        await self.check()

    async def check(self) -> None:
        if not self._left:
            raise SpaceSwitching("ask again")
        self._left -= 1


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("looks", [0, 1])
async def test_a_write_that_may_be_lost_is_refused(desk: Desk, what: str, looks: int) -> None:
    """Whoever finds another store served is refused: at once, and where it came to be so while it wrote."""
    await desk.add("win", "spam")
    tasks = TaskRegistry(desk.store, Limits(), standing=Looks(looks), now_us=desk.clock.now_us)
    curator = Curator(desk.embedder, desk.store, tasks, Limits(), desk.clock.now_us)
    before = await _everything(desk)
    with pytest.raises(SpaceSwitching):
        await WRITES[what](tasks, curator)
    assert (await _everything(desk) == before) == (looks == 0)


async def test_a_write_waits_a_moment(desk: Desk) -> None:
    """A write waits while another store comes to be served, but not for ever, and not where another is."""
    places = await stored_places(desk.engine)
    assert places
    marked = replace(places, switching_until_us=desk.clock.now_us() + 60_000_000)
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        desk.clock.advance(seconds)
        if len(waits) == 20:
            await write_places(desk.engine, places)

    def standing() -> Standing:
        return Standing(desk.engine, desk.store, desk.clock.now_us, desk.clock.monotonic, pause)

    await write_places(desk.engine, marked)
    await standing().wait()
    assert sum(waits) == pytest.approx(2)
    await write_places(desk.engine, marked)
    with pytest.raises(SpaceSwitching, match="in a moment"):
        await standing().wait()
    assert sum(waits) == pytest.approx(12, abs=0.2)
    before = len(waits)
    await write_places(desk.engine, replace(marked, active=replace(places.active, examples="another")))
    with pytest.raises(SpaceSwitching, match="since a moment"):
        await standing().wait()
    assert len(waits) == before


async def _everything(desk: Desk) -> object:
    examples = [replace(e, updated_us=0) async for page in desk.store.every_example() for e in page]
    return examples, (await desk.store.documents("task", "acme")).keys()
