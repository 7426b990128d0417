"""How long whoever asked will wait."""

import asyncio

from nearvote.deadline import no_deadline, set_deadline, within_deadline


async def test_a_deadline_bounds_what_is_waited_for() -> None:
    """Nothing takes longer than it may, nor than leaves the answer its time; without a caller it may take all of it."""

    async def bounded(seconds: float | None) -> float:
        set_deadline(seconds)
        return within_deadline(10.0)

    assert await asyncio.create_task(bounded(None)) == 10.0
    assert await asyncio.create_task(bounded(100.0)) == 10.0
    assert 0.4 < await asyncio.create_task(bounded(1.0)) <= 0.8
    assert await asyncio.create_task(bounded(-1.0)) == 0.0
    assert within_deadline(10.0) == 10.0, "another task's deadline is its own"


async def test_work_that_goes_on_has_no_deadline() -> None:
    """Tasks begun where there is no deadline have none, also when they run later; around it stays what was."""

    async def asked() -> float:
        return within_deadline(10.0)

    async def call() -> tuple[float, float]:
        set_deadline(1.0)
        with no_deadline():
            going_on = asyncio.create_task(asked())
        return await going_on, within_deadline(10.0)

    going_on, own = await asyncio.create_task(call())
    assert going_on == 10.0
    assert own < 1.0
