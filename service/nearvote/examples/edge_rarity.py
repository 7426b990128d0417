"""How rare n-grams are among a task's examples, for the embedded store: queries are weighed by it.

An element has Qdrant's inverse document frequency, ln(1 + (N - n + .5) / (n + .5)), for N points of which n have
it. Edge would count them anew with every query, which takes longer than the search (DECISIONS 68).
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import qdrant_edge as edge
import structlog

from nearvote.errors import StoreUnavailable
from nearvote.examples.edge_call import call_edge
from nearvote.examples.edge_types import filter_to_edge
from nearvote.examples.engine import Match, NearestQuery, Point, Sparse
from nearvote.text.surface import BUCKETS

# Of more points the first by id are looked at. Ids are hashes, so these are a fair sample.
_SAMPLE_POINTS = 20_000
_SAMPLE_ELEMENTS = 4_000_000
# Points and elements read before others get their turn: a millisecond.
_PAGE_POINTS = 64
_PAGE_ELEMENTS = 6_400
# So few points are counted again before the next search; more are while searches go on with what was counted.
_FEW = 200
# Counting takes at most one part in so many of the time...
_REST = 50
# ... and waits for so large a share of the points to have changed, or for so long.
_CHANGED = 0.01
_OLDEST_SECONDS = 30.0
# Elements that are kept of all corpora together: 32 MB. Those of the corpora asked for least recently go.
_MOST_ELEMENTS = 4_000_000

_Key = tuple[str, str, tuple[tuple[str, object], ...]]  # collection, vector, corpus

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Table:
    """The weights of a corpus' elements.

    Attributes:
        indices: (n,) ascending, those that two points or more have.
        weights: (n,) theirs.
        rare: The weight of all others.
        points: How many there were.
        seconds: How long counting took.
        counted_at: When it ended, in seconds of the clock.
        changes: Points written or deleted since it began.
    """

    indices: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]
    rare: float
    points: int
    seconds: float
    counted_at: float
    changes: float = 0

    def weighed(self, vector: Sparse) -> Sparse:
        """A vector, its elements weighed."""
        indices, values = np.asarray(vector.indices, np.uint32), np.asarray(vector.values, np.float32)
        if not len(self.indices):
            return Sparse(vector.indices, (values * self.rare).tolist())
        places = np.minimum(np.searchsorted(self.indices, indices), len(self.indices) - 1)
        weights = np.where(self.indices[places] == indices, self.weights[places], np.float32(self.rare))
        return Sparse(vector.indices, (values * weights).tolist())


class Rarities:
    """Weighs queries by how rare their elements are in the corpus they name.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tables: OrderedDict[_Key, _Table] = OrderedDict()
        self._counting: dict[_Key, asyncio.Task[_Table]] = {}
        self._changed: dict[_Key, float] = {}  # while they are counted
        self._kinds: set[tuple[str, str, tuple[str, ...]]] = set()  # collection, vector, and fields of its corpora

    async def weighed(
        self, shard: edge.EdgeShard, collection: str, queries: Sequence[NearestQuery]
    ) -> list[NearestQuery]:
        """Queries as they are to be searched: those that name a corpus weighed by it, the others as they are.

        Raises:
            StoreUnavailable: The corpus could not be read.
        """
        tables = [await self._table(shard, collection, query) if query.corpus else None for query in queries]
        return [
            query
            if table is None or not isinstance(query.vector, Sparse)
            else replace(query, vector=table.weighed(query.vector))
            for query, table in zip(queries, tables, strict=True)
        ]

    def written(self, collection: str, points: Sequence[Point]) -> None:
        """These points were added, or replaced."""
        for own, using, names in self._kinds:
            if own == collection:
                for point in points:
                    if using in point.vectors:
                        corpus = tuple((name, point.payload.get(name)) for name in names)
                        self._note((collection, using, corpus), 1)

    def deleted(self, collection: str, match: Match) -> None:
        """Nobody knows how many points that match were deleted."""
        for key in [*self._tables, *self._counting]:
            own, _, corpus = key
            if own == collection and all(match.get(name, value) == value for name, value in corpus):
                self._note(key, math.inf)

    def forget(self, collection: str) -> None:
        """The collection is gone."""
        for key in [key for key in self._tables if key[0] == collection]:
            del self._tables[key]
        for key in [key for key in self._counting if key[0] == collection]:
            self._note(key, math.inf)  # what it finds is not of one that is created under this name

    def close(self) -> None:
        """Ends what is being counted."""
        for task in self._counting.values():
            task.cancel()

    def _note(self, key: _Key, changes: float) -> None:
        if key in self._tables:
            self._tables[key].changes += changes
        if key in self._counting:
            self._changed[key] += changes

    async def _table(self, shard: edge.EdgeShard, collection: str, query: NearestQuery) -> _Table:
        key = (collection, query.using, tuple(query.corpus.items()))
        while True:
            table = self._tables.get(key)
            if table is not None and (not table.changes or table.points > _FEW):
                self._tables.move_to_end(key)
                if table.changes and self._is_due(table):
                    self._count(shard, key, query.corpus)
                return table
            counting = self._counting.get(key)
            if counting is None or not self._changed[key]:
                return await asyncio.shield(self._count(shard, key, query.corpus))
            await _ended(counting)  # it may have begun before what was just written

    def _is_due(self, table: _Table) -> bool:
        age = self._clock() - table.counted_at
        enough = table.changes >= _CHANGED * table.points or age >= _OLDEST_SECONDS
        return enough and age >= _REST * table.seconds

    def _count(self, shard: edge.EdgeShard, key: _Key, corpus: Match) -> "asyncio.Task[_Table]":
        task = self._counting.get(key)
        if task is None:
            self._kinds.add((key[0], key[1], tuple(corpus)))
            task = self._counting[key] = asyncio.create_task(self._keep(shard, key, corpus))
            self._changed[key] = 0
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, if nobody waits for it
        return task

    async def _keep(self, shard: edge.EdgeShard, key: _Key, corpus: Match) -> _Table:
        # All is put away before the task has ended: who waits for one that has does not let the loop go on.
        try:
            table = await self._counted(shard, key, corpus)
            table.changes = self._changed[key]
        except StoreUnavailable as error:  # whoever waits for it is told as well
            _log.warning("rarity_not_counted", cause=type(error).__name__)
            raise
        finally:
            del self._counting[key], self._changed[key]
        self._tables[key] = table
        while len(self._tables) > 1 and sum(len(own.indices) for own in self._tables.values()) > _MOST_ELEMENTS:
            self._tables.popitem(last=False)
        return table

    async def _counted(self, shard: edge.EdgeShard, key: _Key, corpus: Match) -> _Table:
        using = key[1]
        match = edge.Filter(must=[filter_to_edge(corpus), edge.HasVectorCondition(using)])
        frequency = np.zeros(BUCKETS, np.uint32)
        seconds, points, elements, start, limit = 0.0, 0, 0, None, _PAGE_POINTS
        while True:
            began = self._clock()
            request = edge.ScrollRequest(
                offset=start, limit=limit, filter=match, with_payload=False, with_vector=[using]
            )
            records, start = call_edge(shard.scroll, request)
            for record in records:
                vectors: Any = record.vector
                indices = np.asarray(vectors[using].indices, np.uint32)
                frequency[indices] += 1  # each is there once
                elements += len(indices)
            points += len(records)
            limit = max(1, min(_PAGE_POINTS, _PAGE_ELEMENTS * points // max(1, elements)))
            seconds += self._clock() - began
            if start is None:
                return self._table_of(frequency, points, points, seconds)
            if points >= _SAMPLE_POINTS or elements >= _SAMPLE_ELEMENTS:
                total = call_edge(shard.count, edge.CountRequest(exact=True, filter=match))
                return self._table_of(frequency, points, max(points, total), seconds)
            await asyncio.sleep(0)

    def _table_of(self, frequency: npt.NDArray[np.uint32], looked_at: int, points: int, seconds: float) -> _Table:
        indices = np.flatnonzero(frequency > 1).astype(np.uint32)
        having = frequency[indices] * np.float64(points / max(1, looked_at))
        weights = np.log1p((points - having + 0.5) / (having + 0.5)).astype(np.float32)
        once = points / max(1, looked_at)
        rare = math.log1p((points - once + 0.5) / (once + 0.5)) if points else 0.0
        return _Table(indices, weights, rare, points, seconds, self._clock())


async def _ended(task: "asyncio.Task[_Table]") -> None:
    with suppress(StoreUnavailable):  # whoever comes next counts for itself
        await asyncio.shield(task)
