"""What a call leaves behind."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import grpc
import pytest

from nearvote.access.attempts import Attempts
from nearvote.access.gate import Gate
from nearvote.errors import TaskNotFound
from nearvote.limits import Limits
from nearvote.observe.metrics import Metrics
from nearvote.rpc import interceptors
from nearvote.rpc.admission import AdmissionInterceptor
from nearvote.rpc.authorization import AuthorizationInterceptor
from nearvote.rpc.interceptors import StatusInterceptor
from tests.conftest import FakeClock

RPC = "/nearvote.v1.ExampleService/GetExample"


class Request:
    """A request whose end can be seen."""

    seen: ClassVar["list[weakref.ref[Request]]"] = []

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.seen.append(weakref.ref(self))


async def _handle(request: Request, context: Any) -> bytes:
    match request.content:
        case b"refused":
            raise TaskNotFound("there is none")
        case b"fails":
            raise ValueError("broken")
        case b"aborts":
            await context.abort(grpc.StatusCode.DATA_LOSS, "lost")
    return b""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A real server with the interceptors of the service."""
    gate = Gate(None, certificates=False, attempts=Attempts(FakeClock().monotonic), denied=lambda _: None)
    server = grpc.aio.server(
        interceptors=[
            StatusInterceptor(Metrics(), FakeClock().monotonic),
            AuthorizationInterceptor(gate),
            AdmissionInterceptor(Limits()),
        ]
    )
    handler: Any = grpc.unary_unary_rpc_method_handler(_handle, request_deserializer=Request)
    _, service, name = RPC.split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", grpc.StatusCode.OK),
        (b"refused", grpc.StatusCode.NOT_FOUND),
        (b"fails", grpc.StatusCode.INTERNAL),
        (b"aborts", grpc.StatusCode.DATA_LOSS),
    ],
)
async def test_a_call_that_is_done_keeps_no_request(
    port: int, content: bytes, code: grpc.StatusCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request goes at once, not when the garbage collector comes by: what is refused may be large, and much."""
    logged: list[str] = []  # by structlog's own way, without the service's, frames would be shown, and kept
    monkeypatch.setattr(interceptors._log, "error", lambda event, **_: logged.append(event))
    Request.seen.clear()
    gc.disable()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.unary_unary(RPC)
            assert await method(content).code() is code
            for _ in range(100):
                if Request.seen[0]() is None:
                    break
                await asyncio.sleep(0.01)
        assert Request.seen[0]() is None
        assert logged == (["internal_error"] if code is grpc.StatusCode.INTERNAL else [])
    finally:
        gc.enable()
