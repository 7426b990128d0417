"""Writes that are made to their end."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import structlog

from nearvote.deadline import no_deadline

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Writes:
    """Writes under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def shielded(
        self, changing: AbstractAsyncContextManager[None], write: Callable[[], Coroutine[Any, Any, _T]]
    ) -> _T:
        """Waits for a lock, or what is held like one, and holding it runs a write to its end.

        Also when the caller hangs up in the middle of it. A caller who is gone before the write has begun waits no
        more, and nothing is written. So no more wait than there are calls.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(changing)
            held = stack.pop_all()

        async def holding() -> _T:
            async with held:
                return await write()

        with no_deadline():
            running = asyncio.create_task(holding())
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(log_failure)  # there is nobody left to tell
            raise

    async def settle(self) -> None:
        """Returns when every write under way has ended."""
        await asyncio.gather(*self._running, return_exceptions=True)


def log_failure(done: "asyncio.Task[Any]") -> None:
    """Writes to the log how a write has failed whose caller is gone."""
    if not done.cancelled() and done.exception() is not None:
        _log.warning("write_failed", note="its caller had gone", exc_info=done.exception())
