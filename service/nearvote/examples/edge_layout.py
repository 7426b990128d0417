"""How an Edge shard is laid out: its vectors, and where they are kept. It stands in the shard's `edge_config.json`."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qdrant_edge as edge
import structlog

from nearvote.examples.engine import SELDOM_READ, Schema, VectorStorage
from nearvote.voting.neighbor import View

# Cached, not pinned: the kernel may take them back.
_QUANTIZED = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Cached)
_QUANTIZED_COLD = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Cold)

# Of one shard: those of some million short examples. More would take the place of what is needed more.
_MOST_AHEAD_BYTES = 2**29
# Of a larger request the kernel drops all that is above the disk's own limit, often some hundred KiB.
_PART_AHEAD_BYTES = 2**17

_log = structlog.get_logger(__name__)


def new_config(schema: Schema, storage: VectorStorage) -> edge.EdgeConfig:
    """The configuration of a shard that is to be created."""
    return _config(schema.dense, dict.fromkeys(schema.sparse), storage)


def copy_config(path: Path) -> edge.EdgeConfig:
    """The configuration of a shard that is to be a copy of one that is there, of today's layout."""
    stored = _read(path)
    sparse = dict.fromkeys(stored.get("sparse_vectors", {}))
    return _config(_dimensions(stored), sparse, storage_of(path) or VectorStorage())


def is_of_former_layout(path: Path) -> bool:
    """Whether Edge weighs a collection's sparse vectors itself, which nearvote does since; a copy is of today's."""
    return any(own.get("modifier") for own in _read(path).get("sparse_vectors", {}).values())


def storage_of(path: Path) -> VectorStorage | None:
    """How a shard is to keep its vectors, but for the slots'; None for one without any."""
    for name, own in _dense(_read(path)).items():
        if name not in SELDOM_READ:
            quantized = own.get("quantization_config") is not None
            return VectorStorage(own.get("memory") == "cold", "int8" if quantized else "none")
    return None


def set_storage(path: Path, storage: VectorStorage) -> None:
    """Sets how a shard keeps its vectors, which holds for what is indexed from then on. Nobody has it open."""
    stored = _read(path)
    sparse = {
        name: edge.Modifier.Idf if own.get("modifier") else None
        for name, own in stored.get("sparse_vectors", {}).items()
    }
    edge.EdgeShard.load(str(path), _config(_dimensions(stored), sparse, storage)).close()
    _log.info(
        "vector_storage_changed",
        collection=path.name,
        vectors_on_disk=storage.on_disk,
        quantization=storage.quantization,
        in_force="once the index is built",
    )


def read_ahead(path: Path) -> None:
    """Has the kernel read payloads and n-grams of a shard into its cache. Returns once it has been told, mostly.

    Edge reads them as searches find them, a page at a time, and lets no other thread run meanwhile. After an index was
    built, or the machine has started, the cache has none of them. A slow disk may keep it waiting.
    """
    left = _MOST_AHEAD_BYTES
    with contextlib.suppress(OSError):  # the shard has gone meanwhile, or can't be read ahead: searches read it
        for file in files_ahead(path):
            with file.open("rb") as opened:
                size = min(left, os.fstat(opened.fileno()).st_size)
                for start in range(0, size, _PART_AHEAD_BYTES):
                    os.posix_fadvise(opened.fileno(), start, _PART_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            left -= size


def files_ahead(path: Path) -> list[Path]:
    """The files of a shard that searches read from the disk."""
    folders = ("payload_storage", f"vector_storage-{View.SURFACE.value}")
    return [file for folder in folders for file in sorted(path.glob(f"segments/*/{folder}/**/*.dat"))]


def _config(
    dense: Mapping[str, int], sparse: Mapping[str, edge.Modifier | None], storage: VectorStorage
) -> edge.EdgeConfig:
    vectors = {
        name: edge.EdgeVectorParams(
            dimension,
            edge.Distance.Cosine,
            memory=edge.Memory.Cold if storage.on_disk_of(name) else edge.Memory.Cached,
            quantization_config=None if storage.quantization == "none" else _quantized(name),
        )
        for name, dimension in dense.items()
    }
    sparse_vectors = {
        name: edge.EdgeSparseVectorParams(
            modifier=modifier, memory=edge.Memory.Cold if storage.on_disk else edge.Memory.Pinned
        )
        for name, modifier in sparse.items()
    }
    return edge.EdgeConfig(
        vectors=vectors or None,
        # Edge wants at least one vector field; a sparse one that stays empty costs nothing.
        sparse_vectors=sparse_vectors or (None if vectors else {"none": edge.EdgeSparseVectorParams()}),
        max_search_threads=1,  # messages are many; to share out one search among threads costs more than it gains
    )


def _quantized(name: str) -> edge.ScalarQuantizationConfig:
    return _QUANTIZED_COLD if name in SELDOM_READ else _QUANTIZED


def _read(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((path / "edge_config.json").read_text(encoding="utf-8"))
    return config


def _dimensions(config: Mapping[str, Any]) -> dict[str, int]:
    return {name: own["size"] for name, own in _dense(config).items()}


def _dense(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config.get("vectors", {})
    return found
