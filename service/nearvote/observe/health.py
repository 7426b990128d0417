"""Health by gRPC's health protocol: a service serves while everything that it stands on does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from grpc_health.v1 import health, health_pb2

from nearvote.rpc.status import cause_of

_log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[None]]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class HealthMonitor:
    """Asks components how they are, again and again, and sets the health of the services that stand on them.

    Args:
        components: What to ask, by name. A check that raises, or takes longer than the timeout, has failed.
        services: For each service the components that it needs. The service "" stands for the whole process.
        interval_seconds: Pause between rounds.
        timeout_seconds: How long a check may take.
        told: Is told how each component is, each round.
    """

    def __init__(
        self,
        components: Mapping[str, Check],
        services: Mapping[str, tuple[str, ...]],
        interval_seconds: float = 5.0,
        timeout_seconds: float = 5.0,
        told: Callable[[str, bool], None] = lambda _name, _healthy: None,
    ) -> None:
        self.servicer = health.aio.HealthServicer()
        self._components = components
        self._services = services
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._told = told
        self._healthy: dict[str, bool] = {}
        self._draining = False

    async def run(self) -> None:
        """Checks until it is cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self._interval_seconds)

    async def check(self) -> None:
        """One round: asks every component, then sets every service."""
        names = list(self._components)
        for name, healthy in zip(names, await asyncio.gather(*(self._ask(name) for name in names)), strict=True):
            if self._healthy.get(name, True) != healthy:
                (_log.info if healthy else _log.error)("health_changed", component=name, healthy=healthy)
            self._healthy[name] = healthy
            self._told(name, healthy)
        if self._draining:
            return
        for service, needed in self._services.items():
            serving = all(self._healthy.get(name, False) for name in needed)
            await self.servicer.set(service, _SERVING if serving else _NOT_SERVING)

    async def drain(self) -> None:
        """From now on nothing is serving, whatever the components say."""
        self._draining = True
        await self.servicer.enter_graceful_shutdown()

    async def _ask(self, name: str) -> bool:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._components[name]()
        except Exception as error:  # noqa: BLE001 - whatever it raises, it is not well
            _log.debug("health_check_failed", component=name, cause=cause_of(error))
            return False
        return True
