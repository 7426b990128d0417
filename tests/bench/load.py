"""A load generator, in a process of its own.

    python -m tests.bench.load ADDRESS FILE --kind unary --concurrency 64 --texts 1000
    python -m tests.bench.load ADDRESS FILE --kind unary --concurrency 64 --seconds 8
    python -m tests.bench.load ADDRESS FILE --rate 20 --seconds 10

FILE has a JSON array of texts, sent in turn. Closed loop: so many callers each wait for their answer. With `--texts`
the first so many are sent, and time ends with the last answer: of mixed lengths one text in twenty is most of the work,
and which of them come first, or last, would decide what a few seconds show. Open loop
(`--rate`): calls come at random times, so many a second on average, and a call's latency runs from when it was to be
sent, whether or not it could be: else a server that stalls would be spared the calls that it stalls (coordinated
omission). Prints JSON: answers a second, latency in seconds, errors, and how many cores the generator itself took.
"""

import argparse
import asyncio
import itertools
import json
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop

from nearvote.v1 import classification_service_pb2 as pb
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub

_WARM_UP_SECONDS = 1.5
_BATCH = 32
_UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(slots=True)
class Seen:
    """What came back."""

    begin: float
    end: float
    first: float = math.inf  # when the first text was sent that was answered, and when the last answer came
    last: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    errors: int = 0

    def add(self, since: float, texts: int = 1) -> None:
        """An answer came; it counts for the time that is measured."""
        now = time.perf_counter()
        self.first, self.last = min(self.first, since), now
        if self.begin <= now <= self.end:
            self.latencies += [now - since] * texts

    @property
    def is_over(self) -> bool:
        return time.perf_counter() >= self.end

    def figures(self) -> dict[str, float]:
        """Answers a second, latencies in seconds, calls refused for overload, other errors."""
        found = np.array(self.latencies or [np.nan])
        seconds = self.last - self.first if math.isinf(self.end) else self.end - self.begin
        return {
            "rate": len(self.latencies) / seconds,
            "p50": float(np.quantile(found, 0.5)),
            "p99": float(np.quantile(found, 0.99)),
            "count": len(self.latencies),
            "refused": len(self.refusals),
            "refused_p99": float(np.quantile(self.refusals or [0.0], 0.99)),
            "errors": self.errors,
        }


async def _unary(stub: Any, texts: Iterator[str], tasks: Sequence[str], seen: Seen) -> None:
    while not seen.is_over and (text := next(texts, None)) is not None:
        await _one(stub, text, tasks, seen, time.perf_counter())


async def _one(stub: Any, text: str, tasks: Sequence[str], seen: Seen, since: float) -> None:
    try:
        await stub.Classify(pb.ClassifyRequest(text=text, tasks=tasks), timeout=60)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            seen.refusals.append(time.perf_counter() - since)
        else:
            seen.errors += 1
    else:
        seen.add(since)


async def _batch(stub: Any, texts: Iterator[str], tasks: Sequence[str], seen: Seen) -> None:
    while not seen.is_over and (part := list(itertools.islice(texts, _BATCH))):
        since = time.perf_counter()
        await stub.BatchClassify(pb.BatchClassifyRequest(texts=part, tasks=tasks), timeout=60)
        seen.add(since, len(part))


async def _stream(stub: Any, texts: Iterator[str], tasks: Sequence[str], seen: Seen, in_flight: int) -> None:
    slots = asyncio.Semaphore(in_flight)
    sent: dict[str, float] = {}

    async def requests() -> AsyncIterator[pb.StreamClassifyRequest]:
        for number, text in enumerate(texts):
            await slots.acquire()
            if seen.is_over:
                return
            sent[str(number)] = time.perf_counter()
            yield pb.StreamClassifyRequest(correlation_id=str(number), text=text, tasks=tasks)

    async for response in stub.StreamClassify(requests()):
        seen.add(sent.pop(response.correlation_id))
        slots.release()


async def _open(stub: Any, texts: Iterator[str], tasks: Sequence[str], seen: Seen, rate: float) -> None:
    rng = np.random.default_rng(0)
    due = time.perf_counter()
    calls: set[asyncio.Task[None]] = set()
    while due < seen.end:
        due += rng.exponential(1 / rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        call = asyncio.create_task(_one(stub, next(texts), tasks, seen, due))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await asyncio.gather(*calls)


async def main() -> None:
    """Sends and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("file", type=Path)
    parser.add_argument("--kind", choices=("unary", "batch", "stream"), default="unary")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--texts", type=int, help="the first so many, instead of seconds")
    parser.add_argument("--task", action="append", default=[])
    asked = parser.parse_args()
    given: list[str] = json.loads(asked.file.read_text())
    texts = iter(given[: asked.texts]) if asked.texts else itertools.cycle(given)
    began, before = time.perf_counter(), time.process_time()
    begin = began + _WARM_UP_SECONDS
    seen = Seen(began, math.inf) if asked.texts else Seen(begin, begin + asked.seconds)
    async with grpc.aio.insecure_channel(asked.address, options=_UNBOUNDED) as channel:
        stub: Any = ClassificationServiceStub(channel)
        if asked.rate:
            await _open(stub, texts, asked.task, seen, asked.rate)
        elif asked.kind == "stream":
            await _stream(stub, texts, asked.task, seen, asked.concurrency)
        else:
            send = _batch if asked.kind == "batch" else _unary
            await asyncio.gather(*(send(stub, texts, asked.task, seen) for _ in range(asked.concurrency)))
    spent = time.process_time() - before
    print(json.dumps({**seen.figures(), "cores": spent / (time.perf_counter() - began)}))


if __name__ == "__main__":
    uvloop.run(main())
