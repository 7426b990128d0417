"""From points to examples: the nearest examples of a message whose windows, and theirs, are points each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nearvote.examples.engine import Engine, Hit, Match, NearestQuery, Payload, Sparse, Vector
from nearvote.examples.readable import readable
from nearvote.examples.store import SearchQuery
from nearvote.text.surface import SparseVector
from nearvote.voting.neighbor import Neighbor, View, merge_windows, nearest_first

_FIELDS = ("example_id", "labels", "weight", "source", "fingerprint", "updated_us", "expires_us")
# How much further than asked a search looks for more examples of equal nearness.
_MOST_TIMES = 64
# Points that each of a message's windows asks for at first. Mostly few of many windows come close to anything.
_LEAST_FIRST = 8


async def nearest_examples(
    engine: Engine, collection: str, queries: Sequence[SearchQuery], now_us: int
) -> list[list[Neighbor]]:
    """The examples nearest to each query, nearest first, each example once, but those that have ended.

    A message's windows are searched a little each; further on only where what is still unseen may lie nearer than
    the last of those found, which is the threshold algorithm of Fagin, Lotem and Naor (2003). Examples that have ended
    and are still to be deleted are found as well, and passed over (DECISIONS 55).

    Raises:
        StoreUnavailable: The engine did not answer, or nothing that can be read.
    """
    searches = [_Search(query) for query in queries]
    while pending := [(search, part) for search in searches for part in search.unfinished()]:
        found = await engine.nearest(collection, [search.asking(part) for search, part in pending])
        with readable():
            for (search, part), points in zip(pending, found, strict=True):
                part.read(points, search.query, now_us)
    return [search.merged() for search in searches]


@dataclass(slots=True)
class _Part:
    """One window's search."""

    window: int
    vector: Vector
    depth: int  # points to ask for next
    found: list[Neighbor] = field(default_factory=list)
    unseen: float = math.inf  # no example that is still unseen is nearer than this
    begun: bool = False

    def read(self, points: Sequence[Hit], query: SearchQuery, now_us: int) -> None:
        self.found = _neighbors(points, query, self.window, now_us)
        self.unseen = _similarity(points[-1].score, query.view) if len(points) >= self.depth else -math.inf
        self.depth *= 2
        self.begun = True


class _Search:
    """The search for one query."""

    def __init__(self, query: SearchQuery) -> None:
        self.query = query
        vector = query.vector
        self._using = query.slot.value if query.slot else query.view.value
        self._corpus: Match = {"tenant": query.tenant, "task": query.task}
        self._match = {**self._corpus, "labels": query.label} if query.label else self._corpus
        if isinstance(vector, SparseVector):
            parts: list[Vector] = [Sparse(vector.indices.tolist(), vector.values.tolist())]
        else:
            parts = np.atleast_2d(vector).tolist()
        # One more than asked for tells whether there is a tie at the end.
        first = min(query.limit + 1, max(_LEAST_FIRST, 2 * (query.limit + 1) // max(1, len(parts))))
        self._parts = [
            _Part(window, part, first if len(parts) > 1 else query.limit + 1) for window, part in enumerate(parts)
        ]

    def asking(self, part: _Part) -> NearestQuery:
        corpus = self._corpus if isinstance(part.vector, Sparse) else {}
        return NearestQuery(part.vector, self._using, self._match, part.depth, _FIELDS, corpus)

    def merged(self) -> list[Neighbor]:
        if len(self._parts) == 1:
            return self._parts[0].found[: self.query.limit]
        return merge_windows([part.found for part in self._parts], self.query.limit)

    def unfinished(self) -> list[_Part]:
        """The windows that may still have something nearer than the last of what would be answered."""
        limit, merged = self.query.limit, self.merged()
        last = merged[-1].similarity if len(merged) == limit else -math.inf
        return [
            part
            for part in self._parts
            if part.unseen > last
            or not part.begun
            or (part.unseen == last and part.unseen > -math.inf and part.depth <= _MOST_TIMES * limit)
        ]


def _neighbors(points: Sequence[Hit], query: SearchQuery, window: int, now_us: int) -> list[Neighbor]:
    nearest: dict[str, Neighbor] = {}
    view = query.view
    for payload, score in points:  # nearest first: an example's first point is its nearest window
        example_id = payload["example_id"]
        if example_id not in nearest and is_live(payload, now_us):
            nearest[example_id] = Neighbor(
                example_id,
                tuple(payload["labels"]),
                _similarity(score, view),
                payload["weight"],
                view,
                window,
                payload["source"],
                fingerprint=payload["fingerprint"],
                updated_us=payload["updated_us"],
            )
    return nearest_first(list(nearest.values()))


def is_live(payload: Payload, now_us: int) -> bool:
    """Whether an example has not ended. Those of earlier versions have no such field."""
    expires_us = payload.get("expires_us")
    return expires_us is None or expires_us > now_us


def _similarity(score: float, view: View) -> float:
    if view is View.SURFACE or -1.0 <= score <= 1.0:
        return score
    # Rounding puts the cosine of equal vectors a little above 1. What is no number is near to nothing.
    return 1.0 if score > 1.0 else -1.0
