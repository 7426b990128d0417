"""Health that can fail."""

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from nearvote.observe.health import HealthMonitor

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NEEDS = {"both": ("encoder", "store"), "stored": ("store",), "": ("encoder", "store")}


class Component:
    def __init__(self) -> None:
        self.failing = False
        self.hanging = False

    async def check(self) -> None:
        if self.hanging:
            await asyncio.Event().wait()
        if self.failing:
            raise RuntimeError("not well")


class Monitored:
    def __init__(self) -> None:
        self.encoder, self.store = Component(), Component()
        self.told: dict[str, bool] = {}
        self.monitor = HealthMonitor(
            {"encoder": self.encoder.check, "store": self.store.check},
            NEEDS,
            timeout_seconds=0.01,
            told=self.told.__setitem__,
        )

    async def statuses(self) -> dict[str, int]:
        servicer: Any = self.monitor.servicer
        answers = {
            service: await servicer.Check(health_pb2.HealthCheckRequest(service=service), None) for service in NEEDS
        }
        return {service: answer.status for service, answer in answers.items()}


@pytest.fixture
def monitored() -> Monitored:
    return Monitored()


async def test_all_is_well(monitored: Monitored) -> None:
    """While every component answers, every service is serving."""
    await monitored.monitor.check()
    assert set((await monitored.statuses()).values()) == {SERVING}


async def test_a_failing_encoder_fails_what_needs_it(monitored: Monitored) -> None:
    """An encoder that raises takes down the services that need it, and no others; it recovers by itself."""
    monitored.encoder.failing = True
    await monitored.monitor.check()
    assert await monitored.statuses() == {"both": NOT_SERVING, "stored": SERVING, "": NOT_SERVING}
    monitored.encoder.failing = False
    await monitored.monitor.check()
    assert set((await monitored.statuses()).values()) == {SERVING}


async def test_a_hanging_store_fails_everything(monitored: Monitored) -> None:
    """A store that does not answer in time has failed."""
    monitored.store.hanging = True
    await monitored.monitor.check()
    assert set((await monitored.statuses()).values()) == {NOT_SERVING}


async def test_draining_is_not_serving_however_well(monitored: Monitored) -> None:
    """Once draining, no check makes a service serving again."""
    await monitored.monitor.check()
    await monitored.monitor.drain()
    await monitored.monitor.check()
    assert set((await monitored.statuses()).values()) == {NOT_SERVING}


async def test_whoever_watches_is_told_of_each_component(monitored: Monitored) -> None:
    """Each round tells how every component is, also while draining."""
    monitored.store.failing = True
    await monitored.monitor.check()
    assert monitored.told == {"encoder": True, "store": False}
    monitored.store.failing = False
    await monitored.monitor.drain()
    await monitored.monitor.check()
    assert monitored.told == {"encoder": True, "store": True}
