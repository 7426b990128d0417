"""What the engine on a server promises beyond the contract of all stores: bounded time, and which calls go twice."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import qdrant_edge as edge

from nearvote.deadline import no_deadline, set_deadline
from nearvote.errors import StoreTooSlow, StoreUnavailable
from nearvote.examples.engine import NearestQuery, Point, Schema, UpTo
from nearvote.examples.server_engine import ServerEngine
from tests.qdrant.proxy import Proxy
from tests.qdrant.stand_in import StandIn

SCHEMA = Schema({"meaning": 2}, tenant="tenant", keywords=("task",))
ID = str(uuid.UUID(int=1))
MATCH = {"tenant": "t"}
POINT = Point(ID, {"tenant": "t"}, {"meaning": [1.0, 0.0]})
TIMEOUT_SECONDS = 4
MUCH_LATER = 10  # seconds that a machine which is busy may add

Call = Callable[[ServerEngine], Awaitable[object]]

AGAIN: dict[str, Call] = {
    "QueryBatch": lambda engine: engine.nearest("c", [NearestQuery([1.0, 0.0], "meaning", MATCH, 1, ("n",))]),
    "Get": lambda engine: engine.retrieve("c", [ID], None),
    "Scroll": lambda engine: engine.scroll("c", MATCH, 10, None),
    "Count": lambda engine: engine.count("c", MATCH),
    "Facet": lambda engine: engine.facet("c", "tenant", MATCH, 10),
    "Upsert": lambda engine: engine.upsert("c", [POINT]),
    "UpdateVectors": lambda engine: engine.set_vectors("c", {ID: {"meaning": [0.0, 1.0]}}),
    "SetPayload": lambda engine: engine.set_payload("c", MATCH, {"task": "spam"}),
    "List": lambda engine: engine.ping(),
    "HealthCheck": lambda engine: engine.ping(),
}
ONCE: list[tuple[str, Call]] = [
    ("Delete", lambda engine: engine.delete("c", MATCH)),
    ("Delete", lambda engine: engine.drop_collection("c")),
    ("Create", lambda engine: engine.create_collection("d", SCHEMA)),
    ("CreateFieldIndex", lambda engine: engine.create_collection("c", SCHEMA)),
]


@pytest.fixture
def server(data_folder: Path) -> Iterator[StandIn]:
    """A stand-in of the test's own."""
    server = StandIn(data_folder).start()
    yield server
    server.stop()


@pytest.fixture
def proxy(server: StandIn) -> Iterator[Proxy]:
    """A proxy before it."""
    proxy = Proxy(server.port).start()
    yield proxy
    proxy.stop()


@pytest.fixture
async def engine(proxy: Proxy) -> AsyncIterator[ServerEngine]:
    """An engine that goes through the proxy, with a collection of one point."""
    engine = ServerEngine.connect(
        "http://127.0.0.1", grpc_port=proxy.port, api_key=None, timeout_seconds=TIMEOUT_SECONDS
    )
    await engine.create_collection("c", SCHEMA)
    await engine.upsert("c", [POINT])
    yield engine
    await engine.close()


@pytest.mark.parametrize("method", AGAIN)
async def test_what_does_no_harm_is_tried_again(engine: ServerEngine, server: StandIn, method: str) -> None:
    """Reads, and writes that say what is to be, outlive a server that is away for a moment."""
    before = server.calls().get(method, 0)
    server.tell(f"shaky {method} 2")
    await AGAIN[method](engine)
    assert server.calls()[method] - before == 3
    assert server.retries()[method] == 2


@pytest.mark.parametrize(("method", "call"), ONCE)
async def test_what_may_do_harm_is_tried_once(engine: ServerEngine, server: StandIn, method: str, call: Call) -> None:
    """Deletions, and the making and dropping of collections, fail at once."""
    before = server.calls().get(method, 0)
    server.tell(f"shaky {method} 1")
    with pytest.raises(StoreUnavailable):
        await call(engine)
    assert server.calls()[method] - before == 1


async def test_a_collection_is_looked_at_again(engine: ServerEngine, server: StandIn) -> None:
    """How a collection keeps its vectors is asked again, where the server is away for a moment."""
    before = server.calls().get("Get", 0)
    server.tell("shaky Get 2")
    await engine.create_collection("c", SCHEMA)
    assert server.calls()["Get"] - before == 3


async def test_an_index_of_an_earlier_version(engine: ServerEngine, server: StandIn, data_folder: Path) -> None:
    """Times that were indexed with a table of their values lose it, and are found as before."""
    for kind in ("integers", "times"):
        await engine.create_collection("timed", Schema({}, tenant="tenant", keywords=(), **{kind: ("n",)}))
        await engine.upsert("timed", [Point(ID, {"tenant": "t", "n": 7})])
        assert await engine.count("timed", {"n": UpTo(7)}) == 1
    server.stop()
    params = edge.EdgeShard.load(str(data_folder / "timed")).info().payload_schema["n"].params
    assert isinstance(params, edge.IntegerIndexParams)
    assert not params.lookup


async def test_tries_end(engine: ServerEngine, server: StandIn) -> None:
    """A server that stays away is asked four times, each later than the one before, and while it does, once."""
    server.tell("shaky Count 1000")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await engine.count("c", MATCH)
    assert 0.2 * 0.8 + 0.4 * 0.8 + 0.8 * 0.8 < time.monotonic() - began < TIMEOUT_SECONDS + MUCH_LATER
    assert server.calls()["Count"] == 4
    for _ in range(8):
        with pytest.raises(StoreUnavailable):
            await engine.count("c", MATCH)
    asked = server.calls()["Count"]
    with pytest.raises(StoreUnavailable):
        await engine.count("c", MATCH)
    assert server.calls()["Count"] == asked + 1


@pytest.mark.parametrize("call", [AGAIN["QueryBatch"], AGAIN["Upsert"], ONCE[0][1], ONCE[3][1]])
async def test_no_call_takes_longer_than_its_time(engine: ServerEngine, proxy: Proxy, call: Call) -> None:
    """Whatever hangs, a call comes to its end in the time that it was given."""
    proxy.hang()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as told:
        await call(engine)
    assert type(told.value) is StoreUnavailable, "it had all the time that it may take"
    assert time.monotonic() - began < TIMEOUT_SECONDS + MUCH_LATER


async def test_no_call_takes_longer_than_the_caller_waits(engine: ServerEngine, proxy: Proxy) -> None:
    """A caller who waits for less is answered before he gives up; what goes on without him has its own time."""

    async def asked() -> float:
        set_deadline(1.0)
        began = time.monotonic()
        with pytest.raises(StoreTooSlow):
            await engine.count("c", MATCH)
        return time.monotonic() - began

    async def gone_on() -> int:
        set_deadline(0.0)
        with no_deadline():
            task = asyncio.create_task(engine.count("c", MATCH))
        return await task

    assert await asyncio.create_task(gone_on()) == 1
    proxy.hang()
    assert await asyncio.create_task(asked()) < 1.0


async def test_a_connection_that_hangs_is_given_up(engine: ServerEngine, proxy: Proxy) -> None:
    """A connection that goes silent for good is noticed and replaced: by the end of a call that it swallows."""
    proxy.hang()
    proxy.restore()  # the network is well again, the connection is not
    with suppress(StoreUnavailable):  # as a rule there is time for a second try
        assert await engine.count("c", MATCH) == 1
    assert await engine.count("c", MATCH) == 1


async def test_one_wrong_byte_spoils_one_answer(engine: ServerEngine, proxy: Proxy) -> None:
    """A header that arrives wrong fails its own call, and none of those after it on the same connection."""
    proxy.cut()
    proxy.replace_once(b"grpc-status", b"grpc-s atus")
    with pytest.raises(StoreUnavailable) as failed:
        await engine.count("c", MATCH)
    assert "Illegal header key" in str(failed.value.__cause__)
    for _ in range(3):
        assert await engine.count("c", MATCH) == 1


async def test_a_server_that_is_back_is_noticed_soon(engine: ServerEngine, proxy: Proxy) -> None:
    """After an outage the same engine goes on, a second or two after the server does, however long it was."""
    proxy.refuse()
    gone = time.monotonic()
    while time.monotonic() - gone < 11:  # by now gRPC's own pauses between connections are several seconds
        with pytest.raises(StoreUnavailable):
            await engine.count("c", MATCH)
        await asyncio.sleep(0.5)
    proxy.restore()
    began = time.monotonic()
    while time.monotonic() - began < MUCH_LATER:
        try:
            assert await engine.count("c", MATCH) == 1
        except StoreUnavailable:
            await asyncio.sleep(0.1)
        else:
            break
    assert time.monotonic() - began < 3


class _Garbled(grpc.GenericRpcHandler):
    """Answers every call, but for those of the first who has called: those fail as on a connection that was garbled."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":  # noqa: ARG002
        """A handler, whatever the method."""
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        if context.peer() not in self.peers:
            self.peers.append(context.peer())
        if context.peer() == self.peers[0]:
            await context.abort(grpc.StatusCode.UNKNOWN, "No status received")
        return b""


async def test_a_garbled_connection_is_left() -> None:
    """One on which answers can't be read, as none can after a byte of its header table was hit, is not stayed with."""
    server, garbled = grpc.aio.server(), _Garbled()
    server.add_generic_rpc_handlers((garbled,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    engine = ServerEngine.connect("http://127.0.0.1", grpc_port=port, api_key=None, timeout_seconds=1)
    deadline = time.monotonic() + MUCH_LATER
    while True:
        try:
            await engine.ping()
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline, "it stays with the connection"
            await asyncio.sleep(0.1)
    assert len(garbled.peers) > 1
    await engine.close()
    await server.stop(None)
