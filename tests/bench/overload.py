"""What becomes of a service that is offered more than it can do, and of calls while replicas are restarted.

    python -m tests.bench.overload [--repeats 5] [--rounds 10]

Prints JSON. Offered load comes at random times from a process of its own (open loop), as comments of some length, so
that sending them costs little beside labelling them. The client has a core to itself: what it takes for four times the
load would otherwise be missing where the service is to show what is left of it.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.bench import sets, store
from tests.bench.performance import run
from tests.bench.start import resident_mib
from tests.bench.texts import draw
from tests.integration.rolling import restarted_in_turn
from tests.integration.server import Server

_EXAMPLES = 2_000
_SECONDS = 8.0
_TIMES = (1, 2, 4)
_AT_ONCE = 64


def offered(server: Server, file: Path, repeats: int) -> list[dict[str, Any]]:
    """Throughput, refusals, latency and memory at so many times what the service can do, in turns; medians.

    What it can do is measured before and after each, since a machine may become slower or faster within a turn.
    """
    seen: dict[int, list[dict[str, float]]] = defaultdict(list)
    load = ("load", server.address, file, "--seconds", _SECONDS, "--task", store.TASK)
    capacity = [run(*load, "--concurrency", _AT_ONCE)["rate"]]
    for _ in range(repeats):
        for times in _TIMES:
            began, before = time.perf_counter(), _processor_seconds(server)
            found = run(*load, "--rate", capacity[-1] * times)
            own = (_processor_seconds(server) - before) / (time.perf_counter() - began)
            capacity.append(run(*load, "--concurrency", _AT_ONCE)["rate"])
            row = {**found, "share": found["rate"] / statistics.mean(capacity[-2:]), "own_cores": own}
            seen[times].append({**row, "memory_mib": resident_mib(server)})
    names = ("rate", "share", "refused", "errors", "p50", "p99", "refused_p99", "memory_mib", "cores", "own_cores")
    return [{"times": 0, "rate": statistics.median(capacity)}] + [
        {
            "times": times,
            **{name: statistics.median(one[name] for one in rows) for name in names},
            "shares": sorted(one["share"] for one in rows),
        }
        for times, rows in seen.items()
    ]


@contextmanager
def _on_cores(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _processor_seconds(server: Server) -> float:
    return server.metrics()["process_cpu_seconds_total"]


async def measure(repeats: int, rounds: int) -> dict[str, Any]:
    """All of it."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        file = folder / "texts.json"
        file.write_text(json.dumps(draw("comment", 4_000)))
        await store.prepare(folder / "one", _EXAMPLES)
        await store.prepare(folder / "two", _EXAMPLES)

        def serve(name: str) -> Server:
            server = Server(folder / name, "--no-seeds", NEARVOTE_EMBEDDING_CACHE_MIB="0").start()
            stack.callback(server.stop)
            return server

        servers = [serve("one"), serve("two")]
        answered, failed = await restarted_in_turn(servers, store.TASK, rounds=rounds)
        for server in servers:
            server.stop()
        *services, client = sorted(os.sched_getaffinity(0))
        with _on_cores(set(services) or {client}):
            server = serve("one")
        with _on_cores({client}):
            seen = offered(server, file, repeats)
        return {
            "cores": len(services) or 1,
            "offered": seen,
            "restarts": {"restarts": 2 * rounds, "answered": answered, "failed": failed},
        }


async def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    print(json.dumps(await measure(asked.repeats, asked.rounds), indent=1))


if __name__ == "__main__":
    sets.measure_with(main)
