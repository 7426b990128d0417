"""What Qdrant Edge in a folder promises beyond the contract of all stores."""

import asyncio
import ctypes
import errno
import mmap
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge

from nearvote.apart import run_apart
from nearvote.errors import NearvoteError, StoreFull, StoreReadOnly, StoreUnavailable
from nearvote.examples import edge_engine, edge_index
from nearvote.examples.edge_call import call_edge
from nearvote.examples.edge_engine import EdgeEngine, build_indexes
from nearvote.examples.edge_layout import files_ahead, read_ahead
from nearvote.examples.edge_types import query_to_edge
from nearvote.examples.engine import NearestQuery, Point, Schema, Sparse, UpTo, VectorStorage
from nearvote.startup_errors import StoreLocked

SCHEMA = Schema({"meaning": 2}, tenant="tenant", keywords=("labels",), integers=("window",))
IDS = [f"00000000-0000-4000-8000-{i:012d}" for i in range(100)]
POINTS = [Point(id_, {"tenant": "t", "labels": ["a", "b"], "n": i}, {"meaning": [1, i]}) for i, id_ in enumerate(IDS)]


async def filled(folder: Path) -> EdgeEngine:
    """An engine with a collection of points, and one without vectors."""
    engine = EdgeEngine(folder)
    await engine.create_collection("points", SCHEMA)
    await engine.create_collection("state", Schema({}, tenant="tenant", keywords=()))
    await engine.upsert("points", POINTS)
    await engine.upsert("state", [Point(IDS[0], {"tenant": "t", "body": {"x": 1}})])
    return engine


@pytest.fixture
def data(data_folder: Path) -> Path:
    """A folder with data that no engine has open."""

    async def fill() -> None:
        await (await filled(data_folder)).close()

    asyncio.run(fill())
    return data_folder


async def assert_whole(engine: EdgeEngine) -> None:
    """Checks that everything that `filled` wrote is there, and is found by filter and by vector."""
    assert await engine.collections() == {"points", "state"}
    assert await engine.count("points", {"tenant": "t"}) == 100
    assert await engine.facet("points", "labels", {"tenant": "t"}, 10) == {"a": 100, "b": 100}
    ((found,),) = await engine.nearest("points", [NearestQuery([1, 0], "meaning", {"labels": "a"}, 1, ("n",))])
    assert found.payload == {"n": 0}
    assert [point.payload for point in await engine.retrieve("state", IDS, None)] == [{"tenant": "t", "body": {"x": 1}}]


async def test_reopened(tmp_path: Path) -> None:
    """What was written is there after the folder is closed and opened again, and can be added to."""
    await (await filled(tmp_path / "data")).close()
    engine = EdgeEngine(tmp_path / "data")
    await assert_whole(engine)
    await engine.upsert("points", [Point(IDS[0], {"tenant": "other"}, {"meaning": [0, 1]})])
    await engine.close()
    engine = EdgeEngine(tmp_path / "data")
    assert await engine.count("points", {"tenant": "other"}) == 1
    assert await engine.count("points", {"tenant": "t"}) == 99
    await engine.close()


def test_survives_a_kill(tmp_path: Path) -> None:
    """What a process had written before it was killed is there, and its lock is not."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from nearvote.examples.edge_engine import EdgeEngine\n"
        "from nearvote.examples.engine import Point, Schema\n"
        "async def main():\n"
        "    engine = EdgeEngine(Path(sys.argv[1]))\n"
        "    await engine.create_collection('c', Schema({'meaning': 2}, tenant='tenant', keywords=()))\n"
        "    await engine.upsert('c', [Point(sys.argv[2], {'tenant': 't'}, {'meaning': [1, 0]})])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path), IDS[0]], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr

    async def look() -> None:
        engine = EdgeEngine(tmp_path)
        assert await engine.count("c", {"tenant": "t"}) == 1
        await engine.close()

    asyncio.run(look())


async def test_one_engine_a_folder(data_folder: Path) -> None:
    """A folder that an engine has open is refused to a second one, in words that name its process; then it is free."""
    engine = await filled(data_folder)
    with pytest.raises(StoreLocked, match=rf"pid {os.getpid()}\b.*--data-dir"):
        EdgeEngine(data_folder)
    await assert_whole(engine)
    await engine.close()
    again = EdgeEngine(data_folder)
    await assert_whole(again)
    await again.close()


async def test_one_process_a_folder(data_folder: Path) -> None:
    """A folder that an engine has open is refused to another process, in words that name the first one."""
    engine = await filled(data_folder)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from nearvote.examples.edge_engine import EdgeEngine\n"
        "EdgeEngine(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", script, str(data_folder)]
    refused = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    await engine.close()
    assert refused.returncode == 1
    assert re.search(rf"StoreLocked: .*\(pid {os.getpid()}\)", refused.stderr)


async def test_half_made_collection(data: Path) -> None:
    """A collection whose creation was cut short is cleared away, and can be created again."""
    shutil.copytree(data / "collections" / "points", data / "collections" / "other.new")
    engine = EdgeEngine(data)
    assert not (data / "collections" / "other.new").exists()
    await assert_whole(engine)
    await engine.create_collection("other", SCHEMA)
    assert await engine.collections() == {"points", "state", "other"}
    await engine.close()


@pytest.mark.parametrize(
    "damaged",
    [
        "edge_config.json",
        "segments/*/segment.json",
        "segments/*/version.info",
        "segments/*/payload_storage/config.json",
        "segments/*/vector_storage-meaning/deleted/status.dat",
        "wal/open-1",
    ],
)
async def test_damaged_data(data: Path, damaged: str) -> None:
    """Damaged data is refused with what to do about it, and the folder is let go."""
    (path,) = (data / "collections" / "points").glob(damaged)
    intact = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="restore it from a backup"):
        EdgeEngine(data)
    path.write_bytes(intact)
    engine = EdgeEngine(data)
    await assert_whole(engine)
    await engine.close()


async def test_stray_file(data: Path) -> None:
    """A file that is no collection, and what a cut-short deletion has left, are no reason not to open."""
    (data / "collections" / "notes.txt").write_text("mine")
    (data / "collections" / "old.dropped").mkdir()
    (data / "collections" / "old.dropped" / "half").write_text("")
    engine = EdgeEngine(data)
    await assert_whole(engine)
    await engine.close()
    assert not (data / "collections" / "old.dropped").exists()


async def test_failing_call(data: Path) -> None:
    """What Edge can't do becomes StoreUnavailable, without Edge's own words, and the engine goes on."""
    engine = EdgeEngine(data)
    with pytest.raises(StoreUnavailable) as caught:
        await engine.upsert("points", [Point(IDS[0], {}, {"meaning": [1, 2, 3]})])
    assert caught.value.__cause__ is not None
    assert str(caught.value.__cause__) not in caught.value.message
    await assert_whole(engine)
    await engine.close()


async def test_dropped_collection(data: Path) -> None:
    """A dropped collection takes no room, and one of the same name begins empty."""
    engine = EdgeEngine(data)
    await engine.drop_collection("points")
    assert sorted(path.name for path in (data / "collections").iterdir()) == ["state"]
    await engine.create_collection("points", SCHEMA)
    assert await engine.count("points", {"tenant": "t"}) == 0
    await engine.close()


async def many(folder: Path, count: int) -> EdgeEngine:
    """An engine with so many points at angles of their own."""
    engine = EdgeEngine(folder)
    if "many" not in await engine.collections():
        await engine.create_collection("many", Schema(dense={"meaning": 2}, tenant="tenant", keywords=("task",)))
    angles = np.linspace(0, np.pi / 2, count)
    points = [
        Point(str(uuid.UUID(int=i)), {"tenant": "t", "n": i}, {"meaning": [float(np.cos(a)), float(np.sin(a))]})
        for i, a in enumerate(angles)
    ]
    await engine.upsert("many", points)
    return engine


async def nearest_of(engine: EdgeEngine) -> list[int]:
    """Numbers of the points nearest to the axis."""
    ((found),) = await engine.nearest("many", [NearestQuery([1.0, 0.0], "meaning", {"tenant": "t"}, 3, ("n",))])
    return [hit.payload["n"] for hit in found]


async def test_an_index_is_built_at_a_start(tmp_path: Path) -> None:
    """Once there are many new points, a start builds the index; the same is found, and nothing is built again."""
    await (await many(tmp_path, 2_500)).close()
    note = tmp_path / "collections" / "many.indexed"
    assert not note.exists()
    engine = EdgeEngine(tmp_path)
    assert note.read_text() == "2500"
    assert await nearest_of(engine) == [0, 1, 2]
    assert await engine.count("many", {"tenant": "t"}) == 2_500
    await engine.close()
    written = note.stat().st_mtime_ns
    await EdgeEngine(tmp_path).close()
    assert note.stat().st_mtime_ns == written
    engine = EdgeEngine(tmp_path)
    await engine.drop_collection("many")
    assert not note.exists()
    await engine.close()


async def test_no_index_is_built_for_a_start_that_is_gone(tmp_path: Path) -> None:
    """What builds an index ends when the process that holds the folder's lock is no longer there."""
    await (await many(tmp_path, 10)).close()
    shard = tmp_path / "collections" / "many"
    command = [sys.executable, "-m", "nearvote.apart", "1", "nearvote.examples.edge_optimize:optimize", str(shard)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


async def test_an_index_of_an_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that were indexed with a table of their values lose it, once, and are found as before."""
    old, new = (Schema({}, tenant="tenant", keywords=(), **{kind: ("n",)}) for kind in ("integers", "times"))
    updates: list[str] = []

    def watched(function: Any, *args: Any) -> Any:
        if function.__name__ == "update":
            updates.append(function.__name__)
        return call_edge(function, *args)

    monkeypatch.setattr(edge_engine, "call_edge", watched)
    for schema, indexed in ((old, 2), (new, 1), (new, 0)):
        engine = EdgeEngine(tmp_path)
        updates.clear()
        await engine.create_collection("timed", schema)
        assert len(updates) == indexed
        await engine.upsert("timed", [Point(one.id, one.payload) for one in POINTS])
        params = engine._shards["timed"].info().payload_schema["n"].params
        ordered = isinstance(params, edge.IntegerIndexParams) and not params.lookup
        assert ordered == (schema is new)
        assert await engine.count("timed", {"n": UpTo(9)}) == 10
        await engine.close()


async def test_few_points_need_no_index(tmp_path: Path) -> None:
    """For a few points nothing is built."""
    await (await many(tmp_path, 500)).close()
    await EdgeEngine(tmp_path).close()
    assert not (tmp_path / "collections" / "many.indexed").exists()


async def test_an_index_that_cant_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the index can't be built the service starts without it; who asks for it is told."""
    await (await many(tmp_path, 2_500)).close()

    def elsewhere(module: str, _folder: str, failure: Callable[[str], NearvoteError]) -> Any:
        return run_apart(module, str(tmp_path / "nowhere"), failure=failure)

    monkeypatch.setattr(edge_index, "run_apart", elsewhere)
    engine = EdgeEngine(tmp_path)
    assert await nearest_of(engine) == [0, 1, 2]
    with pytest.raises(StoreLocked):
        build_indexes(tmp_path)
    await engine.close()
    with pytest.raises(StoreUnavailable, match="could not be built"):
        build_indexes(tmp_path)
    monkeypatch.undo()
    assert build_indexes(tmp_path) == 2_500


async def test_too_many_points_for_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not wait for the index of very many points."""
    monkeypatch.setattr(edge_index, "_MOST_AT_START", 2_400)
    await (await many(tmp_path, 2_500)).close()
    await EdgeEngine(tmp_path).close()
    assert not (tmp_path / "collections" / "many.indexed").exists()


async def test_searches_of_one_turn_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What several callers ask at once goes to the engine in few batches; each has his own answer, or his own error."""
    engine = await many(tmp_path, 100)
    batches: list[int] = []
    search = engine._search

    def watched(part: Sequence[Any]) -> None:
        batches.append(sum(len(queries) for _, queries in part))
        search(part)

    monkeypatch.setattr(engine, "_search", watched)
    angles = np.linspace(0, np.pi / 2, 100)[::5]
    asked = [
        [NearestQuery([float(np.cos(a)), float(np.sin(a))], "meaning", {"tenant": "t"}, 1, ("n",))] * (1 + i % 3)
        for i, a in enumerate(angles)
    ]
    gone = asyncio.create_task(engine.nearest("many", asked[0]))
    await asyncio.sleep(0)
    gone.cancel()
    answers = await asyncio.gather(
        *(engine.nearest("many", own) for own in asked),
        engine.nearest("nowhere", asked[0]),
        engine.nearest("many", []),
        return_exceptions=True,
    )
    assert answers[-1] == []
    assert isinstance(answers[-2], BaseException)
    for i, answer in enumerate(answers[:-2]):
        assert not isinstance(answer, BaseException)
        assert [[hit.payload["n"] for hit in found] for found in answer] == [[5 * i]] * len(asked[i])
    assert len(batches) <= 5
    assert max(batches) == 16
    await engine.close()


async def test_changes_after_an_index(tmp_path: Path) -> None:
    """Points of an index are changed, moved, deleted and given further vectors as any others."""
    schema = Schema(dense={"meaning": 2, "other": 2}, tenant="tenant", keywords=("task",), sparse=("surface",))
    engine = EdgeEngine(tmp_path)
    await engine.create_collection("c", schema)
    ids = [str(uuid.UUID(int=i)) for i in range(2_500)]
    angles = np.linspace(0, np.pi / 2, len(ids))
    surface = Sparse([1, 2], [0.5, 0.5])
    points = [
        Point(id_, {"tenant": "t", "n": i}, {"meaning": [float(np.cos(a)), float(np.sin(a))], "surface": surface})
        for i, (id_, a) in enumerate(zip(ids, angles, strict=True))
    ]
    await engine.upsert("c", points)
    await engine.close()
    engine = EdgeEngine(tmp_path)
    assert (tmp_path / "collections" / "c.indexed").exists()

    async def nearest(using: str, vector: list[float] | Sparse, **match: str | int) -> list[int]:
        query = NearestQuery(vector, using, {"tenant": "t", **match}, 3, ("n",))
        ((found),) = await engine.nearest("c", [query])
        return [hit.payload["n"] for hit in found]

    await engine.upsert("c", [Point(ids[0], {"tenant": "t", "n": 0}, {"meaning": [0.0, 1.0], "surface": surface})])
    await engine.delete("c", {"tenant": "t", "n": 1})
    await engine.set_payload("c", {"tenant": "t", "n": 2}, {"task": "moved"})
    await engine.set_vectors("c", {ids[3]: {"other": [1.0, 0.0]}, ids[4]: {"other": [0.0, 1.0]}})
    await engine.set_vectors("c", {ids[5]: {"surface": Sparse([9], [1.0])}})
    for _ in range(2):
        assert await nearest("meaning", [1.0, 0.0]) == [2, 3, 4]
        assert await nearest("meaning", [1.0, 0.0], task="moved") == [2]
        assert 0 in await nearest("meaning", [0.0, 1.0])
        assert await nearest("other", [1.0, 0.0]) == [3, 4]
        assert await nearest("surface", Sparse([9], [1.0])) == [5]
        assert await engine.count("c", {"tenant": "t"}) == 2_499
        assert len(await engine.retrieve("c", ids[:6], None)) == 5
        await engine.close()
        engine = EdgeEngine(tmp_path)
    await engine.close()


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, StoreFull), (errno.EROFS, StoreReadOnly)])
async def test_a_disk_that_takes_no_collection(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StoreUnavailable]
) -> None:
    """Where a collection can't be made or dropped for want of a disk, the error says so; mended, it can."""
    engine = EdgeEngine(data_folder)
    await engine.create_collection("there", SCHEMA)

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(error, match=str(data_folder)):
            await engine.create_collection("new", SCHEMA)
        with pytest.raises(error, match=str(data_folder)):
            await engine.drop_collection("there")
    await engine.create_collection("new", SCHEMA)
    assert "new" in await engine.collections()
    await engine.close()


async def test_a_larger_store_is_searched_with_more_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many candidates an index keeps goes by how many points there were when it was opened, and is asked of it."""
    assert [edge_index.candidates_among(count) for count in (0, 10_000, 100_000, 1_000_000)] == [80, 80, 201, 505]
    monkeypatch.setattr(edge_index, "_CANDIDATES_AT", 10)
    await (await filled(tmp_path / "data")).close()
    engine = EdgeEngine(tmp_path / "data")
    asked: list[int | None] = []

    def seen(*arguments: Any) -> Any:
        request = query_to_edge(*arguments)
        asked.append(request.params.hnsw_ef if request.params else None)
        return request

    monkeypatch.setattr("nearvote.examples.edge_engine.query_to_edge", seen)
    await engine.nearest("points", [NearestQuery([1, 0], "meaning", {"labels": "a"}, 1, ("n",))])
    assert asked == [201]
    await engine.close()


@pytest.mark.parametrize("storage", [VectorStorage(), VectorStorage(on_disk=True)])
async def test_what_searches_read_is_read_ahead(
    data: Path, storage: VectorStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start has what searches read brought into memory; not of what nobody searches, nor where memory is short."""
    read: list[str] = []
    monkeypatch.setattr(edge_index, "read_ahead", lambda path: read.append(path.name))
    await EdgeEngine(data, storage=storage).close()
    await asyncio.sleep(0.5)  # a thread does it
    assert read == ([] if storage.on_disk else ["points"])


async def test_files_to_read_ahead(data_folder: Path) -> None:
    """The files of payloads and n-grams are found where Edge puts them."""
    engine = EdgeEngine(data_folder)
    await engine.create_collection("points", Schema({"meaning": 2}, tenant="tenant", keywords=(), sparse=("surface",)))
    vectors: dict[str, Any] = {"meaning": [1, 0], "surface": Sparse([1], [1.0])}
    await engine.upsert("points", [Point(IDS[0], {"tenant": "t"}, vectors)])
    await engine.close()
    pages = [file for file in files_ahead(data_folder / "collections" / "points") if file.name == "page_0.dat"]
    assert [page.relative_to(page.parents[1]).parts[0] for page in pages] == ["payload_storage", "store"]
    assert all(page.stat().st_size for page in pages)


def test_reading_ahead(tmp_path: Path) -> None:
    """Payloads and n-grams come into the kernel's cache whole, and nothing else does."""
    segment = tmp_path / "segments" / "one"
    ahead = [segment / "payload_storage" / "page_0.dat", segment / "vector_storage-surface" / "store" / "page_0.dat"]
    other = segment / "vector_storage-metric_a" / "matrix.dat"
    for file in (*ahead, other):
        file.parent.mkdir(parents=True)
        file.write_bytes(os.urandom(9_000_000))
        _let_go(file)
    read_ahead(tmp_path)
    deadline = time.monotonic() + 10
    while min(map(_in_memory, ahead)) < 1.0:
        assert time.monotonic() < deadline, "the kernel never read them"
        time.sleep(0.05)
    assert _in_memory(other) == 0.0


def test_files_that_cant_be_read_ahead(tmp_path: Path) -> None:
    """A file that can't be opened is left to the searches."""
    (tmp_path / "segments" / "one" / "payload_storage" / "page_0.dat").mkdir(parents=True)
    read_ahead(tmp_path)


def _in_memory(file: Path) -> float:
    """How much of a file the kernel has in its cache, 0 to 1."""
    mapped = np.memmap(file, np.uint8, "r")
    pages = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
    told = ctypes.CDLL(None).mincore(
        ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(pages.ctypes.data)
    )
    assert told == 0
    return float((pages & 1).mean())


def _let_go(file: Path) -> None:
    """Has the kernel take a file out of its cache, which it does once all is written."""
    for _ in range(20):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if _in_memory(file) == 0.0:
            return
        time.sleep(0.1)
    pytest.skip("this file system keeps all files in memory")
