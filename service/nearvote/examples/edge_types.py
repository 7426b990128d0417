"""Between the engine's types and Edge's."""

from collections.abc import Mapping
from typing import Any

import qdrant_edge as edge

from nearvote.examples.engine import (
    OVERSAMPLING,
    AnyOf,
    Match,
    NearestQuery,
    NotUpTo,
    Sparse,
    UpTo,
    Vector,
    VectorStorage,
)


def vector_to_edge(vector: Vector) -> Any:
    """A vector of a point or of a query."""
    return edge.SparseVector(vector.indices, vector.values) if isinstance(vector, Sparse) else vector


def vectors_to_edge(vectors: Mapping[str, Vector]) -> dict[str, Any]:
    """A point's named vectors."""
    return {name: vector_to_edge(vector) for name, vector in vectors.items()}


def vectors_from_edge(vectors: Any) -> dict[str, Vector]:
    """A point's named vectors, those that were asked for."""
    if not isinstance(vectors, dict):  # none were asked for, or the point has none
        return {}
    return {
        name: Sparse(list(vector.indices), list(vector.values)) if isinstance(vector, edge.SparseVector) else vector
        for name, vector in vectors.items()
    }


def _search_params(storage: VectorStorage, candidates: int) -> edge.SearchParams:
    if storage.quantization == "none":
        how = edge.QuantizationSearchParams(ignore=True)
    else:
        how = edge.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
    return edge.SearchParams(hnsw_ef=candidates, quantization=how)


def query_to_edge(query: NearestQuery, storage: VectorStorage, candidates: int) -> edge.QueryRequest:
    """A search for the nearest points, without their payloads.

    Args:
        query: What is searched for; its vector is already weighed.
        storage: How vectors are kept.
        candidates: How many the index keeps at a time.
    """
    return edge.QueryRequest(
        query=edge.Query.Nearest(vector_to_edge(query.vector), using=query.using),
        filter=filter_to_edge(query.match),
        limit=query.limit,
        with_payload=False,
        params=_search_params(storage, candidates),
    )


def filter_to_edge(match: Match) -> edge.Filter:
    """What points must be."""
    return edge.Filter(
        must=[_condition_to_edge(key, value) for key, value in match.items() if not isinstance(value, NotUpTo)],
        must_not=[
            _condition_to_edge(key, UpTo(value.most)) for key, value in match.items() if isinstance(value, NotUpTo)
        ],
    )


def _condition_to_edge(
    key: str, value: "str | int | UpTo | AnyOf | None"
) -> edge.FieldCondition | edge.IsEmptyCondition:
    if value is None:
        return edge.IsEmptyCondition(key)
    if isinstance(value, UpTo):
        return edge.FieldCondition(key, range=edge.RangeFloat(lte=value.most))
    if isinstance(value, AnyOf):
        return edge.FieldCondition(key, match=edge.MatchAny(list(value.values)))
    return edge.FieldCondition(key, match=edge.MatchValue(value))
