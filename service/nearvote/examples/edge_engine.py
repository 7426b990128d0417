"""Qdrant Edge: Qdrant's own engine in this process, its files in a folder.

It never lets other threads run while it works, so its calls are made from the event loop itself: a thread would only
add a hand-over. Between the parts of a long piece of work the loop gets its turn.
"""

import asyncio
import fcntl
import os
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import qdrant_edge as edge

from nearvote.errors import NearvoteError, StoreUnavailable
from nearvote.examples.disk import Disk
from nearvote.examples.edge_call import call_edge, is_failure
from nearvote.examples.edge_index import (
    build_index,
    candidates_among,
    forget_index,
    is_collection,
    keep_as,
    load_indexed,
)
from nearvote.examples.edge_layout import is_of_former_layout, new_config
from nearvote.examples.edge_payloads import Payloads
from nearvote.examples.edge_rarity import Rarities
from nearvote.examples.edge_types import filter_to_edge, query_to_edge, vectors_from_edge, vectors_to_edge
from nearvote.examples.edge_vacuum import finish_vacuum, vacuum_collection
from nearvote.examples.engine import (
    Found,
    Hit,
    Match,
    NearestQuery,
    Payload,
    Point,
    Schema,
    Vector,
    VectorStorage,
)
from nearvote.startup_errors import InvalidSetting, StoreLocked

# Queries run before others get their turn: a few milliseconds of work.
_QUERY_PART = 16


@dataclass(slots=True, eq=False)
class _Asked:
    """A search that waits for its turn."""

    collection: str
    queries: Sequence[NearestQuery]
    done: asyncio.Future[None]
    taken: int = 0  # queries that were searched for, or are
    found: list[list[Hit]] = field(default_factory=list)


class EdgeEngine:
    """Collections as folders, each one shard of Qdrant Edge.

    Args:
        folder: Where the data is; created when there is none.
        storage: How vectors are kept. Where they were kept otherwise it is in force once the index is built.
        min_free_bytes: Room on its disk below which writes are refused; it is not opened with less than a quarter of
            it. The engine's files have holes, and the operating system ends a process for which it can't fill one.

    Raises:
        StoreLocked: Another process has the folder open.
        StoreFull: There is too little room to open it.
        InvalidSetting: It can't be written to.
        StoreUnavailable: What is in it can't be opened.
    """

    kind: Literal["edge", "server"] = "edge"

    def __init__(self, folder: Path, *, storage: VectorStorage | None = None, min_free_bytes: int = 0) -> None:
        self._storage = storage or VectorStorage()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder)
            self._folder = folder / "collections"
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InvalidSetting(
                f"{folder} can't be written to ({error.strerror}): name another with --data-dir", field="data_dir"
            ) from error
        self._lock: int | None = lock
        self._disk = Disk(folder, lock, min_free_bytes)
        self._shards: dict[str, edge.EdgeShard] = {}
        self._candidates: dict[str, int] = {}
        self._rarities = Rarities()
        self._payloads = Payloads()
        self._asked: deque[_Asked] = deque()
        self._answering: asyncio.Task[None] | None = None
        try:
            self._disk.check_opening()
            finish_vacuum(self._folder)
            for path in sorted(self._folder.iterdir()):
                if path.suffix in {".new", ".dropped"}:  # a creation or a deletion that was cut short
                    shutil.rmtree(path)
                elif is_collection(path):
                    if is_of_former_layout(path):
                        vacuum_collection(path)
                    self._serve(path.name, load_indexed(path, self._storage))
        except BaseException as error:
            self._close()
            if not is_failure(error) or isinstance(error, NearvoteError):
                raise
            raise StoreUnavailable(
                f"the data in {folder} can't be opened: {error}; restore it from a backup, or name another folder"
            ) from error

    async def collections(self) -> set[str]:
        """Names of the collections."""
        return set(self._shards)

    async def create_collection(self, name: str, schema: Schema) -> None:
        """Creates a collection, if there is none of this name. It appears whole or not at all."""
        if name in self._shards:
            _index(self._shards[name], schema)
            return
        self._disk.check_writing()
        draft = self._folder / f"{name}.new"
        shutil.rmtree(draft, ignore_errors=True)  # what an attempt that failed has left
        shard = call_edge(edge.EdgeShard.create, str(draft), new_config(schema, self._storage))
        _index(shard, schema)
        call_edge(shard.flush)
        call_edge(shard.close)
        with self._disk.moving():
            draft.rename(self._folder / name)
        self._serve(name, call_edge(edge.EdgeShard.load, str(self._folder / name)))

    def _serve(self, name: str, shard: edge.EdgeShard) -> None:
        self._shards[name] = shard
        self._candidates[name] = candidates_among(call_edge(shard.info).points_count)

    async def drop_collection(self, name: str) -> None:
        """Deletes a collection, if there is one of this name."""
        shard = self._shards.pop(name, None)
        if shard is not None:
            self._rarities.forget(name)
            self._payloads.forget(name)
            call_edge(shard.close)
            with self._disk.moving():
                # Renamed first: what a crash leaves of it is known as rubbish at the next start.
                forget_index(self._folder / name)
                dropped = (self._folder / name).rename(self._folder / f"{name}.dropped")
                shutil.rmtree(dropped)

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Adds points, replacing those of the same id."""
        if points:
            self._disk.check_writing()
            batch = [edge.Point(point.id, vectors_to_edge(point.vectors), point.payload) for point in points]
            self._written(collection, points)
            call_edge(self._shard(collection).update, edge.UpdateOperation.upsert_points(batch))
            await asyncio.sleep(0)

    async def put_if(self, collection: str, point: Point, match: Match | None) -> None:
        """Replaces the point of this id if it matches, or adds it if there is none and `match` is None."""
        self._disk.check_writing()
        operation = edge.UpdateOperation.upsert_points(
            [edge.Point(point.id, vectors_to_edge(point.vectors), point.payload)],
            condition=None if match is None else filter_to_edge(match),
            update_mode=edge.UpdateMode.InsertOnly if match is None else edge.UpdateMode.UpdateOnly,
        )
        self._written(collection, [point])
        call_edge(self._shard(collection).update, operation)
        await asyncio.sleep(0)

    def _written(self, collection: str, points: Sequence[Point]) -> None:
        # Before they are: nobody reads in between, and one that fails may have been made in part.
        self._rarities.written(collection, points)
        self._payloads.written(collection, points)

    async def set_vectors(self, collection: str, vectors: Mapping[str, Mapping[str, Vector]]) -> None:
        """Sets named vectors of points that are there."""
        if vectors:
            self._disk.check_writing()
            batch = [edge.PointVectors(id_, vectors_to_edge(named)) for id_, named in vectors.items()]
            call_edge(self._shard(collection).update, edge.UpdateOperation.update_vectors(batch))
            await asyncio.sleep(0)

    async def set_payload(self, collection: str, match: Match, payload: Payload) -> None:
        """Sets payload fields of all points that match."""
        self._disk.check_writing()
        operation = edge.UpdateOperation.set_payload_by_filter(filter_to_edge(match), payload)
        self._payloads.forget(collection)
        call_edge(self._shard(collection).update, operation)
        await asyncio.sleep(0)

    async def delete(self, collection: str, match: Match) -> None:
        """Deletes all points that match."""
        self._disk.check_writing()  # what is deleted is written down, too
        self._rarities.deleted(collection, match)
        call_edge(self._shard(collection).update, edge.UpdateOperation.delete_points_by_filter(filter_to_edge(match)))

    async def nearest(self, collection: str, queries: Sequence[NearestQuery]) -> list[list[Hit]]:
        """The points nearest to each query. What is asked in the same turn of the loop goes together."""
        if not queries:
            return []
        queries = await self._rarities.weighed(self._shard(collection), collection, queries)
        asked = _Asked(collection, queries, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer())
        await asked.done
        return asked.found

    async def _answer(self) -> None:
        while self._asked:
            part = self._take()
            if part:
                self._search(part)
            await asyncio.sleep(0)

    def _take(self) -> "list[tuple[_Asked, Sequence[NearestQuery]]]":
        """The next queries, of one collection, in the order in which they were asked."""
        part: list[tuple[_Asked, Sequence[NearestQuery]]] = []
        room = _QUERY_PART
        while self._asked and room:
            first = self._asked[0]
            if part and first.collection != part[0][0].collection:
                break
            if first.done.done():  # whoever asked is gone
                self._asked.popleft()
                continue
            queries = first.queries[first.taken : first.taken + room]
            first.taken += len(queries)
            room -= len(queries)
            part.append((first, queries))
            if first.taken == len(first.queries):
                self._asked.popleft()
        return part

    def _search(self, part: "Sequence[tuple[_Asked, Sequence[NearestQuery]]]") -> None:
        queries = [query for _, own in part for query in own]
        try:
            collection = part[0][0].collection
            shard = self._shard(collection)
            candidates = self._candidates[collection]
            batch = edge.QueryBatchRequest([query_to_edge(query, self._storage, candidates) for query in queries])
            found = call_edge(shard.query_batch, batch)
            every_hit = iter(self._payloads.hits(shard, collection, found, [query.fields for query in queries]))
            hits = [[next(every_hit) for _ in own] for _, own in part]
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            for one, _ in part:
                if not one.done.done():
                    one.done.set_exception(error)
            return
        for (asked, _), own_hits in zip(part, hits, strict=True):
            asked.found += own_hits
            if len(asked.found) == len(asked.queries) and not asked.done.done():
                asked.done.set_result(None)

    async def retrieve(self, collection: str, ids: Sequence[str], fields: tuple[str, ...] | None) -> list[Found]:
        """The points of these ids."""
        with_payload = True if fields is None else list(fields)
        records = call_edge(self._shard(collection).retrieve, list(ids), with_payload, False)  # noqa: FBT003
        return [Found(str(record.id), record.payload or {}) for record in records]

    async def scroll(
        self, collection: str, match: Match, limit: int, from_id: str | None, vectors: tuple[str, ...] = ()
    ) -> tuple[list[Found], str | None]:
        """Up to `limit` points that match, by id."""
        request = edge.ScrollRequest(
            offset=from_id,
            limit=limit,
            filter=filter_to_edge(match),
            with_payload=True,
            with_vector=list(vectors) if vectors else False,
        )
        records, following = call_edge(self._shard(collection).scroll, request)
        await asyncio.sleep(0)
        found = [
            Found(str(record.id), record.payload or {}, vectors=vectors_from_edge(record.vector)) for record in records
        ]
        return found, None if following is None else str(following)

    async def count(self, collection: str, match: Match) -> int:
        """How many points match."""
        return call_edge(self._shard(collection).count, edge.CountRequest(exact=True, filter=filter_to_edge(match)))

    async def least(self, collection: str, key: str, match: Match) -> int | None:
        """The smallest value that an integer field has among the points that match."""
        request = edge.ScrollRequest(
            limit=1, filter=filter_to_edge(match), with_payload=[key], with_vector=False, order_by=edge.OrderBy(key)
        )
        records, _ = call_edge(self._shard(collection).scroll, request)
        return (records[0].payload or {})[key] if records else None

    async def facet(self, collection: str, key: str, match: Match, limit: int) -> dict[str, int]:
        """How many of the points that match have each value of a field."""
        request = edge.FacetRequest(key, limit=limit, exact=True, filter=filter_to_edge(match))
        return {str(hit.value): hit.count for hit in call_edge(self._shard(collection).facet, request)}

    async def flush(self, collection: str) -> None:
        """Lets go of the log of what was written."""
        call_edge(self._shard(collection).flush)

    async def ping(self) -> None:
        """Returns when the engine answers."""
        for shard in self._shards.values():
            call_edge(shard.info)

    def _shard(self, collection: str) -> edge.EdgeShard:
        shard = self._shards.get(collection)
        if shard is None:  # whoever asks began before another encoder's vectors were served, and the former dropped
            raise StoreUnavailable("what was asked for has just been replaced: try again")
        return shard

    async def close(self) -> None:
        """Writes everything out and lets the folder go."""
        self._close()

    def _close(self) -> None:
        self._rarities.close()
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def build_indexes(folder: Path, storage: VectorStorage | None = None) -> int:
    """Builds the indexes of all collections in a data folder, their vectors kept as it is said, or as they are.

    Returns:
        How many points they have.

    Raises:
        StoreLocked: A process has it open.
        StoreUnavailable: An index could not be built.
        Interrupted: Building one was; in the main thread it is a `KeyboardInterrupt`.
    """
    lock = _lock(folder)
    try:
        paths = [path for path in sorted((folder / "collections").iterdir()) if is_collection(path)]
        if storage:
            for path in paths:
                call_edge(keep_as, path, storage)
        return sum(map(build_index, paths))
    finally:
        os.close(lock)


def vacuum_collections(folder: Path) -> int:
    """Writes all collections of a data folder anew, without what was deleted; their indexes are still to be built.

    Returns:
        How many points they have.

    Raises:
        StoreLocked: A process has it open.
        StoreUnavailable: A collection could not be written; it is as it was.
    """
    lock = _lock(folder)
    try:
        finish_vacuum(folder / "collections")
        paths = [path for path in sorted((folder / "collections").iterdir()) if is_collection(path)]
        return sum(call_edge(vacuum_collection, path) for path in paths)
    finally:
        os.close(lock)


def _index(shard: edge.EdgeShard, schema: Schema) -> None:
    """Creates the indexes of a schema that are missing, or of an earlier version: those of times had a table, too."""
    there = call_edge(shard.info).payload_schema
    index = edge.UpdateOperation.create_field_index
    kinds: dict[str, Any] = {
        schema.tenant: edge.KeywordIndexParams(is_tenant=True),
        **dict.fromkeys(schema.keywords, edge.PayloadSchemaType.Keyword),
        **dict.fromkeys(schema.integers, edge.PayloadSchemaType.Integer),
        **dict.fromkeys(schema.times, edge.IntegerIndexParams(lookup=False, range=True)),
    }
    for key, kind in kinds.items():
        if key not in there or (key in schema.times and there[key].params is None):
            call_edge(shard.update, index(key, kind))


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreLocked(
            f"the data folder {folder} is open in another process (pid {holder}): stop it, name another folder with "
            "--data-dir, or let several processes share a Qdrant server (NEARVOTE_QDRANT_URL)"
        ) from error
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
