"""The search index of an Edge shard: HNSW (Malkov and Yashunin 2018), built in a process of its own.

Without it a search looks at every vector. Edge never builds it by itself, and lets no other thread run while it does.
"""

import threading
from pathlib import Path

import qdrant_edge as edge
import structlog

from nearvote.apart import run_apart
from nearvote.errors import StoreUnavailable
from nearvote.examples.edge_layout import read_ahead, set_storage, storage_of
from nearvote.examples.engine import VectorStorage

# An index is built anew for so many points that came since, and so large a part of those that it has.
_LEAST_NEW = 2_000
_NEW_SHARE = 0.2
# So many take some three seconds at a start; for more, somebody has to say that they may wait.
_MOST_AT_START = 20_000
# Of the 20 nearest so many find .996 among 10,000, where 64 find .994; of 100,000, with the 201 of there, .990, where
# 100 find .976 (HNSW of 16 links, which 320 candidates bring to .991).
_CANDIDATES = 80
_CANDIDATES_AT = 10_000
_CANDIDATES_GROWTH = 0.4

_log = structlog.get_logger(__name__)


def is_collection(path: Path) -> bool:
    """Whether a path is a shard's folder."""
    return path.is_dir() and not path.suffix


def load_indexed(path: Path, storage: VectorStorage) -> edge.EdgeShard:
    """A shard, its index built where it is old and building it takes no longer than a start may.

    Args:
        path: Its folder.
        storage: How its vectors are kept. An index of vectors that were kept otherwise is old. Where they are in
            memory, what searches read from the disk beside them is read ahead.

    Raises:
        Interrupted: Building the index was; in the main thread it is a `KeyboardInterrupt`.
    """
    shard = _load_indexed(path, storage)
    if storage_of(path) and not storage.on_disk:
        # Beside the start: the kernel makes whoever asks wait once the disk has enough to do.
        threading.Thread(target=read_ahead, args=(path,), name="read-ahead", daemon=True).start()
    return shard


def _load_indexed(path: Path, storage: VectorStorage) -> edge.EdgeShard:
    keep_as(path, storage)
    shard = edge.EdgeShard.load(str(path))
    count, indexed = shard.info().points_count, _indexed(path)
    if count - indexed < max(_LEAST_NEW, indexed * _NEW_SHARE):
        return shard
    if count - indexed > _MOST_AT_START:
        _log.warning("index_is_old", points=count, indexed=indexed, next="stop the service, run `nearvote optimize`")
        return shard
    shard.close()
    try:
        build_index(path)
    except StoreUnavailable as error:
        _log.warning("index_not_built", error=str(error), next="searching without it, which takes longer")
    return edge.EdgeShard.load(str(path))


def keep_as(path: Path, storage: VectorStorage) -> None:
    """Has a shard keep its vectors so, if it keeps them otherwise; its index is old then. Nobody has it open."""
    if storage_of(path) not in {None, storage}:
        forget_index(path)  # first: cut short here, the next start does it again
        set_storage(path, storage)


def candidates_among(points: int) -> int:
    """How many candidates a search of an index keeps at a time, HNSW's ef: more where there are more points."""
    growth = float(max(1.0, points / _CANDIDATES_AT) ** _CANDIDATES_GROWTH)
    return round(_CANDIDATES * growth)


def build_index(path: Path) -> int:
    """Builds a shard's index. Nobody has the shard open.

    Returns:
        How many points it has.

    Raises:
        StoreUnavailable: It could not be built.
        Interrupted: It was interrupted; in the main thread it is a `KeyboardInterrupt`.
    """

    def failure(cause: str) -> StoreUnavailable:
        return StoreUnavailable(f"the index of {path} could not be built: {cause}")

    count: int = run_apart("nearvote.examples.edge_optimize:optimize", str(path), failure=failure)
    _note(path).write_text(str(count))
    return count


def forget_index(path: Path) -> None:
    """What was noted of a shard's index is no longer so."""
    _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.indexed")


def _indexed(path: Path) -> int:
    """How many points there were when the index was last built."""
    try:
        return int(_note(path).read_text())
    except (OSError, ValueError):
        return 0
