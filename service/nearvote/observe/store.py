"""The store's engine, its failures counted."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, TypeVar

from nearvote.errors import StoreTooSlow, StoreUnavailable
from nearvote.examples.engine import Engine, Found, Hit, Match, NearestQuery, Payload, Point, Schema, Vector

READS = ("collections", "nearest", "retrieve", "scroll", "count", "least", "facet", "ping")
WRITES = ("create_collection", "drop_collection", "upsert", "put_if", "set_vectors", "set_payload", "delete", "flush")

_T = TypeVar("_T")


class ObservedEngine:
    """An engine whose failures are counted, and that knows whether the last write went through.

    Args:
        engine: The engine.
        failed: Told of each failure, by the operation's name.

    Attributes:
        kind: The engine's.
        last_write_failed: Whether it did; so it may be for a while after the store is well again.
    """

    def __init__(self, engine: Engine, failed: Callable[[str], None]) -> None:
        self._engine = engine
        self._failed = failed
        self.last_write_failed = False
        self.kind: Literal["edge", "server"] = engine.kind

    async def collections(self) -> set[str]:
        """As the engine does."""
        return await self._read("collections", self._engine.collections())

    async def create_collection(self, name: str, schema: Schema) -> None:
        """As the engine does."""
        await self._write("create_collection", self._engine.create_collection(name, schema))

    async def drop_collection(self, name: str) -> None:
        """As the engine does."""
        await self._write("drop_collection", self._engine.drop_collection(name))

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """As the engine does."""
        await self._write("upsert", self._engine.upsert(collection, points))

    async def put_if(self, collection: str, point: Point, match: Match | None) -> None:
        """As the engine does."""
        await self._write("put_if", self._engine.put_if(collection, point, match))

    async def set_vectors(self, collection: str, vectors: Mapping[str, Mapping[str, Vector]]) -> None:
        """As the engine does."""
        await self._write("set_vectors", self._engine.set_vectors(collection, vectors))

    async def set_payload(self, collection: str, match: Match, payload: Payload) -> None:
        """As the engine does."""
        await self._write("set_payload", self._engine.set_payload(collection, match, payload))

    async def delete(self, collection: str, match: Match) -> None:
        """As the engine does."""
        await self._write("delete", self._engine.delete(collection, match))

    async def nearest(self, collection: str, queries: Sequence[NearestQuery]) -> list[list[Hit]]:
        """As the engine does."""
        return await self._read("nearest", self._engine.nearest(collection, queries))

    async def retrieve(self, collection: str, ids: Sequence[str], fields: tuple[str, ...] | None) -> list[Found]:
        """As the engine does."""
        return await self._read("retrieve", self._engine.retrieve(collection, ids, fields))

    async def scroll(
        self, collection: str, match: Match, limit: int, from_id: str | None, vectors: tuple[str, ...] = ()
    ) -> tuple[list[Found], str | None]:
        """As the engine does."""
        return await self._read("scroll", self._engine.scroll(collection, match, limit, from_id, vectors))

    async def count(self, collection: str, match: Match) -> int:
        """As the engine does."""
        return await self._read("count", self._engine.count(collection, match))

    async def least(self, collection: str, key: str, match: Match) -> int | None:
        """As the engine does."""
        return await self._read("least", self._engine.least(collection, key, match))

    async def facet(self, collection: str, key: str, match: Match, limit: int) -> dict[str, int]:
        """As the engine does."""
        return await self._read("facet", self._engine.facet(collection, key, match, limit))

    async def flush(self, collection: str) -> None:
        """As the engine does."""
        await self._write("flush", self._engine.flush(collection))

    async def ping(self) -> None:
        """As the engine does."""
        await self._read("ping", self._engine.ping())

    async def close(self) -> None:
        """As the engine does."""
        await self._engine.close()

    async def _read(self, operation: str, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except StoreTooSlow:  # for a caller in a hurry: that says nothing of the store
            raise
        except StoreUnavailable:
            self._failed(operation)
            raise

    async def _write(self, operation: str, call: Awaitable[None]) -> None:
        try:
            await self._read(operation, call)
        except StoreTooSlow:
            raise
        except StoreUnavailable:
            self.last_write_failed = True
            raise
        self.last_write_failed = False
