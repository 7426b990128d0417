"""Writes that are made to their end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from nearvote.deadline import no_deadline

_T = TypeVar("_T")


class Writes:
    """Writes under way."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def shielded(self, write: Coroutine[Any, Any, _T]) -> _T:
        """Runs a write to its end, also when the caller hangs up in the middle of it."""
        with no_deadline():
            running = asyncio.create_task(write)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return await asyncio.shield(running)

    async def settle(self) -> None:
        """Returns when every write under way has ended."""
        await asyncio.gather(*self._running, return_exceptions=True)
