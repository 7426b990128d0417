"""Replicas that are restarted in turn while they are called."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc

from nearvote.v1 import classification_service_pb2 as pb
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.server import Server, wait_until

_CALLERS = 16
# Calls go in turn to the replicas that say that they serve. Nothing is tried twice.
_OPTIONS = [
    (
        "grpc.service_config",
        json.dumps(
            {"healthCheckConfig": {"serviceName": ""}, "loadBalancingConfig": [{"round_robin": {}}]},
        ),
    ),
    ("grpc.enable_retries", 0),
    ("grpc.max_reconnect_backoff_ms", 100),
]


async def restarted_in_turn(servers: Sequence[Server], task: str, *, rounds: int) -> tuple[int, Counter[str]]:
    """Restarts each server once a round, under load.

    Returns:
        How many calls were answered, and how many failed, by status.
    """
    answered, failed, done = 0, Counter[str](), asyncio.Event()
    target = "ipv4:" + ",".join(server.address for server in servers)
    async with grpc.aio.insecure_channel(target, options=_OPTIONS) as channel:
        stub: Any = ClassificationServiceStub(channel)

        async def ask() -> None:
            nonlocal answered
            while not done.is_set():
                try:
                    await stub.Classify(pb.ClassifyRequest(text="win", tasks=[task]), timeout=20)
                    answered += 1
                except grpc.aio.AioRpcError as error:
                    failed[error.code().name] += 1

        callers = [asyncio.create_task(ask()) for _ in range(_CALLERS)]
        for server in [*servers] * rounds:
            assert await asyncio.to_thread(server.stop) == 0
            await asyncio.to_thread(server.start)
            # The other one is stopped once this one is called again.
            await asyncio.to_thread(_is_called, server)
        done.set()
        await asyncio.gather(*callers)
    return answered, failed


def _is_called(server: Server) -> None:
    """Returns once it has answered a call."""
    answered = ("grpc_server_handled_total", 'grpc_method="Classify"', 'grpc_code="OK"')
    wait_until(lambda: server.metric_with(*answered) > 0)
