"""How a collection on a server keeps its vectors, in qdrant-client's words.

`on_disk` and `always_ram` rather than `memory`, which servers before 1.19 do not know.
"""

from typing import Any

from qdrant_client import models

from nearvote.examples.engine import OVERSAMPLING, SELDOM_READ, VectorStorage


def dense_params(name: str, dimension: int, storage: VectorStorage) -> models.VectorParams:
    """A dense vector's."""
    return models.VectorParams(
        size=dimension,
        distance=models.Distance.COSINE,
        on_disk=storage.on_disk_of(name),
        quantization_config=None if storage.quantization == "none" else _int8(name),
    )


def sparse_params(modifier: models.Modifier | None, storage: VectorStorage) -> models.SparseVectorParams:
    """A sparse vector's."""
    return models.SparseVectorParams(modifier=modifier, index=models.SparseIndexParams(on_disk=storage.on_disk))


def storage_changes(params: models.CollectionParams, storage: VectorStorage) -> dict[str, Any]:
    """What is to be changed of a collection that keeps its vectors otherwise; nothing when it keeps them so.

    Args:
        params: The collection's.
        storage: How it is to keep its vectors.

    Returns:
        Arguments of `update_collection`.
    """
    dense = params.vectors if isinstance(params.vectors, dict) else {}
    sparse = params.sparse_vectors or {}
    changes: dict[str, Any] = {}
    if any(not _is_kept_so(name, own, storage) for name, own in dense.items()):
        changes["vectors_config"] = {
            name: models.VectorParamsDiff(
                on_disk=storage.on_disk_of(name),
                quantization_config=models.Disabled.DISABLED if storage.quantization == "none" else _int8(name),
            )
            for name in dense
        }
    if any(bool(own.index and own.index.on_disk) != storage.on_disk for own in sparse.values()):
        changes["sparse_vectors_config"] = {name: sparse_params(own.modifier, storage) for name, own in sparse.items()}
    return changes


def quantization_params(storage: VectorStorage) -> models.QuantizationSearchParams:
    """How 8 bits count in a search."""
    if storage.quantization == "none":
        return models.QuantizationSearchParams(ignore=True)
    return models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)


def _is_kept_so(name: str, own: models.VectorParams, storage: VectorStorage) -> bool:
    quantization = "none" if own.quantization_config is None else "int8"
    return (bool(own.on_disk), quantization) == (storage.on_disk_of(name), storage.quantization)


def _int8(name: str) -> models.ScalarQuantization:
    config = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=name not in SELDOM_READ)
    return models.ScalarQuantization(scalar=config)
