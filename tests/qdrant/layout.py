"""How the stand-in's collections keep their vectors: between Qdrant's wire types and a shard's `edge_config.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client import grpc as pb

from tests.qdrant.wire import Unknown, only


def new_config(request: Any) -> edge.EdgeConfig:
    """Of a collection that is to be created."""
    only(request.vectors_config, "params_map")
    dense = request.vectors_config.params_map.map
    for params in dense.values():
        only(params, "size", "distance", "on_disk", "quantization_config")
        if params.distance != pb.Distance.Cosine:
            raise Unknown("the stand-in knows cosines alone")
    vectors = {
        name: _dense(params.size, on_disk=params.on_disk, quantized=_is_quantized(params.quantization_config))
        for name, params in dense.items()
    }
    return _config(vectors, {name: _sparse(params) for name, params in request.sparse_vectors_config.map.items()})


def changed_config(path: Path, request: Any) -> edge.EdgeConfig:
    """Of a collection that is there, as an update changes it."""
    only(request.vectors_config, "params_map")
    stored = _read(path)
    vectors = {}
    for name, own in stored["vectors"].items():
        params = request.vectors_config.params_map.map[name] if request.HasField("vectors_config") else None
        on_disk, quantized = _is_cold(own), "quantization_config" in own
        if params is not None:
            only(params, "on_disk", "quantization_config")
            on_disk = params.on_disk if params.HasField("on_disk") else on_disk
            quantized = (
                _is_quantized(params.quantization_config) if params.HasField("quantization_config") else quantized
            )
        vectors[name] = _dense(own["size"], on_disk=on_disk, quantized=quantized)
    changed = request.sparse_vectors_config.map
    sparse = {
        name: _sparse(changed[name]) if name in changed else _sparse(_sparse_to_wire(own))
        for name, own in stored["sparse_vectors"].items()
    }
    return _config(vectors, sparse)


def params_of(path: Path) -> Any:
    """What a collection says of its vectors."""
    stored = _read(path)
    dense = {}
    for name, own in stored["vectors"].items():
        quantization = pb.QuantizationConfig(scalar=_INT8) if "quantization_config" in own else None
        dense[name] = pb.VectorParams(
            size=own["size"], distance=pb.Distance.Cosine, on_disk=_is_cold(own), quantization_config=quantization
        )
    sparse = {name: _sparse_to_wire(own) for name, own in stored["sparse_vectors"].items() if name != _NONE}
    return pb.CollectionParams(
        vectors_config=pb.VectorsConfig(params_map=pb.VectorParamsMap(map=dense)),
        sparse_vectors_config=pb.SparseVectorConfig(map=sparse),
    )


_NONE = "none"  # Edge wants one vector field at least, a server does not
_INT8 = pb.ScalarQuantization(type=pb.QuantizationType.Int8, always_ram=True)


def _config(
    vectors: Mapping[str, edge.EdgeVectorParams], sparse: Mapping[str, edge.EdgeSparseVectorParams]
) -> edge.EdgeConfig:
    if not vectors and not sparse:
        sparse = {_NONE: edge.EdgeSparseVectorParams()}
    return edge.EdgeConfig(vectors=dict(vectors) or None, sparse_vectors=dict(sparse) or None, max_search_threads=1)


def _read(path: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((path / "edge_config.json").read_text())
    return {"vectors": {}, "sparse_vectors": {}, **stored}


def _is_cold(own: Mapping[str, Any]) -> bool:
    return own.get("memory") == "cold"


def _is_quantized(config: Any) -> bool:
    only(config, "scalar", "disabled")
    if config.WhichOneof("quantization") != "scalar":
        return False
    only(config.scalar, "type", "always_ram")
    return True


def _dense(size: int, *, on_disk: bool, quantized: bool) -> edge.EdgeVectorParams:
    return edge.EdgeVectorParams(
        size,
        edge.Distance.Cosine,
        memory=edge.Memory.Cold if on_disk else edge.Memory.Cached,
        quantization_config=edge.ScalarQuantizationConfig(edge.ScalarType.Int8) if quantized else None,
    )


def _sparse(params: Any) -> edge.EdgeSparseVectorParams:
    only(params, "modifier", "index")
    only(params.index, "on_disk")
    return edge.EdgeSparseVectorParams(
        modifier=edge.Modifier.Idf if params.modifier == pb.Modifier.Idf else None,
        memory=edge.Memory.Cold if params.index.on_disk else edge.Memory.Pinned,
    )


def _sparse_to_wire(own: Mapping[str, Any]) -> Any:
    return pb.SparseVectorParams(
        modifier=pb.Modifier.Idf if own.get("modifier") else None, index=pb.SparseIndexConfig(on_disk=_is_cold(own))
    )
