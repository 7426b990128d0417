"""The store's engine, its failures counted."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import pytest

from nearvote.errors import StoreTooSlow, StoreUnavailable
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Engine, NearestQuery, Point, Schema
from nearvote.examples.spaces import open_store
from nearvote.examples.store import VectorSpace
from nearvote.observe.metrics import Metrics
from nearvote.observe.store import READS, WRITES, ObservedEngine

SCHEMA = Schema({"meaning": 2}, tenant="tenant", keywords=())
POINT = Point("00000000-0000-4000-8000-000000000001", {"tenant": "t"}, {"meaning": [1.0, 0.0]})


class FullEngine(EdgeEngine):
    """Qdrant Edge that takes no writes when it is told so."""

    full = False

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        if self.full:
            raise StoreUnavailable("full")
        await super().upsert(collection, points)


async def test_failures_are_counted_by_operation(data_folder: Path) -> None:
    """Each failure counts once, under its operation; what goes well does not."""
    metrics, inner = Metrics(), FullEngine(data_folder)
    engine = ObservedEngine(inner, metrics.store_failed)
    await engine.create_collection("c", SCHEMA)
    await engine.upsert("c", [POINT])
    inner.full = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await engine.upsert("c", [POINT])
    with pytest.raises(StoreUnavailable):
        await engine.nearest("c", [NearestQuery([1.0], "meaning", {}, 1, ())])  # of another dimension
    counted = {
        sample.labels["operation"]: sample.value
        for metric in metrics.registry.collect()
        if metric.name == "nearvote_store_errors"
        for sample in metric.samples
    }
    assert counted == dict.fromkeys((*READS, *WRITES), 0.0) | {"upsert": 2.0, "nearest": 1.0}
    assert counted.keys() == {name for name in vars(Engine) if inspect.iscoroutinefunction(vars(Engine)[name])} - {
        "close"
    }
    await engine.close()


async def test_a_caller_in_a_hurry_is_no_failure_of_the_store(data_folder: Path) -> None:
    """What a caller's own deadline has cut short is neither counted nor taken for a store that takes no writes."""

    class SlowEngine(EdgeEngine):
        async def upsert(self, *_: object) -> None:
            raise StoreTooSlow("slow")

    failed: list[str] = []
    engine = ObservedEngine(SlowEngine(data_folder), failed.append)
    with pytest.raises(StoreTooSlow):
        await engine.upsert("c", [POINT])
    assert (failed, engine.last_write_failed) == ([], False)
    await engine.close()


async def test_it_knows_whether_writes_go_through(data_folder: Path) -> None:
    """The last write decides, not reads; one that the store tries by itself is a write."""
    inner = FullEngine(data_folder)
    engine = ObservedEngine(inner, lambda _: None)
    store = await open_store(engine, VectorSpace("key", 4, "model"))
    assert not engine.last_write_failed
    inner.full = True
    with pytest.raises(StoreUnavailable):
        await store.put_document("task", "acme", "a", {})
    await store.ping()
    assert engine.last_write_failed
    with pytest.raises(StoreUnavailable):
        await store.try_writing()
    inner.full = False
    await store.try_writing()
    assert not engine.last_write_failed
    await engine.close()
