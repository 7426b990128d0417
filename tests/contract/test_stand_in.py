"""What the stand-in for a Qdrant server promises beyond the contract of all stores."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from qdrant_client import AsyncQdrantClient, models

from nearvote.errors import StoreRefused, StoreUnavailable
from nearvote.examples.engine import NearestQuery, Point, Schema
from nearvote.examples.server_engine import ServerEngine
from tests.qdrant.stand_in import StandIn

SCHEMA = Schema({"meaning": 2}, tenant="tenant", keywords=("task",), integers=("window",), sparse=("surface",))
POINTS = [Point(str(uuid.UUID(int=i)), {"tenant": "t", "n": i}, {"meaning": [1.0, float(i)]}) for i in range(20)]


@pytest.fixture
def own(data_folder: Path) -> Iterator[StandIn]:
    """A stand-in of the test's own."""
    server = StandIn(data_folder).start()
    yield server
    server.stop()


@asynccontextmanager
async def connected(server: StandIn, api_key: str | None = None) -> AsyncIterator[ServerEngine]:
    """An engine on a stand-in."""
    engine = ServerEngine.connect("http://127.0.0.1", grpc_port=server.port, api_key=api_key, timeout_seconds=10)
    try:
        yield engine
    finally:
        await engine.close()


async def whole(engine: ServerEngine) -> bool:
    """Whether all points are there, and are found by vector."""
    query = NearestQuery([1.0, 0.0], "meaning", {"tenant": "t"}, 1, ("n",))
    ((found,),) = await engine.nearest("c", [query])
    return await engine.count("c", {"tenant": "t"}) == len(POINTS) and found.payload == {"n": 0}


@pytest.mark.parametrize("how", [None, signal.SIGKILL])
async def test_reopened(own: StandIn, how: signal.Signals | None) -> None:
    """What was acknowledged is there when the stand-in is started again, also after it was killed."""
    async with connected(own) as engine:
        await engine.create_collection("c", SCHEMA)
        await engine.upsert("c", POINTS)
        assert await whole(engine)
        own.stop(how)
        own.start()
        assert await engine.collections() == {"c"}
        assert await whole(engine), "the same client goes on"


async def test_many_clients(own: StandIn) -> None:
    """Clients write and read at once, and each sees what all have written."""
    async with connected(own) as one, connected(own) as two, connected(own) as three:
        await asyncio.gather(*(engine.create_collection("c", SCHEMA) for engine in (one, two, three)))
        engines = [one, two, three] * 7
        await asyncio.gather(*(engine.upsert("c", [point]) for engine, point in zip(engines, POINTS, strict=False)))
        assert await asyncio.gather(*(whole(engine) for engine in (one, two, three))) == [True] * 3


async def test_what_it_does_not_know_is_refused(own: StandIn) -> None:
    """Calls, fields and values that the stand-in does not know fail; none is passed over."""
    client = AsyncQdrantClient(
        url="http://127.0.0.1", grpc_port=own.port, prefer_grpc=True, check_compatibility=False, timeout=10
    )
    vectors = {"meaning": models.VectorParams(size=2, distance=models.Distance.COSINE)}
    await client.create_collection("c", vectors_config=vectors)
    order, empty = models.WriteOrdering.STRONG, models.Filter()
    calls = [
        client.create_collection(
            "d", vectors_config={"a": models.VectorParams(size=2, distance=models.Distance.EUCLID)}
        ),
        client.create_payload_index("c", "n", models.PayloadSchemaType.GEO),
        client.update_collection("c", optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1)),
        client.overwrite_payload("c", {}, points=[1]),
        client.delete("c", models.FilterSelector(filter=empty), ordering=order),
        client.count("c", models.Filter(must=[models.FieldCondition(key="n", match=models.MatchText(text="a"))])),
        client.query_points("c", query=[1.0, 0.0], using="meaning"),
        client.query_batch_points(
            "c", [models.QueryRequest(query=[1.0, 0.0], using="meaning", filter=empty, score_threshold=0.5)]
        ),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await client.close()


async def test_full(own: StandIn) -> None:
    """Told to be full, it refuses writes and answers reads, until it is told to be well."""
    async with connected(own) as engine:
        await engine.create_collection("c", SCHEMA)
        for mode, code in (("full", "RESOURCE_EXHAUSTED"), ("broken", "INTERNAL")):
            own.tell(mode)
            with pytest.raises(StoreUnavailable) as caught:
                await engine.upsert("c", POINTS)
            assert code in repr(caught.value.__cause__)
            assert await engine.count("c", {"tenant": "t"}) == 0
        own.tell("well")
        await engine.upsert("c", POINTS)
        assert await whole(engine)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection:UserWarning")
async def test_keys(own: StandIn) -> None:
    """Told a key, it takes calls with this one alone; a wrong key is an error that says what to check."""
    own.tell("key secret")
    async with connected(own, "secret") as engine:
        assert await engine.collections() == set()
    async with connected(own, "other") as engine:
        with pytest.raises(StoreRefused, match="API key"):
            await engine.ping()


@pytest.mark.parametrize("version", ["1.16.9", "v0.9.1"])
async def test_a_server_that_is_too_old_is_refused(own: StandIn, version: str) -> None:
    """A server that can't do what is asked of it is refused by its version, until it is a later one."""
    own.tell(f"version {version}")
    async with connected(own) as engine:
        for _ in range(2):
            with pytest.raises(StoreRefused, match=rf"version {version}: 1\.17 or a later one"):
                await engine.ping()
        own.tell("version 1.17.0")
        await engine.ping()


@pytest.mark.parametrize("version", ["1.17.0-dev", "2.0.0", "own"])
async def test_other_servers_are_taken(own: StandIn, version: str) -> None:
    """Later servers are taken, and builds of somebody's own, whose version says nothing."""
    own.tell(f"version {version}")
    async with connected(own) as engine:
        await engine.ping()
