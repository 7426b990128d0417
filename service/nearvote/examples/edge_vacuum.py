"""Writing the collections of a data folder anew, so that nothing that was deleted is left in their files.

Edge frees what a deleted point took, and overwrites it when it needs the place; its write-ahead log keeps what was
written until some 32 MB more came. A copy of what is there now has neither.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from nearvote.examples.edge_index import forget_index, is_collection

_PAGE = 256
# A copy that is whole, and not yet in the place of what it was copied from.
_WHOLE = ".vacuumed"


def vacuum_collection(path: Path) -> int:
    """Writes a collection anew. Nobody has it open. Cut short, it is there as it was, or as it is to be.

    Args:
        path: Its folder.

    Returns:
        How many points it has.
    """
    draft = path.with_name(f"{path.name}.new")  # a start takes what is left of it for rubbish
    shutil.rmtree(draft, ignore_errors=True)
    old = edge.EdgeShard.load(str(path))
    try:
        new = edge.EdgeShard.create(str(draft), _config_of(path))
        try:
            count = _copy(old, new)
            new.flush()
        finally:
            new.close()
    finally:
        old.close()
    draft.rename(path.with_name(path.name + _WHOLE))
    _put_in_place(path)
    return count


def is_of_former_layout(path: Path) -> bool:
    """Whether Edge weighs a collection's sparse vectors itself, which nearvote does since; a copy is of today's."""
    return any(own.get("modifier") for own in _read_config(path).get("sparse_vectors", {}).values())


def finish_vacuum(folder: Path) -> None:
    """Ends what was cut short between a copy's being whole and its being in its place."""
    for copy in sorted(folder.glob(f"*{_WHOLE}")):
        _put_in_place(copy.with_suffix(""))


def _put_in_place(path: Path) -> None:
    forget_index(path)
    if is_collection(path):
        dropped = path.with_name(f"{path.name}.dropped")
        shutil.rmtree(dropped, ignore_errors=True)  # what an earlier one has left
        path.rename(dropped)
        path.with_name(path.name + _WHOLE).rename(path)
        shutil.rmtree(dropped)
    else:
        path.with_name(path.name + _WHOLE).rename(path)


def _config_of(path: Path) -> edge.EdgeConfig:
    """How a collection was laid out; `EdgeEngine.create_collection` makes them all of these parts."""
    config = _read_config(path)
    vectors = {
        name: edge.EdgeVectorParams(own["size"], edge.Distance.Cosine)
        for name, own in config.get("vectors", {}).items()
    }
    sparse = {name: edge.EdgeSparseVectorParams() for name in config.get("sparse_vectors", {})}
    return edge.EdgeConfig(vectors=vectors or None, sparse_vectors=sparse or None, max_search_threads=1)


def _read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((path / "edge_config.json").read_text(encoding="utf-8"))
    return config


def _copy(old: edge.EdgeShard, new: edge.EdgeShard) -> int:
    for key, index in old.info().payload_schema.items():
        new.update(edge.UpdateOperation.create_field_index(key, index.params or index.data_type))
    count, start = 0, None
    while True:
        records, start = old.scroll(edge.ScrollRequest(offset=start, limit=_PAGE, with_payload=True, with_vector=True))
        if records:
            points = [edge.Point(record.id, record.vector or {}, record.payload or {}) for record in records]
            new.update(edge.UpdateOperation.upsert_points(points))
            count += len(records)
        if start is None:
            return count
