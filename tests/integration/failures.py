"""Failures of a store, each while the service before it is called at a steady rate, and what becomes of those calls."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearvote.examples.example import Draft
from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1 import example_service_pb2 as examples
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_pb2 import Example
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from tests.integration.store_site import ALL, PATIENCE_SECONDS, Site, site_in

RIGHT, REFUSED, WRONG = "right", "UNAVAILABLE", "wrong"

_LABELS = ("spam", "ham")
_KNOWN = {f"message number {i}, with its own words {i * 7}": _LABELS[i % 2] for i in range(40)}
# So few that those which wait for a silent store until they may no longer are not more than one client may have.
_CALLS_A_SECOND = 15
_ADDITION_EACH = 5  # of so many calls one adds an example
_WATCHED = ("nearvote.v1.ClassificationService", "nearvote.v1.ExampleService")
_POLL_SECONDS = 0.05
_WELL_SECONDS = 1.0  # without a call that fails, and it is over


@dataclass(frozen=True, slots=True)
class Failure:
    """One way to fail.

    Attributes:
        name: Says what happens.
        begin: Brings it about.
        end: Takes it back.
        again: Done over and over meanwhile.
        garbles: Whether bytes arrive as others. HTTP/2 has no checksum: without TLS they may be read as right ones.
    """

    name: str
    begin: Callable[[Site], object]
    end: Callable[[Site], object]
    again: Callable[[Site], object] = lambda _: None
    garbles: bool = False


def _silent_no_more(site: Site) -> None:
    site.network.restore()
    site.network.cut()  # what is delayed by a minute stays so


def _cut_off(site: Site) -> None:
    site.network.cut()
    time.sleep(0.5)


def _garbled(every: int) -> Failure:
    return Failure(
        f"one byte in {every:,} of its answers arrives as another",
        lambda site: site.network.corrupt(every),
        lambda site: site.network.restore(),
        garbles=True,
    )


FAILURES = (
    Failure("down: nobody listens", lambda site: site.network.refuse(), lambda site: site.network.restore()),
    Failure("killed, and started again", lambda site: site.store.stop(signal.SIGKILL), lambda site: site.store.start()),
    Failure(
        "all connections cut, twice a second",
        lambda _: None,
        lambda _: None,
        again=_cut_off,
    ),
    Failure(
        "slow: each piece of an answer 0.2 s late",
        lambda site: site.network.delay(0.2),
        lambda site: site.network.restore(),
    ),
    Failure("too slow: a minute late", lambda site: site.network.delay(60), _silent_no_more),
    Failure("silent, its connections open", lambda site: site.network.hang(), lambda site: site.network.restore()),
    Failure(
        "silent half-way through an answer",
        lambda site: site.network.hang_after(40),
        lambda site: site.network.restore(),
    ),
    Failure("full: takes no writes", lambda site: site.store.tell("full"), lambda site: site.store.tell("well")),
    Failure(
        "without room on its disk: writes fail in it",
        lambda site: site.store.tell("broken"),
        lambda site: site.store.tell("well"),
    ),
    *map(_garbled, (61, 509, 2_003)),
)


@dataclass(slots=True)
class Outcome:
    """What became of the calls from the beginning of a failure until all was well again.

    Attributes:
        name: The failure's.
        classified: Messages by what came: `right`, `wrong`, or the name of a status.
        added: Additions of an example, the same.
        lost: Additions that were acknowledged, and are not there.
        longest_seconds: The longest call.
        told_seconds: When health said so, after the beginning; None where it never had to.
        answered_seconds: When the last call that was not answered had ended, after the end of the failure.
        well_seconds: When health said that all is well, after the end of the failure.
        alive: Whether the process lived through it.
    """

    name: str
    classified: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    longest_seconds: float = 0.0
    told_seconds: float | None = None
    answered_seconds: float = 0.0
    well_seconds: float = 0.0
    alive: bool = True

    def figures(self) -> dict[str, Any]:
        """As JSON has it."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {**plain, "classified": dict(self.classified), "added": dict(self.added)}

    def whats_wrong(self, *, garbled: bool) -> list[str]:
        """What may never be: a wrong answer, a status that nobody is told of, a write lost."""
        wrong = [
            f"{self.name}: {what} {count} times"
            for counted in (self.classified, self.added)
            for what, count in counted.items()
            if what not in {RIGHT, REFUSED} and not (garbled and what == WRONG)
        ]
        wrong += [f"{self.name}: {self.lost} acknowledged additions lost"] if self.lost else []
        return wrong if self.alive else [*wrong, f"{self.name}: the process is gone"]


class Sufferer:
    """A service with known examples, called at a steady rate while its store fails.

    Args:
        site: The service and its store.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._outcome = Outcome("")
        self._acknowledged: dict[str, str] = {}
        self._bad_at = 0.0  # when a call ended last that was not answered
        self._number = 0
        self._over = asyncio.Event()  # all is well again: nobody calls any more, and who has called is answered

    async def suffer(self, failure: Failure, seconds: float) -> Outcome:
        """Fails for some seconds, and waits until all is well again."""
        self._outcome = Outcome(failure.name)
        self._over.clear()
        async with grpc.aio.insecure_channel(self._site.server.address) as channel:
            calling = asyncio.create_task(self._call(channel))
            try:
                began = time.monotonic()
                watching = asyncio.create_task(self._told(channel, began))
                await asyncio.to_thread(failure.begin, self._site)
                while time.monotonic() < began + seconds:
                    await asyncio.to_thread(failure.again, self._site)
                    await asyncio.sleep(_POLL_SECONDS)
                await asyncio.to_thread(failure.end, self._site)
                ended = time.monotonic()
                watching.cancel()
                await self._recovered(channel, failure, ended)
            finally:
                self._over.set()
                await calling
            self._outcome.answered_seconds = max(0.0, self._bad_at - ended)
        await asyncio.to_thread(self._look_for_lost)
        assert self._site.server.process is not None
        self._outcome.alive = self._site.server.process.poll() is None
        return self._outcome

    async def _call(self, channel: grpc.aio.Channel) -> None:
        """Calls come at their times, whether or not others have been answered."""
        async with asyncio.TaskGroup() as group:
            while not self._over.is_set():
                self._number += 1
                one = self._add if self._number % _ADDITION_EACH == 0 else self._classify
                group.create_task(one(channel, self._number))
                await asyncio.sleep(1 / _CALLS_A_SECOND)

    async def _classify(self, channel: grpc.aio.Channel, number: int) -> None:
        text, label = list(_KNOWN.items())[number % len(_KNOWN)]
        stub: Any = ClassificationServiceStub(channel)
        with self._timed(self._outcome.classified) as ended:
            answer = await stub.Classify(
                classification.ClassifyRequest(text=text, tasks=["spam"]), timeout=PATIENCE_SECONDS
            )
            ended.append(RIGHT if list(answer.classification.predictions[0].labels) == [label] else WRONG)

    async def _add(self, channel: grpc.aio.Channel, number: int) -> None:
        text, label = f"an addition, number {number}", _LABELS[number % 2]
        stub: Any = ExampleServiceStub(channel)
        with self._timed(self._outcome.added) as ended:
            answer = await stub.CreateExample(
                examples.CreateExampleRequest(example=Example(task="spam", text=text, labels=[label])),
                timeout=PATIENCE_SECONDS,
            )
            self._acknowledged[text] = label
            ended.append(RIGHT if list(answer.example.labels) == [label] else WRONG)

    @contextmanager
    def _timed(self, counted: Counter[str]) -> Iterator[list[str]]:
        began, ended = time.monotonic(), list[str]()
        try:
            yield ended
        except grpc.aio.AioRpcError as error:
            ended.append(error.code().name)
        now = time.monotonic()
        counted.update(ended)
        self._outcome.longest_seconds = max(self._outcome.longest_seconds, now - began)
        if not {RIGHT, WRONG}.intersection(ended):
            self._bad_at = now

    async def _told(self, channel: grpc.aio.Channel, began: float) -> None:
        while all(await self._health(channel, _WATCHED)):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(_POLL_SECONDS)
        self._outcome.told_seconds = time.monotonic() - began

    async def _recovered(self, channel: grpc.aio.Channel, failure: Failure, ended: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not all(await self._health(channel, ALL)):  # noqa: ASYNC110 - another process's
                    await asyncio.sleep(_POLL_SECONDS)
                self._outcome.well_seconds = time.monotonic() - ended
                while time.monotonic() < max(ended, self._bad_at) + _WELL_SECONDS:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{failure.name}: not well again: {self._outcome.figures()}") from None

    async def _health(self, channel: grpc.aio.Channel, services: Sequence[str]) -> list[bool]:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        asked = [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_SECONDS) for name in services]
        return [(await one).status == health_pb2.HealthCheckResponse.SERVING for one in asked]

    def _look_for_lost(self) -> None:
        with self._site.server.client() as client:
            there = {example.text: example.labels for example in client.export_examples("spam")}
        self._outcome.lost = sum(there.get(text) != (label,) for text, label in self._acknowledged.items())


@contextmanager
def suffering(folder: Path, data: Path) -> Iterator[Sufferer]:
    """A service, its known examples in it.

    Args:
        folder: For the service.
        data: For its store.
    """
    with site_in(folder, data) as site:
        with site.server.client() as client:
            client.add_examples([Draft("spam", text, (label,)) for text, label in _KNOWN.items()])
        yield Sufferer(site)
