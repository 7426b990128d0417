"""How vectors are kept is a setting that holds for what is stored already, on either engine."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from nearvote.examples import edge_index, edge_layout
from nearvote.examples.edge_engine import EdgeEngine, build_indexes, vacuum_collections
from nearvote.examples.engine import Engine, NearestQuery, Point, Schema, Sparse, VectorStorage
from nearvote.examples.server_engine import ServerEngine
from nearvote.voting.metric import Slot
from tests.qdrant.stand_in import StandIn

COUNT, DIMENSION = 700, 4_096  # as many megabytes as it takes to be indexed
SCHEMA = Schema(dense={"meaning": DIMENSION}, tenant="tenant", keywords=("task",), sparse=("surface",))
PLAIN = VectorStorage()
SMALL = VectorStorage(on_disk=True, quantization="int8")
ROWS = np.random.default_rng(0).standard_normal((COUNT, DIMENSION)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


class Place:
    """Where an engine keeps its data, opened with one setting after the other."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.stand_in = StandIn(folder).start() if kind == "server" else None
        self.folder = folder
        self.collection = folder / "c" if self.stand_in else folder / "collections" / "c"

    @asynccontextmanager
    async def opened(self, storage: VectorStorage) -> AsyncIterator[Engine]:
        engine: Engine
        if self.stand_in:
            engine = ServerEngine.connect(
                "http://127.0.0.1", grpc_port=self.stand_in.port, api_key=None, timeout_seconds=60, storage=storage
            )
        else:
            engine = EdgeEngine(self.folder, storage=storage)
        try:
            await engine.create_collection("c", SCHEMA)
            yield engine
        finally:
            await engine.close()

    def kept(self) -> set[tuple[str, str | None, str | None]]:
        """How indexed segments keep their vectors: where, where the sparse ones' index is, and in what bits."""
        found = set()
        for path in self.collection.glob("segments/*/segment.json"):
            config = json.loads(path.read_text())["config"]
            dense, sparse = config["vector_data"]["meaning"], config["sparse_vector_data"]["surface"]
            if dense["index"]["type"] == "hnsw":
                bits = (dense["quantization_config"] or {}).get("scalar", {}).get("type")
                found.add((dense["storage_type"], sparse["index"].get("memory"), bits))
        return found


IN_MEMORY = ("InRamMmap", "pinned", None)
ON_DISK = ("Mmap", "cold", "int8")


@pytest.fixture(autouse=True)
def few_are_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start indexes so few points."""
    monkeypatch.setattr(edge_index, "_LEAST_NEW", COUNT)


@pytest.fixture(params=["edge", "server"])
def place(request: pytest.FixtureRequest, data_folder: Path) -> Iterator[Place]:
    """An empty place of each engine in turn."""
    place = Place(request.param, data_folder)
    yield place
    if place.stand_in:
        place.stand_in.stop()


async def fill(engine: Engine) -> None:
    surface = Sparse([1, 2], [0.6, 0.8])
    for start in range(0, COUNT, 100):
        points = [
            Point(str(uuid.UUID(int=i)), {"tenant": "t", "n": i}, {"meaning": ROWS[i].tolist(), "surface": surface})
            for i in range(start, start + 100)
        ]
        await engine.upsert("c", points)


async def assert_found(engine: Engine) -> None:
    """Checks that what is nearest is found, by similarities in full."""
    asked = ROWS[0] + 0.5 * ROWS[1] + 0.25 * ROWS[2]
    asked /= np.linalg.norm(asked)
    queries = [
        NearestQuery(asked.tolist(), "meaning", {"tenant": "t"}, 3, ("n",)),
        NearestQuery(Sparse([1], [1.0]), "surface", {"tenant": "t", "n": 7}, 1, ("n",)),
    ]
    dense, sparse = await engine.nearest("c", queries)
    assert [hit.payload["n"] for hit in dense] == [0, 1, 2]
    assert [hit.score for hit in dense] == pytest.approx((ROWS[:3] @ asked).tolist(), abs=1e-5)
    assert [hit.payload["n"] for hit in sparse] == [7]


async def test_a_changed_setting_holds_for_what_is_stored(place: Place) -> None:
    """Vectors are kept as the setting says with which the store is opened; the same is found, compared in full."""
    async with place.opened(PLAIN) as engine:
        await fill(engine)
    for storage, kept in ((SMALL, ON_DISK), (PLAIN, IN_MEMORY)):
        for _ in range(2):  # the second time nothing is to be changed
            async with place.opened(storage) as engine:
                await assert_found(engine)
            assert place.kept() == {kept}
    if place.stand_in:
        assert place.stand_in.calls()["Update"] == 2


async def test_a_new_collection_has_the_setting(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that is made with a setting needs no change when it is opened with it again."""
    async with place.opened(SMALL) as engine:
        await fill(engine)
        await assert_found(engine)
    changed: list[str] = []
    monkeypatch.setattr(edge_layout._log, "info", lambda event, **_: changed.append(event))
    async with place.opened(SMALL) as engine:
        await assert_found(engine)
    assert changed == []
    if place.stand_in:
        assert "Update" not in place.stand_in.calls()
    else:
        assert place.kept() == {ON_DISK}


async def test_a_setting_waits_for_an_index_that_takes_long(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a start builds no index a setting is in force once one is built; each start says so, and all is found."""
    place = Place("edge", data_folder)
    async with place.opened(PLAIN) as engine:
        await fill(engine)
    assert build_indexes(data_folder) == COUNT
    monkeypatch.setattr(edge_index, "_MOST_AT_START", COUNT - 1)
    said: list[str] = []
    monkeypatch.setattr(edge_index._log, "warning", lambda event, **_: said.append(event))
    for starts in (1, 2):
        async with place.opened(SMALL) as engine:
            await assert_found(engine)
        assert said == ["index_is_old"] * starts
        assert place.kept() == {("InRamMmap", "pinned", None)}
    assert build_indexes(data_folder, SMALL) == COUNT
    assert place.kept() == {ON_DISK}
    async with place.opened(SMALL) as engine:
        await assert_found(engine)
    assert len(said) == 2
    async with place.opened(PLAIN) as engine:
        await assert_found(engine)  # in full, though the copies in 8 bits are still there
    assert place.kept() == {ON_DISK}


async def test_an_index_is_built_as_it_is_said(data_folder: Path) -> None:
    """Building the index, the service stopped, takes the setting; writing the store anew leaves it."""
    place = Place("edge", data_folder)
    async with place.opened(PLAIN) as engine:
        await fill(engine)
    build_indexes(data_folder, SMALL)
    assert place.kept() == {ON_DISK}
    vacuum_collections(data_folder)
    build_indexes(data_folder)
    assert place.kept() == {ON_DISK}


async def test_a_server_keeps_slots_on_the_disk(data_folder: Path) -> None:
    """A server is told the same of slots, once, and of other vectors what the setting says."""
    stand_in = StandIn(data_folder).start()
    schema = Schema(dense={Slot.A.value: 2, "meaning": 2}, tenant="tenant", keywords=())
    for quantization in ("none", "int8", "int8"):
        storage = VectorStorage(quantization=quantization)
        engine = ServerEngine.connect(
            "http://127.0.0.1", grpc_port=stand_in.port, api_key=None, timeout_seconds=60, storage=storage
        )
        await engine.create_collection("c", schema)
        await engine.close()
        stored = json.loads((data_folder / "c" / "edge_config.json").read_text())["vectors"]
        assert {name: own["memory"] for name, own in stored.items()} == {Slot.A.value: "cold", "meaning": "cached"}
    assert stand_in.calls()["Update"] == 1
    stand_in.stop()


async def test_slots_for_a_metric_are_not_read_beforehand(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors in a slot, which nobody may ever search, do not come into memory by themselves; others do."""
    slot = Slot.A.value
    monkeypatch.setattr(edge_index, "_LEAST_NEW", 1)
    for opening in (1, 2):
        engine = EdgeEngine(data_folder, storage=PLAIN)
        await engine.create_collection("c", Schema(dense={slot: 2, "meaning": 2}, tenant="tenant", keywords=()))
        if opening == 1:
            await engine.upsert("c", [Point(str(uuid.UUID(int=1)), {"tenant": "t"}, {slot: [1, 0], "meaning": [0, 1]})])
        await engine.close()
        stored = json.loads((data_folder / "collections" / "c" / "edge_config.json").read_text())["vectors"]
        assert {name: own["memory"] for name, own in stored.items()} == {slot: "cold", "meaning": "cached"}
        changed: list[str] = []
        monkeypatch.setattr(edge_layout._log, "info", lambda event, seen=changed, **_: seen.append(event))
    engine = EdgeEngine(data_folder, storage=PLAIN)
    await engine.close()
    assert changed == [], "the slots are not taken for a setting that has changed"
