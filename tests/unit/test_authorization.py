"""The rules of the RPCs, and the interceptor that holds calls to them."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from nearvote.access.attempts import Attempts
from nearvote.access.caller import Role
from nearvote.access.gate import Gate
from nearvote.access.keys import KeyRing, new_key
from nearvote.observe.metrics import Metrics
from nearvote.rpc.authorization import OPEN, RULES, AuthorizationInterceptor
from nearvote.rpc.caller import CALLER
from nearvote.rpc.interceptors import StatusInterceptor
from tests.conftest import FakeClock
from tests.rpcs import BESIDE, OURS

KEY, ENTRY = new_key("desk", Role.CURATE, "acme")
RULED = "/nearvote.v1.ExampleService/GetExample"
STREAM = "/nearvote.v1.ClassificationService/StreamClassify"
UNRULED = "/nearvote.v1.ExampleService/NewRpc"
MANY_UNRULED = "/nearvote.v1.ExampleService/NewStream"


def test_every_rpc_has_a_rule() -> None:
    """Each RPC of each service is open or has a role, and there are no rules of RPCs that there are not."""
    assert {rpc.path for rpc in (*OURS, *BESIDE)} == RULES.keys() | OPEN
    assert not RULES.keys() & OPEN
    assert not {rpc.path for rpc in OURS} & OPEN


def test_what_changes_something_takes_more_than_classify() -> None:
    """No RPC whose name says that it changes something is for those who may only classify, but one that waits."""
    reading = ("Get", "List", "Classify", "BatchClassify", "StreamClassify", "ServerReflection", "SubmitFeedback")
    for path, role in RULES.items():
        assert role > Role.CLASSIFY or path.rpartition("/")[2].startswith(reading)


class Served:
    """A real server whose handlers say who called."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        gate = Gate(
            lambda: self.ring, certificates=False, attempts=Attempts(FakeClock().monotonic), denied=lambda _: None
        )
        self.server = grpc.aio.server(
            interceptors=[StatusInterceptor(Metrics(), FakeClock().monotonic), AuthorizationInterceptor(gate)]
        )

        async def who(_request: bytes, _context: Any) -> bytes:
            caller = CALLER.get()
            return f"{caller.name} of {caller.tenant}".encode()

        async def each(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                yield await who(request, context)

        unary: Any = grpc.unary_unary_rpc_method_handler(who)
        stream: Any = grpc.stream_stream_rpc_method_handler(each)
        for path, handler in ((RULED, unary), (UNRULED, unary), (STREAM, stream), (MANY_UNRULED, stream)):
            _, service, name = path.split("/")
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server that knows one key."""
    served = Served(KeyRing([ENTRY]))
    await served.server.start()
    yield served
    await served.server.stop(None)


def _shown(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def test_the_handler_knows_who_called(served: Served) -> None:
    """What is let through runs with the caller's name and tenant; without a key nothing is."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        call: Any = channel.unary_unary(RULED)
        assert await call(b"", metadata=_shown(KEY)) == b"desk of acme"
        for metadata in ((), _shown("wrong")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"", metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_rpc_without_a_rule_is_refused(served: Served) -> None:
    """What was added without a rule is refused to everybody, streams too."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        unary: Any = channel.unary_unary(UNRULED)
        stream: Any = channel.stream_stream(MANY_UNRULED)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(b"", metadata=_shown(KEY))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream(iter([b""]), metadata=_shown(KEY)).read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_revoked_key_ends_an_open_stream(served: Served) -> None:
    """A stream that was let in is refused with its first request after the key was revoked."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        method: Any = channel.stream_stream(STREAM)
        call = method(metadata=_shown(KEY))
        await call.write(b"1")
        assert await call.read() == b"desk of acme"
        served.ring = KeyRing([])
        await call.write(b"2")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
