"""Writing the collections of a data folder anew, so that nothing that was deleted is left in their files.

Edge frees what a deleted point took, and overwrites it when it needs the place; its write-ahead log keeps what was
written until some 32 MB more came. A copy of what is there now has neither.
"""

import shutil
from pathlib import Path

import qdrant_edge as edge

from nearvote.examples.edge_index import forget_index, is_collection
from nearvote.examples.edge_layout import copy_config

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
        new = edge.EdgeShard.create(str(draft), copy_config(path))
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
