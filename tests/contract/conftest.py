"""The stores that the contract holds for: Qdrant Edge, qdrant-client's local mode, the stand-in, a server if named."""

import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Engine
from nearvote.examples.qdrant_store import STATE_COLLECTION, QdrantStore
from nearvote.examples.server_engine import ServerEngine
from nearvote.examples.spaces import create_space
from nearvote.examples.store import VectorSpace
from nearvote.observe.store import ObservedEngine
from tests.conftest import folder_in_memory
from tests.qdrant.stand_in import StandIn

_SERVER_URL = os.environ.get("NEARVOTE_TEST_QDRANT_URL", "")

_EDGE = pytest.param("edge")
_OTHERS = (
    pytest.param(
        "local",
        # It ignores the indexes that we create, and how we search; what is found is the same without them.
        marks=[
            pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning"),
            pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
        ],
    ),
    pytest.param("stand-in"),
    pytest.param(
        "server", marks=pytest.mark.skipif(not _SERVER_URL, reason="NEARVOTE_TEST_QDRANT_URL names no Qdrant server")
    ),
)

SPACE = VectorSpace(key="contract", dimension=4, model="contract")


@asynccontextmanager
async def _opened(kind: str, folder: Path, stand_in_port: int) -> AsyncIterator[Engine]:
    engine: Engine
    if kind == "edge":
        engine = EdgeEngine(folder)
    elif kind == "local":
        engine = ServerEngine(AsyncQdrantClient(":memory:"))
    else:
        url, port = (_SERVER_URL, 6334) if kind == "server" else ("http://127.0.0.1", stand_in_port)
        engine = ServerEngine.connect(url, grpc_port=port, api_key=None, timeout_seconds=10)
    try:
        before = await engine.collections()
        engine = ObservedEngine(engine, lambda _: None)  # as the service has it
        assert STATE_COLLECTION not in before, f"{_SERVER_URL} has nearvote's data: name a server for tests alone"
        yield engine
        for name in await engine.collections() - before:
            await engine.drop_collection(name)
    finally:
        await engine.close()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in for a Qdrant server, which tests leave as empty as they find it."""
    with folder_in_memory(tmp_path_factory.mktemp("stand-in")) as folder:
        server = StandIn(folder).start()
        yield server
        server.stop()


@pytest.fixture(params=[_EDGE, *_OTHERS])
async def engine(request: pytest.FixtureRequest, data_folder: Path, stand_in: StandIn) -> AsyncIterator[Engine]:
    """Each engine in turn, empty."""
    async with _opened(request.param, data_folder / "data", stand_in.port) as engine:
        yield engine


@pytest.fixture
async def store(engine: Engine) -> QdrantStore:
    """A store on each engine in turn, empty, for vectors of four dimensions."""
    return await create_space(engine, SPACE)


@pytest.fixture(params=_OTHERS)
async def engines(
    request: pytest.FixtureRequest, data_folder: Path, stand_in: StandIn
) -> AsyncIterator[tuple[Engine, Engine]]:
    """Qdrant Edge, and each other engine in turn beside it."""
    port = stand_in.port
    async with (
        _opened("edge", data_folder / "data", port) as edge,
        _opened(request.param, data_folder / "other", port) as other,
    ):
        yield edge, other


@pytest.fixture
async def stores(engines: tuple[Engine, Engine]) -> tuple[QdrantStore, QdrantStore]:
    """A store on Qdrant Edge, and one on each other engine in turn."""
    edge, other = engines
    return await create_space(edge, SPACE), await create_space(other, SPACE)


@pytest.fixture
def odd_texts() -> list[str]:
    """Texts that a store may stumble over."""
    return [
        "before\x00after",
        "\u0301",  # a mark on nothing
        "🏴‍☠️👩‍👩‍👧‍👦 free 💰",
        "\u202eשלום مرحبا\u202c",
        "a\r\nb\u2028c\x85",
        "\uffff\U0010ffff",
        "e\u0301 \ufb01 Å",  # not normalized
        "é" * 30_000,  # 60 kB
        '{"text": "\\u0000"}',
    ]


class Chance(random.Random):
    """Points and questions drawn at random, the same each time."""

    def vector(self) -> list[float]:
        return [self.gauss() for _ in range(4)]

    def payload(self) -> dict[str, object]:
        labels = self.sample("abc", self.randint(0, 3))
        return {"tenant": self.choice("tu"), "labels": labels, "window": self.randint(0, 1), "body": {"x": [None]}}

    def match(self) -> dict[str, str | int]:
        fields: dict[str, str | int] = {"tenant": self.choice("tu"), "labels": self.choice("abc"), "window": 1}
        return {key: fields[key] for key in self.sample(sorted(fields), self.randint(1, 3))}


@pytest.fixture(params=range(6))
def chance(request: pytest.FixtureRequest) -> Chance:
    """Six courses of chance in turn."""
    return Chance(request.param)
