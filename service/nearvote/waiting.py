"""A start while the store does not answer: it is waited for, and said to be."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from nearvote.errors import StoreRefused, StoreUnavailable
from nearvote.examples.engine import Engine
from nearvote.rpc.status import cause_of, code_of, status_of

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0

_WAITING = StoreUnavailable("the service waits for its store, and begins by itself when that answers: try again")

Listen = Callable[[grpc.aio.Server], None]


async def wait_for_store(engine: Engine, services: Sequence[str], listen: Listen) -> bool:
    """Returns when the store answers. Until then health is NOT_SERVING, and every other call UNAVAILABLE.

    Args:
        engine: The store's engine.
        services: Names of the services that health speaks of.
        listen: Has a server listen where the service will.

    Returns:
        Whether to go on: False when a signal said to stop.

    Raises:
        StoreRefused: The store answered that it won't, which waiting does not mend.
    """
    if await _answers(engine):
        return True
    async with _not_serving(services, listen):
        answering = asyncio.create_task(_until_it_answers(engine))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, answering.cancel)
        try:
            await answering
        except asyncio.CancelledError:
            return False
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
    return True


async def _until_it_answers(engine: Engine) -> None:
    pause = _FIRST_PAUSE_SECONDS
    while not await _answers(engine):
        await asyncio.sleep(random.uniform(pause / 2, pause))  # replicas that start together do not ask together
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _answers(engine: Engine) -> bool:
    try:
        await engine.ping()
    except StoreRefused:
        raise
    except StoreUnavailable as error:
        _log.warning("waiting_for_store", cause=cause_of(error))
        return False
    return True


@asynccontextmanager
async def _not_serving(services: Sequence[str], listen: Listen) -> AsyncIterator[None]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    servicer = health.aio.HealthServicer()
    for service in services:
        await servicer.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((_Refusing(),))
    listen(server)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


class _Refusing(grpc.GenericRpcHandler):
    """Refuses whatever is called."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":  # noqa: ARG002 - gRPC's
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    async def _refuse(self, requests: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:  # noqa: ARG002
        context.set_code(code_of(_WAITING))
        await context.abort_with_status(status_of(_WAITING))
