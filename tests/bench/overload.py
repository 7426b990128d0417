"""What becomes of a service that is offered more than it can do, and of calls while replicas are restarted.

    python -m tests.bench.overload [--repeats 5] [--rounds 10]

Prints JSON. Offered load comes at random times from a process of its own on the same cores (open loop), as comments of
some length, so that sending them costs little beside labelling them; what the client takes of the cores is told, too.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
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


def offered(server: Server, file: Path, repeats: int) -> list[dict[str, float]]:
    """Throughput, refusals, latency and memory at so many times what the service can do, in turns; medians."""
    seen: dict[int, list[dict[str, float]]] = defaultdict(list)
    capacity = []
    load = ("load", server.address, file, "--seconds", _SECONDS, "--task", store.TASK)
    for _ in range(repeats):
        best = run(*load, "--concurrency", 64)["rate"]
        capacity.append(best)
        for times in _TIMES:
            began, before = time.perf_counter(), _processor_seconds(server)
            found = run(*load, "--rate", best * times)
            own = (_processor_seconds(server) - before) / (time.perf_counter() - began)
            row = {**found, "share": found["rate"] / best, "memory_mib": resident_mib(server), "own_cores": own}
            seen[times].append(row)
    names = ("rate", "share", "refused", "errors", "p50", "p99", "refused_p99", "memory_mib", "cores", "own_cores")
    return [{"times": 0, "rate": statistics.median(capacity)}] + [
        {"times": times, **{name: statistics.median(one[name] for one in rows) for name in names}}
        for times, rows in seen.items()
    ]


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
        servers = [
            Server(folder / one, "--no-seeds", NEARVOTE_EMBEDDING_CACHE_MIB="0").start() for one in ("one", "two")
        ]
        for server in servers:
            stack.callback(server.stop)
        answered, failed = await restarted_in_turn(servers, store.TASK, rounds=rounds)
        servers[1].stop()
        return {
            "offered": offered(servers[0], file, repeats),
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
