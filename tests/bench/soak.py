"""A long run under mixed load and faults, in which memory must stay flat.

    python -m tests.bench.soak [--minutes 30]

One service with the real encoder is called in every way at once: single messages, batches, streams, imports and
deletions of the same examples again and again, fits, searches; beside them clients that give up, that vanish in the
middle of a stream, that send nonsense, and bursts of more than can be done. Half of the messages never came before, so
that the cache of vectors is full by the end of the warm-up, and they are computed all along. Prints JSON: calls by
outcome, memory at the start, each five minutes and at the end. Ends with 1 when the service failed by its own fault, or
its own memory was not flat: its median in the last third of the run a tenth above that in the first third after the
warm-up, or more.

Pages of files are told of apart: the kernel takes them back when it is short of memory, and there are more of them with
each write, since the embedded store writes in new places until it is vacuumed.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tests.bench import sets
from tests.bench.store import memory_mib
from tests.bench.texts import draw
from tests.integration.server import Server

from nearvote.client import AsyncClient, ClientError, ServiceError
from nearvote.examples.example import Draft
from nearvote.learn.jobs import JobState
from nearvote.v1 import classification_service_pb2 as pb
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub

_TASK = "spam"
_SAMPLE_SECONDS = 5.0
_WARM_UP_SHARE = 0.2  # of the run; caches fill meanwhile
_SHOWN_SECONDS = 300.0
# For as long the last calls may take; a service that does not answer them has failed.
_LAST_CALLS_SECONDS = 180.0
_MOST_GROWTH = 0.1  # what allocators and pools move by is some per cent
_TEXTS = 4_000  # half of them come again as they were, the other half with a number
_CURATED = 50  # examples that are added, and deleted again, in one go
_CURATE_SECONDS = 10.0  # from one go to the next: what is stored, and memory with it, grows alike on every machine


class Soak:
    """Calls a service in every way until the time is over."""

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self._end = time.monotonic() + seconds
        self._texts = _messages()
        self.outcomes: Counter[str] = Counter()
        self.memory: list[tuple[float, float]] = []
        self.files: list[tuple[float, float]] = []

    async def run(self) -> None:
        """Until the end."""
        async with AsyncClient(self._server.address) as client:
            ways: list[Callable[[AsyncClient], Awaitable[None]]] = [
                *[self._classify] * 8,
                self._batch,
                self._stream,
                self._curate,
                self._fit,
                self._give_up,
                self._vanish,
                self._nonsense,
                self._burst,
            ]
            async with asyncio.timeout(self._end - time.monotonic() + _LAST_CALLS_SECONDS):
                await asyncio.gather(self._sample(), *(self._again(way, client) for way in ways))

    async def _again(self, way: Callable[[AsyncClient], Awaitable[None]], client: AsyncClient) -> None:
        while time.monotonic() < self._end:
            try:
                await way(client)
                self.outcomes[f"{way.__name__.strip('_')}: done"] += 1
            except ClientError as error:
                self.outcomes[f"{way.__name__.strip('_')}: {_name(error)}"] += 1
                await asyncio.sleep(0.1)

    async def _sample(self) -> None:
        began = time.monotonic()
        while time.monotonic() < self._end:
            assert self._server.process is not None
            mib = memory_mib(self._server.process.pid)
            self.memory.append((time.monotonic() - began, mib["own_mib"]))
            self.files.append((time.monotonic() - began, mib["files_mib"]))
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _classify(self, client: AsyncClient) -> None:
        await client.classify(next(self._texts), [_TASK])

    async def _batch(self, client: AsyncClient) -> None:
        await client.classify_batch([next(self._texts) for _ in range(16)], [_TASK], with_texts=True)

    async def _stream(self, client: AsyncClient) -> None:
        async for answer in client.classify_stream((next(self._texts) for _ in range(100)), [_TASK]):
            if answer.error:
                raise answer.error

    async def _curate(self, client: AsyncClient) -> None:
        begun = time.monotonic()
        drafts = [Draft(_TASK, f"{text[:200]} {i}", ("ham",)) for i, text in enumerate(draw("chat", _CURATED))]
        for example in await client.add_examples(drafts):
            await client.delete_example(_TASK, example.id)
        await asyncio.sleep(begun + _CURATE_SECONDS - time.monotonic())

    async def _fit(self, client: AsyncClient) -> None:
        job = await client.start_fit(_TASK)
        while job.state is JobState.RUNNING:
            await asyncio.sleep(1)
            job = await client.fit_job(job.id)
        await asyncio.sleep(20)

    async def _give_up(self, client: AsyncClient) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.classify(next(self._texts) * 20, [_TASK])

    async def _vanish(self, _client: AsyncClient) -> None:
        async with grpc.aio.insecure_channel(self._server.address) as channel:
            stub: Any = ClassificationServiceStub(channel)
            stream = stub.StreamClassify()
            for i in range(20):
                await stream.write(
                    pb.StreamClassifyRequest(correlation_id=str(i), text=next(self._texts), tasks=[_TASK])
                )
        await asyncio.sleep(0.2)

    async def _nonsense(self, client: AsyncClient) -> None:
        for text, task in (("a" * 100_000, _TASK), ("text", "no-such-task"), ("", _TASK)):
            with contextlib.suppress(ClientError):
                await client.classify(text, [task])
        await asyncio.sleep(0.2)

    async def _burst(self, client: AsyncClient) -> None:
        calls = (client.classify(next(self._texts), [_TASK]) for _ in range(700))
        found = await asyncio.gather(*calls, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                self.outcomes[f"in a burst: {_name(one)}"] += 1
        await asyncio.sleep(30)


def _messages() -> Iterator[str]:
    """Messages without end, of which every other one never came before: the cache of vectors is full, and let go of."""
    for i, text in enumerate(itertools.cycle(draw("mixed", _TEXTS))):
        yield f"{text} {i}" if i % 2 else text


def _name(error: BaseException) -> str:
    return (error.reason or error.code) if isinstance(error, ServiceError) else type(error).__name__


def flatness(memory: list[tuple[float, float]]) -> dict[str, float]:
    """Memory after the warm-up: median of its first and of its last third, and the slope of a line through all."""
    seconds, mib = np.array(memory).T
    late = seconds > _WARM_UP_SHARE * seconds[-1]
    seconds, mib = seconds[late], mib[late]
    third = max(1, len(mib) // 3)
    return {
        "first_third_mib": float(np.median(mib[:third])),
        "last_third_mib": float(np.median(mib[-third:])),
        "most_mib": float(mib.max()),
        "mib_an_hour": float(np.polyfit(seconds, mib, 1)[0] * 3600),
    }


def is_flat(found: dict[str, Any]) -> bool:
    """Whether memory stayed where it was after the warm-up."""
    return bool(found["last_third_mib"] < (1 + _MOST_GROWTH) * found["first_third_mib"])


def shown(memory: list[tuple[float, float]]) -> list[dict[str, float]]:
    """Memory at the start, each five minutes, and at the end."""
    at = [memory[0]]
    for sample in memory:
        if sample[0] >= at[-1][0] + _SHOWN_SECONDS - _SAMPLE_SECONDS / 2:
            at.append(sample)
    if memory[-1][0] - at[-1][0] < _SHOWN_SECONDS / 2:
        at.pop()
    at.append(memory[-1])
    return [{"minute": round(seconds / 60, 1), "mib": round(mib)} for seconds, mib in at]


async def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data").start()
        try:
            soak = Soak(server, minutes * 60)
            await soak.run()
        finally:
            code = server.stop()
        internal = server.log.read_text().count("internal_error")
    found = {
        "minutes": minutes,
        "calls": dict(sorted(soak.outcomes.items())),
        "internal_errors": internal,
        "exit_code": code,
        "memory": shown(soak.memory),
        "files": shown(soak.files),
        "written": soak.outcomes["curate: done"] * _CURATED,
        **flatness(soak.memory),
    }
    print(json.dumps(found, indent=1))
    if internal or code or not is_flat(found):
        raise SystemExit(1)


if __name__ == "__main__":
    sets.measure_with(main)
