"""How the embedded store weighs n-grams, and what it keeps at hand; the contract of all stores is in another file."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import qdrant_edge as edge

from nearvote.errors import StoreUnavailable
from nearvote.examples import edge_engine, edge_payloads, edge_rarity
from nearvote.examples.edge_call import call_edge
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import NearestQuery, Point, Schema, Sparse

SCHEMA = Schema({}, tenant="tenant", keywords=("task",), sparse=("surface",))
CORPUS = {"tenant": "t", "task": "spam"}
COMMON, RARE, UNKNOWN = 7, 8, 9
MANY = 300  # more than are counted again before each search


def point(number: int, elements: Sequence[int], *, task: str = "spam", **payload: object) -> Point:
    """A point with these elements, each of value 1."""
    vector = Sparse(list(elements), [1.0] * len(elements))
    return Point(f"00000000-0000-4000-8000-{number:012}", {"tenant": "t", "task": task, **payload}, {"surface": vector})


def query(*elements: int, limit: int = 1) -> NearestQuery:
    """A search for points with these elements."""
    return NearestQuery(Sparse(list(elements), [1.0] * len(elements)), "surface", CORPUS, limit, ("n",), CORPUS)


def idf(points: int, having: int) -> float:
    """What an element weighs that so many of the points have."""
    return math.log(1 + (points - having + 0.5) / (having + 0.5))


@pytest.fixture
async def engine(data_folder: Path) -> AsyncIterator[EdgeEngine]:
    """An engine with a collection that is empty."""
    engine = EdgeEngine(data_folder / "data")
    await engine.create_collection("c", SCHEMA)
    yield engine
    await engine.close()


async def score(engine: EdgeEngine, *elements: int) -> float:
    """How near the nearest is; 0 when nothing has any of them."""
    (hits,) = await engine.nearest("c", [query(*elements)])
    return hits[0].score if hits else 0.0


async def test_few_are_counted_before_the_next_search(engine: EdgeEngine) -> None:
    """Among few points each change counts with the next search: what is added, replaced and deleted."""
    await engine.upsert("c", [point(i, [COMMON, 100 + i]) for i in range(3)])
    assert await score(engine, COMMON) == pytest.approx(idf(3, 3))
    await engine.upsert("c", [point(3, [RARE], n=3)])
    assert await score(engine, COMMON) == pytest.approx(idf(4, 3))
    assert await score(engine, RARE) == pytest.approx(idf(4, 1))
    await engine.upsert("c", [point(2, [RARE])])
    assert await score(engine, COMMON) == pytest.approx(idf(4, 2))
    await engine.upsert("c", [point(9, [COMMON], task="other")])
    assert await score(engine, COMMON) == pytest.approx(idf(4, 2))
    await engine.delete("c", {"task": "other"})
    await engine.delete("c", {**CORPUS, "n": 3})
    assert await score(engine, COMMON) == pytest.approx(idf(3, 2))
    await engine.delete("c", {"tenant": "t"})
    assert await score(engine, COMMON) == 0
    await engine.upsert("c", [point(0, [COMMON])])
    assert await score(engine, COMMON) == pytest.approx(idf(1, 1))


async def test_many_are_counted_while_searches_go_on(engine: EdgeEngine) -> None:
    """Among many the next searches go by what was counted before, until enough is new; it is counted beside them."""
    await engine.upsert("c", [point(i, [COMMON]) for i in range(MANY)])
    assert await score(engine, COMMON) == pytest.approx(idf(MANY, MANY))
    await engine.upsert("c", [point(MANY, [RARE])])
    assert await score(engine, RARE) == pytest.approx(idf(MANY, 1), rel=1e-3), "as rare as can be, at once"
    await engine.upsert("c", [point(MANY + 1 + i, [RARE]) for i in range(MANY)])
    for _ in range(1_000):
        if await score(engine, RARE) == pytest.approx(idf(2 * MANY + 1, MANY + 1)):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("what came is never counted")
    assert await score(engine, COMMON) == pytest.approx(idf(2 * MANY + 1, MANY))


async def test_a_sample_stands_for_very_many(engine: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many points some are looked at, and how many have an n-gram is reckoned from them."""
    monkeypatch.setattr(edge_rarity, "_SAMPLE_POINTS", 500)
    order = np.random.default_rng(0).permutation(2_000)
    await engine.upsert("c", [point(int(i), [COMMON] if n < 500 else [RARE]) for n, i in enumerate(order)])
    assert await score(engine, COMMON) == pytest.approx(idf(2_000, 500), rel=0.2)
    assert await score(engine, RARE) == pytest.approx(idf(2_000, 1_500), rel=0.2)


async def test_what_is_kept_is_bounded(engine: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of the corpora asked for least recently go, and are made anew when they are asked for."""
    monkeypatch.setattr(edge_rarity, "_MOST_ELEMENTS", 3)
    for n in range(4):
        await engine.upsert("c", [point(10 * n + i, [COMMON, RARE], task=f"task{n}") for i in range(2)])
    for n in [0, 1, 2, 3, 0]:
        corpus = {"tenant": "t", "task": f"task{n}"}
        (hits,) = await engine.nearest("c", [NearestQuery(Sparse([RARE], [1.0]), "surface", corpus, 1, ("n",), corpus)])
        assert hits[0].score == pytest.approx(idf(2, 2))
        assert len(engine._rarities._tables) == 1


async def test_at_once(engine: EdgeEngine) -> None:
    """Searches that come together before anything is counted wait for one count."""
    await engine.upsert("c", [point(i, [COMMON]) for i in range(MANY)])
    assert await asyncio.gather(*(score(engine, COMMON) for _ in range(20))) == pytest.approx([idf(MANY, MANY)] * 20)


async def test_searches_and_writes_at_once(engine: EdgeEngine) -> None:
    """Whoever searches while others write is answered, whatever was being counted just then."""
    for n in range(30):
        before = asyncio.create_task(score(engine, COMMON))
        await asyncio.sleep(0)  # it is being counted from here on
        await engine.upsert("c", [point(n, [COMMON])])
        for _ in range(n % 6):
            await asyncio.sleep(0)
        assert await score(engine, COMMON) == pytest.approx(idf(n + 1, n + 1))
        await before


async def test_failing(engine: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be counted can't be searched for; the next search tries again."""
    await engine.upsert("c", [point(0, [COMMON])])

    def fails(*_: object) -> None:
        raise StoreUnavailable("no")

    with monkeypatch.context() as broken:
        broken.setattr(edge_rarity, "call_edge", fails)
        with pytest.raises(StoreUnavailable):
            await score(engine, COMMON)
    assert await score(engine, COMMON) > 0


async def test_payloads_are_those_that_are_stored(engine: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches answer with payloads as they are, whichever are kept: after every kind of write, beyond the bound."""
    monkeypatch.setattr(engine, "_payloads", edge_payloads.Payloads(most=2))
    await engine.upsert("c", [point(i, [COMMON], n=i) for i in range(5)])

    async def found(*fields: str) -> list[list[object]]:
        asked = NearestQuery(Sparse([COMMON], [1.0]), "surface", CORPUS, 9, fields or ("n",), CORPUS)
        return sorted(
            [hit.payload.get(field) for field in asked.fields] for hit in (await engine.nearest("c", [asked]))[0]
        )

    for _ in range(3):
        assert await found() == [[0], [1], [2], [3], [4]]
    assert await found("n", "task") == [[n, "spam"] for n in range(5)]
    await engine.upsert("c", [point(4, [COMMON], n=40)])
    assert await found() == [[0], [1], [2], [3], [40]]
    await engine.set_payload("c", {"task": "spam"}, {"n": 7})
    assert await found() == [[7]] * 5
    assert await found("n", "task") == [[7, "spam"]] * 5
    await engine.delete("c", CORPUS)
    await engine.upsert("c", [point(4, [COMMON], n=8)])
    assert await found() == [[8]]
    await engine.drop_collection("c")
    await engine.create_collection("c", SCHEMA)
    await engine.upsert("c", [point(4, [COMMON], n=9)])
    assert await found() == [[9]]


async def test_a_write_that_fails_half_way(engine: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept goes also where a write fails that was made in part."""
    await engine.upsert("c", [point(0, [COMMON], n=0)])
    asked = query(COMMON)

    def broken(operation: Callable[..., object], *arguments: object) -> object:
        done = call_edge(operation, *arguments)
        if getattr(operation, "__name__", "") == "update":
            raise StoreUnavailable("half way")
        return done

    writes: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: engine.upsert("c", [point(0, [COMMON], n=1)]),
        lambda: engine.set_payload("c", {"task": "spam"}, {"n": 2}),
        lambda: engine.put_if("c", point(0, [COMMON], n=3), {"n": 2}),
    )
    for n, write in enumerate(writes, start=1):
        await engine.nearest("c", [asked])
        with monkeypatch.context() as patched:
            patched.setattr(edge_engine, "call_edge", broken)
            with pytest.raises(StoreUnavailable, match="half way"):
                await write()
        assert [hit.payload["n"] for hit in (await engine.nearest("c", [asked]))[0]] == [n]


async def test_a_collection_that_is_gone(engine: EdgeEngine) -> None:
    """Who still asks a collection that was dropped, before or while it waits, is told to try again."""
    await engine.upsert("c", [point(0, [COMMON])])
    waiting = asyncio.create_task(engine.nearest("c", [query(COMMON)]))
    await asyncio.sleep(0)
    await engine.drop_collection("c")
    for asked in (
        waiting,
        engine.nearest("c", [query(COMMON)]),
        engine.count("c", {}),
        engine.upsert("c", [point(0, [])]),
    ):
        with pytest.raises(StoreUnavailable):
            await asked


async def test_payloads_are_read_once(engine: EdgeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is not read again."""
    await engine.upsert("c", [point(i, [COMMON], n=i) for i in range(5)])
    asked = NearestQuery(Sparse([COMMON], [1.0]), "surface", CORPUS, 9, ("n",), CORPUS)
    first = await engine.nearest("c", [asked])
    monkeypatch.setattr(edge_payloads, "call_edge", lambda *_: pytest.fail("it reads them again"))
    assert await engine.nearest("c", [asked]) == first


async def test_a_folder_of_the_former_layout(data_folder: Path) -> None:
    """A collection whose sparse vectors Edge weighed itself is written anew when opened, and found in as before."""
    folder = data_folder / "data"
    engine = EdgeEngine(folder)
    await engine.create_collection("c", SCHEMA)
    await engine.close()
    former = folder / "collections" / "former"
    former.mkdir()
    config = edge.EdgeConfig(sparse_vectors={"surface": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)})
    shard = edge.EdgeShard.create(str(former), config)
    points = [point(i, [COMMON] if i else [RARE]) for i in range(4)]
    batch = [
        edge.Point(one.id, {"surface": edge.SparseVector(one.vectors["surface"].indices, [1.0])}, one.payload)  # type: ignore[union-attr]
        for one in points
    ]
    shard.update(edge.UpdateOperation.upsert_points(batch))
    shard.flush()
    shard.close()
    engine = EdgeEngine(folder)
    assert await engine.collections() == {"c", "former"}
    (hits,) = await engine.nearest("former", [query(COMMON)])
    assert hits[0].score == pytest.approx(idf(4, 3))
    await engine.close()
