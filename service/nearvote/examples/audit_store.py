"""The record of changes as points of Qdrant: a collection of its own, whose ids are in the order of time."""

from collections.abc import Sequence

from pydantic import TypeAdapter

from nearvote.audit.event import Change, Event
from nearvote.audit.log import EventPage, EventQuery, first_id
from nearvote.examples.engine import Engine, Found, Match, NotUpTo, Point, Schema, UpTo
from nearvote.examples.spaces import AUDIT_COLLECTION as _COLLECTION

_SCHEMA = Schema(dense={}, tenant="tenant", keywords=("task", "actor"), times=("time_us",))
_POINTS_A_WRITE = 64
_CHANGE = TypeAdapter(Change)


class QdrantAuditStore:
    """An AuditStore in Qdrant. `open_audit_store` makes one.

    Args:
        engine: Edge or a server.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def append(self, events: Sequence[Event]) -> None:
        """Adds events."""
        points = [Point(event.id, _payload(event)) for event in events]
        for start in range(0, len(points), _POINTS_A_WRITE):
            await self._engine.upsert(_COLLECTION, points[start : start + _POINTS_A_WRITE])

    async def page(self, tenant: str, query: EventQuery, limit: int, from_id: str | None) -> EventPage:
        """Up to `limit` events in the order of time, beginning with `from_id`."""
        match: dict[str, str | int | UpTo | NotUpTo] = {"tenant": tenant}
        match |= {"task": query.task} if query.task else {}
        match |= {"actor": query.actor} if query.actor else {}
        match |= {"time_us": UpTo(query.end_us - 1)} if query.end_us is not None else {}
        found, next_id = await self._engine.scroll(_COLLECTION, match, limit, from_id or first_id(query.start_us))
        return EventPage([_event(point) for point in found], next_id)

    async def prune(self, before_us: int) -> None:
        """Deletes the events of all tenants from before a time."""
        match: Match = {"time_us": UpTo(before_us - 1)}
        if await self._engine.count(_COLLECTION, match):
            await self._engine.delete(_COLLECTION, match)


async def open_audit_store(engine: Engine) -> QdrantAuditStore:
    """The record of changes; a new one where there is none."""
    await engine.create_collection(_COLLECTION, _SCHEMA)
    return QdrantAuditStore(engine)


def _payload(event: Event) -> dict[str, str | int]:
    return {
        "tenant": event.tenant,
        "task": event.change.task,
        "actor": event.actor,
        "address": event.address,
        "time_us": event.time_us,
        "failed_event_id": event.failed_event_id,
        # As one string: as JSON values a chunk of an import would be hundreds of them.
        "change": _CHANGE.dump_json(event.change).decode(),
    }


def _event(point: Found) -> Event:
    payload = point.payload
    return Event(
        id=point.id,
        tenant=payload["tenant"],
        time_us=payload["time_us"],
        actor=payload["actor"],
        address=payload["address"],
        change=_CHANGE.validate_json(payload["change"]),
        failed_event_id=payload["failed_event_id"],
    )
