"""What answers were made of, as points of Qdrant in a collection of its own."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from nearvote.examples.engine import Engine, Point, Schema, UpTo
from nearvote.examples.spaces import EXPLANATION_COLLECTION as _COLLECTION

_SCHEMA = Schema(dense={}, tenant="tenant", keywords=(), times=("expires_us",))
_NAMESPACE = uuid.UUID("c2f4a3de-2d0b-4c55-9b1b-5a3b6d1f7e42")


@dataclass(frozen=True, slots=True)
class StoredExplanation:
    """What an answer was made of.

    Attributes:
        tenant: Whose it is.
        request_id: What the answer is known by. Of several of one id the last counts.
        time_us: When it was given, in microseconds since 1970-01-01 UTC.
        expires_us: When it is to be forgotten, in the same.
        body: The answer, as JSON.
    """

    tenant: str
    request_id: str
    time_us: int
    expires_us: int
    body: str


class QdrantExplanationStore:
    """Explanations in Qdrant. `open_explanation_store` makes one.

    Args:
        engine: Edge or a server.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wrote = False

    async def put(self, explanations: Sequence[StoredExplanation]) -> None:
        """Adds explanations, replacing those of the same id."""
        self._wrote = True
        await self._engine.upsert(
            _COLLECTION,
            [
                Point(
                    _id(one.tenant, one.request_id),
                    {"tenant": one.tenant, "time_us": one.time_us, "expires_us": one.expires_us, "body": one.body},
                )
                for one in explanations
            ],
        )

    async def get(self, tenant: str, request_id: str) -> StoredExplanation | None:
        """One explanation; None when there is none."""
        found = await self._engine.retrieve(_COLLECTION, [_id(tenant, request_id)], None)
        if not found:
            return None
        payload = found[0].payload
        return StoredExplanation(
            payload["tenant"], request_id, payload["time_us"], payload["expires_us"], payload["body"]
        )

    async def prune(self, now_us: int) -> None:
        """Deletes what has ended by then, and keeps the log from growing: nothing else here is written as often."""
        if await self._engine.count(_COLLECTION, {"expires_us": UpTo(now_us)}):
            await self._engine.delete(_COLLECTION, {"expires_us": UpTo(now_us)})
            self._wrote = True
        if self._wrote:
            self._wrote = False
            await self._engine.flush(_COLLECTION)


async def open_explanation_store(engine: Engine, *, create: bool) -> QdrantExplanationStore | None:
    """The store of explanations; None where there is none and none is to be created."""
    if not create and _COLLECTION not in await engine.collections():
        return None
    await engine.create_collection(_COLLECTION, _SCHEMA)
    return QdrantExplanationStore(engine)


def _id(tenant: str, request_id: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{len(tenant)}:{tenant}{request_id}"))
