"""Writes that are made to their end, or not at all."""

import asyncio
from collections.abc import Callable

from nearvote.tasks.writes import Writes
from tests.conftest import Desk


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what other tasks do."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


def waiting(lock: asyncio.Lock) -> int:
    """How many wait for a lock."""
    return len(lock._waiters or ())


async def test_what_nobody_waits_for_any_more_is_not_written(desk: Desk) -> None:
    """Callers who go while their writes wait for their turn leave nothing behind; those who stay get theirs."""
    kept = await desk.add("kept", "spam")
    lock = desk.tasks._locks["acme"]
    async with lock:
        gone: list[asyncio.Task[object]] = [
            asyncio.create_task(desk.add("gone", "spam")),
            asyncio.create_task(desk.curator.delete("acme", "spam", kept)),
            asyncio.create_task(desk.tasks.delete("acme", "spam", force=True)),
        ]
        stays = asyncio.create_task(desk.add("stays", "ham"))
        await until(lambda: waiting(lock) == 4)
        for one in gone:
            one.cancel()
        ended = await asyncio.gather(*gone, return_exceptions=True)
        assert [type(one) for one in ended] == [asyncio.CancelledError] * 3
        assert waiting(lock) == 1, "they take no place in the row"
    await stays
    await desk.curator.settle()
    await desk.tasks.settle()
    assert {one.text for one in (await desk.store.list_page("acme", "spam")).examples} == {"kept", "stays"}


async def test_a_write_that_has_begun_is_made() -> None:
    """A caller who goes in the middle of a write changes nothing about it, and the next one waits for its end."""
    writes, lock, begun, go_on, done = Writes(), asyncio.Lock(), asyncio.Event(), asyncio.Event(), list[str]()

    async def write(name: str) -> None:
        begun.set()
        await go_on.wait()
        done.append(name)

    first = asyncio.create_task(writes.shielded(lock, lambda: write("first")))
    await begun.wait()
    second = asyncio.create_task(writes.shielded(lock, lambda: write("second")))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (done, lock.locked()) == ([], True)
    go_on.set()
    await second
    await writes.settle()
    assert (done, lock.locked()) == (["first", "second"], False)
