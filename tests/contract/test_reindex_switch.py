"""The switch to another encoder, while others write, look, or cancel."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import structlog

from nearvote.errors import CannotReindex, SpaceSwitching, StoreUnavailable
from nearvote.examples.engine import Engine
from nearvote.examples.places import read_places, replace_places, stored_places
from nearvote.examples.spaces import store_of
from nearvote.examples.standing import Standing
from nearvote.reindex import reindexer as module
from nearvote.reindex.documents import carry_documents
from nearvote.reindex.status import Phase
from tests.conftest import FakeClock
from tests.contract.reindexed import (
    NEW,
    NEW_SPACE,
    OLD_SPACE,
    Shop,
    active,
    nearest,
    ready,
    serving,
    stored,
)


async def test_who_writes_looks_at_the_mark(engine: Engine, clock: FakeClock) -> None:
    """While it is switched what is written is refused, and afterwards in what served; until then nothing is."""
    await stored(engine, ["money for you"])
    old = await serving(engine)
    standing = Standing(engine, old, clock.now_us)
    reindexer = await Shop(engine).reindexer(now_us=clock.now_us)
    await ready(reindexer, "letters")
    await standing.check()
    looked: list[str] = []
    carry = carry_documents

    async def look(*arguments: Any) -> Any:
        with pytest.raises(SpaceSwitching, match="in a moment"):
            await standing.check()
        looked.append("while")
        return await carry(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "carry_documents", look)
        await reindexer.switch()
    assert looked == ["while"]
    with pytest.raises(SpaceSwitching, match="since a moment"):
        await standing.check()
    await Standing(engine, await serving(engine), clock.now_us).check()


async def test_a_switch_that_takes_too_long(engine: Engine, clock: FakeClock) -> None:
    """After its time writes are let in again, and the switch, when it comes to its end, does not happen."""
    await stored(engine, ["money for you"])
    standing = Standing(engine, await serving(engine), clock.now_us)
    reindexer = await Shop(engine).reindexer(now_us=clock.now_us)
    await ready(reindexer, "letters")
    carry = carry_documents

    async def suspended(*arguments: Any) -> Any:
        found = await carry(*arguments)
        clock.advance(60)
        await standing.check()
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "carry_documents", suspended)
        with pytest.raises(SpaceSwitching, match="nothing has changed"):
            await reindexer.switch()
    await standing.check()
    assert (await active(engine)).space == OLD_SPACE
    await reindexer.switch()
    assert (await active(engine)).space == NEW_SPACE


async def test_cancelled_by_another_replica(engine: Engine) -> None:
    """Nobody lets go of what comes to be served, and what another has let go of is not switched to."""
    await stored(engine, ["money for you"])
    shop = Shop(engine)
    reindexer, other = await shop.reindexer(), await shop.reindexer()
    await ready(reindexer, "letters")
    carry = carry_documents

    async def cancelled(*arguments: Any) -> Any:
        with pytest.raises(SpaceSwitching, match="come to be served"):
            await other.cancel()
        return await carry(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "carry_documents", cancelled)
        await reindexer.switch()
    assert await nearest(await serving(engine), NEW, "uoy rof yenom") == "money for you"

    async def let_go(*arguments: Any) -> Any:
        found = await carry(*arguments)
        places, revision = await read_places(engine) or pytest.fail("nothing is stored")
        assert await replace_places(engine, replace(places, building=None), revision)
        return found

    await ready(reindexer, back=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "carry_documents", let_go)
        with pytest.raises(SpaceSwitching, match="nothing has changed"):
            await reindexer.switch()
    with pytest.raises(CannotReindex, match="let go"):
        await reindexer.switch()
    assert (await active(engine)).space == NEW_SPACE


async def test_a_switch_whose_caller_is_gone(engine: Engine) -> None:
    """It goes to its end; where it fails, the log says why."""
    await stored(engine, ["money for you"])
    reindexer = await Shop(engine).reindexer()
    await ready(reindexer, "letters")
    begun, may_fail = asyncio.Event(), asyncio.Event()

    async def failing(*_arguments: Any) -> Any:
        begun.set()
        await may_fail.wait()
        raise StoreUnavailable("the store has gone")

    with pytest.MonkeyPatch.context() as patched, structlog.testing.capture_logs() as logged:
        patched.setattr(module, "carry_documents", failing)
        switching = asyncio.create_task(reindexer.switch())
        await begun.wait()
        switching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await switching
        may_fail.set()
        assert (await reindexer.finished()).phase is Phase.READY
        await asyncio.sleep(0)
    assert [entry["event"] for entry in logged] == ["write_failed"]


async def test_writes_wait_for_other_replicas(engine: Engine) -> None:
    """Where others may not have heard of a switch yet, nothing is written until they have."""
    await stored(engine, ["money for you"])
    seen: list[str] = []

    async def pause(seconds: float) -> None:
        places = await stored_places(engine)
        assert places
        assert (places.active.space, seconds) == (NEW_SPACE, 7.0)
        with pytest.raises(SpaceSwitching, match="in a moment"):
            await Standing(engine, store_of(engine, places.active)).check()
        seen.append("settling")

    reindexer = await Shop(engine).reindexer(settle_seconds=7.0, pause=pause)
    await ready(reindexer, "letters")
    await reindexer.switch()
    assert seen == ["settling"]
    await Standing(engine, await serving(engine)).check()
