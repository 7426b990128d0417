"""Whether a store is still what is served, and takes writes: looked at by whoever writes, before it and after it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum

from nearvote.clock import system_us
from nearvote.deadline import within_deadline
from nearvote.errors import SpaceSwitching
from nearvote.examples.engine import Engine
from nearvote.examples.places import replace_places, reread_places
from nearvote.examples.qdrant_store import QdrantStore

_WAIT_SECONDS = 10.0  # a switch takes a moment, and some seconds where other replicas have to hear of it
_LOOK_SECONDS = 0.1


class Standing:
    """Looks whether a store is served.

    Args:
        engine: Where it is.
        store: The store.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        monotonic: A clock for how long is waited, in seconds.
        pause: Waits for some seconds.
    """

    def __init__(
        self,
        engine: Engine,
        store: QdrantStore,
        now_us: Callable[[], int] = system_us,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._examples = store.collections["examples"]
        self._now_us = now_us
        self._monotonic = monotonic
        self._pause = pause

    async def wait(self) -> None:
        """Returns where the store is served and takes writes; waits for a moment where another comes to be served.

        Raises:
            SpaceSwitching: Another store is served, or it takes longer than that moment.
            StoreUnavailable: The store did not answer.
        """
        until = self._monotonic() + within_deadline(_WAIT_SECONDS)
        while (found := await self._look()) is _Found.SWITCHING and self._monotonic() < until:
            await self._pause(_LOOK_SECONDS)
        found.check()

    async def check(self) -> None:
        """Returns where what was written to the store by now is, or will be, in what is served.

        Raises:
            SpaceSwitching: It may not be: another store is served, or comes to be.
            StoreUnavailable: The store did not answer.
        """
        (await self._look()).check()

    async def _look(self) -> "_Found":
        while (read := await reread_places(self._engine)) is not None:
            places, revision = read
            if places.examples != self._examples:
                return _Found.FORMER
            if not places.switching_until_us:
                break
            if places.switching_until_us > self._now_us():
                return _Found.SWITCHING
            # Whoever was about to switch has died, or takes so long that it has to begin anew: it finds this changed.
            await replace_places(self._engine, replace(places, switching_until_us=0), revision)
        return _Found.SERVED


class _Found(Enum):
    """How a store stands."""

    SERVED = ""
    SWITCHING = "another encoder's vectors come to be served: ask again in a moment"
    FORMER = "another encoder's vectors are served since a moment ago: ask again"

    def check(self) -> None:
        """Raises SpaceSwitching where it is not served."""
        if self.value:
            raise SpaceSwitching(self.value)
