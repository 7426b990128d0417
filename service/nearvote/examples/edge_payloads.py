"""Payloads of the points that searches in the embedded store find, kept at hand: reading them is half of a search."""

import uuid
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import qdrant_edge as edge

from nearvote.examples.edge_call import call_edge
from nearvote.examples.engine import Hit, Payload, Point

# Some 10 MB of payloads without texts.
_MOST = 16_384

_Found = Sequence[edge.ScoredPoint]
# Payloads by the number that their point's id is.
_Kept = dict[int, Payload]


class Payloads:
    """Payloads of points, cut to the fields that searches ask for. Whoever writes says what is not so any more.

    Args:
        most: How many are kept, of each choice of fields in each collection; the oldest go.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._kept: dict[str, dict[tuple[str, ...], _Kept]] = {}

    def hits(
        self, shard: edge.EdgeShard, collection: str, found: Sequence[_Found], fields: Sequence[tuple[str, ...]]
    ) -> list[list[Hit]]:
        """What searches found, with the payloads of the points.

        Args:
            shard: Where those are read that are not kept.
            collection: Its name.
            found: Points of each search.
            fields: Fields of each search.
        """
        ids: list[list[Any]] = [[point.id for point in points] for points in found]
        missing: dict[tuple[str, ...], dict[int, Any]] = {}
        for own_ids, own_fields in zip(ids, fields, strict=True):
            kept = self._of(collection, own_fields)
            not_kept = [id_ for id_ in own_ids if id_.int not in kept]
            if not_kept:
                missing.setdefault(own_fields, {}).update({id_.int: id_ for id_ in not_kept})
        read = {own_fields: _read(shard, own.values(), own_fields) for own_fields, own in missing.items()}
        hits = []
        for points, own_ids, own_fields in zip(found, ids, fields, strict=True):
            payloads = self._of(collection, own_fields)
            if own_fields in read:
                payloads = {
                    **read[own_fields],
                    **{id_.int: payloads[id_.int] for id_ in own_ids if id_.int in payloads},
                }
            hits.append([Hit(payloads[id_.int], point.score) for id_, point in zip(own_ids, points, strict=True)])
        for own_fields, own in read.items():
            self._keep(self._of(collection, own_fields), own)
        return hits

    def written(self, collection: str, points: Iterable[Point]) -> None:
        """These points have other payloads now."""
        kept = self._kept.get(collection)
        if kept:
            numbers = [uuid.UUID(point.id).int for point in points]
            for own in kept.values():
                for number in numbers:
                    own.pop(number, None)

    def forget(self, collection: str) -> None:
        """Any of the collection's points may have another payload now."""
        self._kept.pop(collection, None)

    def _of(self, collection: str, fields: tuple[str, ...]) -> _Kept:
        return self._kept.setdefault(collection, {}).setdefault(fields, {})

    def _keep(self, kept: _Kept, new: _Kept) -> None:
        kept.update(new)
        for number in list(islice(kept, max(0, len(kept) - self._most))):
            del kept[number]


def _read(shard: edge.EdgeShard, ids: Iterable[Any], fields: tuple[str, ...]) -> _Kept:
    records: Sequence[Any] = call_edge(shard.retrieve, list(ids), list(fields), False)  # noqa: FBT003
    return {record.id.int: record.payload or {} for record in records}
