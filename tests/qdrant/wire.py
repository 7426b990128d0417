"""Between Qdrant's wire types and Edge's. What the stand-in does not understand is refused, never passed over."""

from collections.abc import Iterable, Mapping
from typing import Any

import qdrant_edge as edge
from google.protobuf.message import Message
from qdrant_client import grpc as pb


class Unknown(Exception):
    """A request says something that the stand-in does not know."""


def only(message: Message, *known: str) -> None:
    """Refuses a message that has other fields than these."""
    beyond = [field.name for field, _ in message.ListFields() if field.name not in known]
    if beyond:
        raise Unknown(f"the stand-in does not know {', '.join(beyond)} of {message.DESCRIPTOR.full_name}")


def id_from_wire(id_: Any) -> int | str:
    """A point's id."""
    return id_.uuid if id_.WhichOneof("point_id_options") == "uuid" else int(id_.num)


def id_to_wire(id_: object) -> Any:
    """A point's id."""
    return pb.PointId(num=id_) if isinstance(id_, int) else pb.PointId(uuid=str(id_))


def payload_from_wire(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payload as JSON values."""
    return {key: _value_from_wire(value) for key, value in payload.items()}


def payload_to_wire(payload: Mapping[str, Any] | None) -> dict[str, Any]:
    """A payload of JSON values."""
    return {key: _value_to_wire(value) for key, value in (payload or {}).items()}


def _value_from_wire(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return payload_from_wire(value.struct_value.fields)
    if kind == "list_value":
        return [_value_from_wire(item) for item in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, kind)


def _value_to_wire(value: Any) -> Any:  # noqa: PLR0911 - one for each kind
    match value:
        case None:
            return pb.Value(null_value=pb.NullValue.NULL_VALUE)
        case bool():
            return pb.Value(bool_value=value)
        case int():
            return pb.Value(integer_value=value)
        case float():
            return pb.Value(double_value=value)
        case str():
            return pb.Value(string_value=value)
        case dict():
            return pb.Value(struct_value=pb.Struct(fields=payload_to_wire(value)))
        case _:
            return pb.Value(list_value=pb.ListValue(values=[_value_to_wire(item) for item in value]))


def vector_from_wire(vector: Any) -> Any:
    """A vector of a point or of a query."""
    kind = next((name for name in ("dense", "sparse") if vector.HasField(name)), "")
    only(vector, kind)
    if kind == "sparse":
        return edge.SparseVector(list(vector.sparse.indices), list(vector.sparse.values))
    return list(vector.dense.data)


def vectors_from_wire(vectors: Any) -> dict[str, Any]:
    """A point's named vectors."""
    only(vectors, "vectors")
    return {name: vector_from_wire(vector) for name, vector in vectors.vectors.vectors.items()}


def vectors_to_wire(vectors: Any) -> Any:
    """A point's named vectors."""
    named = vectors if isinstance(vectors, dict) else {}
    return pb.VectorsOutput(
        vectors=pb.NamedVectorsOutput(vectors={name: _vector_to_wire(vector) for name, vector in named.items()})
    )


def _vector_to_wire(vector: Any) -> Any:
    if isinstance(vector, edge.SparseVector):
        return pb.VectorOutput(sparse=pb.SparseVector(indices=vector.indices, values=vector.values))
    return pb.VectorOutput(dense=pb.DenseVector(data=vector))


def payload_selector(selector: Any) -> Any:
    """Which payload fields to give: all, none, or some."""
    only(selector, "enable", "include")
    return list(selector.include.fields) if selector.HasField("include") else selector.enable


def vectors_selector(selector: Any) -> Any:
    """Which vectors to give: all, none, or some."""
    only(selector, "enable", "include")
    return list(selector.include.names) if selector.HasField("include") else selector.enable


def filter_from_wire(filter_: Any) -> edge.Filter:
    """A filter."""
    only(filter_, "must", "should", "must_not")
    return edge.Filter(
        must=_conditions(filter_.must), should=_conditions(filter_.should), must_not=_conditions(filter_.must_not)
    )


def _conditions(conditions: Iterable[Any]) -> list[Any] | None:
    return [_condition(condition) for condition in conditions] or None


def _condition(condition: Any) -> Any:
    kind = condition.WhichOneof("condition_one_of")
    match kind:
        case "field":
            return _field_condition(condition.field)
        case "filter":
            return filter_from_wire(condition.filter)
        case "has_id":
            return edge.HasIdCondition({id_from_wire(id_) for id_ in condition.has_id.has_id})
        case "is_empty":
            return edge.IsEmptyCondition(condition.is_empty.key)
        case _:
            raise Unknown(f"the stand-in does not know the condition {kind}")


def _field_condition(field: Any) -> edge.FieldCondition:
    only(field, "key", "match", "range")
    if field.HasField("range"):
        bounds = {name: getattr(field.range, name) for name in ("lt", "gt", "gte", "lte") if field.range.HasField(name)}
        return edge.FieldCondition(field.key, range=edge.RangeFloat(**bounds))
    kind = field.match.WhichOneof("match_value")
    match kind:
        case "keyword" | "integer" | "boolean":
            return edge.FieldCondition(field.key, match=edge.MatchValue(getattr(field.match, kind)))
        case "keywords":
            return edge.FieldCondition(field.key, match=edge.MatchAny(list(field.match.keywords.strings)))
        case "integers":
            return edge.FieldCondition(field.key, match=edge.MatchAny(list(field.match.integers.integers)))
        case _:
            raise Unknown(f"the stand-in does not know the match {kind}")


def _quantization_from_wire(params: Any) -> edge.QuantizationSearchParams:
    return edge.QuantizationSearchParams(
        ignore=params.ignore,
        rescore=params.rescore if params.HasField("rescore") else None,
        oversampling=params.oversampling if params.HasField("oversampling") else None,
    )


def query_from_wire(query: Any) -> edge.QueryRequest:
    """A search for the nearest."""
    only(query, "collection_name", "query", "using", "filter", "params", "limit", "with_payload", "with_vectors")
    only(query.query, "nearest")
    only(query.params, "idf", "exact", "hnsw_ef", "indexed_only", "quantization")
    only(query.params.quantization, "ignore", "rescore", "oversampling")
    params = None
    if query.HasField("params"):
        corpus = filter_from_wire(query.params.idf.corpus) if query.params.HasField("idf") else None
        params = edge.SearchParams(
            hnsw_ef=query.params.hnsw_ef or None,
            exact=query.params.exact,
            indexed_only=query.params.indexed_only,
            idf=edge.IdfParams(corpus=corpus) if corpus else None,
            quantization=_quantization_from_wire(query.params.quantization),
        )
    return edge.QueryRequest(
        query=edge.Query.Nearest(vector_from_wire(query.query.nearest), using=query.using),
        filter=filter_from_wire(query.filter),
        limit=query.limit,
        with_payload=payload_selector(query.with_payload),
        with_vector=vectors_selector(query.with_vectors),
        params=params,
    )
