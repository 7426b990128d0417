"""The few operations of Qdrant that nearvote needs, the same for an engine in the process and for a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from nearvote.voting.metric import Slot

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UpTo:
    """What a number matches that is not above this one."""

    most: int


@dataclass(frozen=True, slots=True)
class NotUpTo:
    """What a number matches that is above this one, and a field that is not there or null."""

    most: int


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What a text matches that is one of these."""

    values: Sequence[str]


# Payload fields and what they must be, None for those that are not there; a list matches when it has the value.
Match = Mapping[str, str | int | UpTo | NotUpTo | AnyOf | None]


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: the places of its elements, each once, and the elements."""

    indices: list[int]
    values: list[float]


Vector = list[float] | Sparse


@dataclass(frozen=True, slots=True)
class Point:
    """A point to be stored: a UUID, its named vectors, its payload."""

    id: str
    payload: Payload
    vectors: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A point that was found, its payload and vectors cut to those asked for."""

    id: str
    payload: Payload
    vectors: Mapping[str, Vector] = field(default_factory=dict)


class Hit(NamedTuple):
    """A point that a search has found: its payload, cut to what was asked for, and its score.

    A tuple, and without the point's id, since every message makes dozens of them.
    """

    payload: Payload
    score: float


@dataclass(frozen=True, slots=True)
class NearestQuery:
    """A search for the nearest vectors among the points that match.

    A sparse vector's elements are weighed by how rare they are among the points that match `corpus`.
    """

    vector: Vector
    using: str
    match: Match
    limit: int
    fields: tuple[str, ...]
    corpus: Match = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schema:
    """How a collection is laid out.

    Attributes:
        dense: Dimension of each named dense vector; compared by cosine.
        sparse: Names of sparse vectors; compared by dot product, weighed by inverse document frequency.
        tenant: Keyword field by which points are laid out together.
        keywords: Further keyword fields with an index.
        integers: Integer fields with an index.
        times: Integer fields that are only compared (`UpTo`) or ordered by, never matched or counted by value; their
            index has no table of values, and takes half the memory.
    """

    dense: Mapping[str, int]
    tenant: str
    keywords: tuple[str, ...]
    integers: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()


# Candidates that are compared in full for each neighbour asked for, where vectors are searched in 8 bits.
OVERSAMPLING = 2.0  # recall of the 20 nearest as without 8 bits; with 1 it loses .015: DECISIONS 98


# Slots for a learned metric are two thirds of all vectors, and most hold nothing that anybody searches. What is read of
# them stays in memory as long as there is room.
SELDOM_READ = frozenset(slot.value for slot in Slot)


@dataclass(frozen=True, slots=True)
class VectorStorage:
    """How vectors are kept and searched.

    Attributes:
        on_disk: Vectors, and the index of sparse ones, are read from the disk as they are needed; else memory has them,
            but for those that are `SELDOM_READ`.
        quantization: `int8`: dense vectors are searched by copies of 8 bits a dimension, and the best of these,
            OVERSAMPLING times as many as asked for, are compared in full. `none`: all are compared in full.
    """

    on_disk: bool = False
    quantization: Literal["none", "int8"] = "none"

    def on_disk_of(self, name: str) -> bool:
        """Whether dense vectors of this name are read from the disk as they are needed."""
        return self.on_disk or name in SELDOM_READ


class Engine(Protocol):
    """Qdrant. All methods raise StoreUnavailable when it does not answer; writes are durable when they return."""

    kind: Literal["edge", "server"]

    async def collections(self) -> set[str]:
        """Names of the collections."""
        ...

    async def create_collection(self, name: str, schema: Schema) -> None:
        """Creates a collection, if there is none of this name, and those of its indexes that are missing."""
        ...

    async def drop_collection(self, name: str) -> None:
        """Deletes a collection, if there is one of this name."""
        ...

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Adds points, replacing those of the same id: all of them or none."""
        ...

    async def put_if(self, collection: str, point: Point, match: Match | None) -> None:
        """Replaces the point of this id if it matches, or adds it if there is none and `match` is None; else nothing.

        Looked at and written in one step, whoever else writes. Whether it was written is to be read: of two tries that
        a broken connection makes of one, the second finds what the first has written.
        """
        ...

    async def set_vectors(self, collection: str, vectors: Mapping[str, Mapping[str, Vector]]) -> None:
        """Sets named vectors of points that are there, by id; their other vectors and their payload stay."""
        ...

    async def set_payload(self, collection: str, match: Match, payload: Payload) -> None:
        """Sets payload fields of all points that match; other fields stay."""
        ...

    async def delete(self, collection: str, match: Match) -> None:
        """Deletes all points that match."""
        ...

    async def nearest(self, collection: str, queries: Sequence[NearestQuery]) -> list[list[Hit]]:
        """The points nearest to each query, nearest first."""
        ...

    async def retrieve(self, collection: str, ids: Sequence[str], fields: tuple[str, ...] | None) -> list[Found]:
        """The points of these ids, those there are; all fields when `fields` is None."""
        ...

    async def scroll(
        self, collection: str, match: Match, limit: int, from_id: str | None, vectors: tuple[str, ...] = ()
    ) -> tuple[list[Found], str | None]:
        """Up to `limit` points that match, by id, beginning with `from_id`; and the id to go on from."""
        ...

    async def count(self, collection: str, match: Match) -> int:
        """How many points match."""
        ...

    async def least(self, collection: str, key: str, match: Match) -> int | None:
        """The smallest value that an integer field has among the points that match; None when none has one.

        The field has an index.
        """
        ...

    async def facet(self, collection: str, key: str, match: Match, limit: int) -> dict[str, int]:
        """How many of the points that match have each value of a keyword field, for up to `limit` values."""
        ...

    async def flush(self, collection: str) -> None:
        """Lets go of the log of what was written, which is durable without it then. A server does it by itself."""
        ...

    async def ping(self) -> None:
        """Returns when the engine answers."""
        ...

    async def close(self) -> None:
        """Lets go of what it holds. The engine is not used afterwards."""
        ...
