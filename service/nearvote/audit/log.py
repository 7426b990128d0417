"""The record of changes. It is only ever added to; what is older than it is to be kept goes."""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from nearvote.access.caller import Caller
from nearvote.audit.event import Change, Event
from nearvote.clock import system_us
from nearvote.errors import StoreUnavailable

# Who does what nobody called for: loading seeds, deleting what has ended. No key's name has brackets.
SERVICE = Caller(name="(service)")

# More examples than this make several events, so that each is small enough to be read.
_EXAMPLES_AN_EVENT = 256
_DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which of a tenant's events are meant.

    Attributes:
        start_us: Of this time or later, in microseconds since 1970-01-01 UTC.
        end_us: Before this time, in the same; None for no end.
        task: Of this task; all when empty.
        actor: By this actor; all when empty.
    """

    start_us: int = 0
    end_us: int | None = None
    task: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, and the id to go on from; None when these are the last."""

    events: list[Event]
    next_id: str | None


class AuditStore(Protocol):
    """Keeps events. All methods raise StoreUnavailable when the store does not answer."""

    async def append(self, events: Sequence[Event]) -> None:
        """Adds events; they are durable when it returns."""
        ...

    async def page(self, tenant: str, query: EventQuery, limit: int, from_id: str | None) -> EventPage:
        """Up to `limit` events in the order of time, beginning with `from_id`."""
        ...

    async def prune(self, before_us: int) -> None:
        """Deletes the events of all tenants from before a time."""
        ...


class Recorder(Protocol):
    """Records changes."""

    def recording(self, tenant: str, by: Caller, changes: Sequence[Change]) -> AbstractAsyncContextManager[None]:
        """Entered before changes are made, left when they are.

        Raises:
            StoreUnavailable: They could not be recorded, and are not to be made.
        """
        ...


class Unrecorded:
    """Records nothing, where there is no service: in measurements."""

    @contextlib.asynccontextmanager
    async def recording(self, tenant: str, by: Caller, changes: Sequence[Change]) -> AsyncIterator[None]:
        """Lets changes be made."""
        del tenant, by, changes
        yield


class AuditLog:
    """The record of changes.

    An event is written before its change, so that no change that was acknowledged is missing; one that then fails is
    followed by an event that says so. After a crash in between, the last event may be of a change that was not made.

    Args:
        store: Where events are kept.
        keep_days: How long; 0 for ever.
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, store: AuditStore, keep_days: int = 0, now_us: Callable[[], int] = system_us) -> None:
        self._store = store
        self._keep_us = keep_days * _DAY_US
        self._now_us = now_us
        self._last_us = 0

    @contextlib.asynccontextmanager
    async def recording(self, tenant: str, by: Caller, changes: Sequence[Change]) -> AsyncIterator[None]:
        """Records changes, then lets them be made; when they fail, records that."""
        events = [self._event(tenant, by, part) for change in changes for part in _parts(change)]
        await self._store.append(events)
        try:
            yield
        except (Exception, asyncio.CancelledError):
            # What failed is mostly the store, which then takes no more events either.
            with contextlib.suppress(StoreUnavailable):
                await self._store.append([self._failed(event, by) for event in events])
            raise

    async def page(self, tenant: str, query: EventQuery, limit: int, from_id: str | None = None) -> EventPage:
        """Up to `limit` events in the order of time, beginning with `from_id`.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        return await self._store.page(tenant, query, limit, from_id)

    async def prune(self) -> None:
        """Deletes what is older than it is to be kept.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        if self._keep_us:
            await self._store.prune(self._now_us() - self._keep_us)

    def _event(self, tenant: str, by: Caller, change: Change, failed_event_id: str = "") -> Event:
        # Later than the one before, whatever the clock does: the order of a process's events is that of its ids.
        self._last_us = max(self._now_us(), self._last_us + 1)
        return Event(_id(self._last_us), tenant, self._last_us, by.name, by.address, change, failed_event_id)

    def _failed(self, event: Event, by: Caller) -> Event:
        return self._event(event.tenant, by, replace(event.change, examples=()), event.id)


def first_id(time_us: int) -> str:
    """An id that no event of this time or later is before."""
    return str(uuid.UUID(int=time_us << 64))


def _id(time_us: int) -> str:
    # Chance in the lower half: replicas that share a store have the same microseconds.
    return str(uuid.UUID(int=time_us << 64 | secrets.randbits(64)))


def _parts(change: Change) -> list[Change]:
    """A change in parts of so many examples as an event may have."""
    if len(change.examples) <= _EXAMPLES_AN_EVENT:
        return [change]
    parts = [
        change.examples[start : start + _EXAMPLES_AN_EVENT]
        for start in range(0, len(change.examples), _EXAMPLES_AN_EVENT)
    ]
    return [replace(change, examples=part, example_count=len(part)) for part in parts]
