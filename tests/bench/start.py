"""How long a start takes, and how much memory the served process holds.

    python -m tests.bench.start [--repeats 5]

Cold: nothing exported, nothing stored: the model is exported and the seeds are embedded. Warm: both are there. Times
run from the start of the process to the first SERVING of its health service.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.integration.server import Server


def resident_mib(server: Server) -> float:
    """Resident memory, in MiB."""
    return server.metrics()["process_resident_memory_bytes"] / 2**20


def core_seconds(server: Server) -> dict[str, float]:
    """Seconds of a core that the server has taken so far: its `encoder`'s threads, which are nice, and all `else`."""
    assert server.process is not None
    taken = {"encoder": 0.0, "else": 0.0}
    for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
        fields = (thread / "stat").read_text().rpartition(")")[2].split()  # from the third on, of proc(5)
        user, system, niceness = int(fields[11]), int(fields[12]), int(fields[16])
        taken["encoder" if niceness else "else"] += (user + system) / os.sysconf("SC_CLK_TCK")
    return taken


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    cold, first, warm, idle, used = [], [], [], [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(Path(folder) / "data", NEARVOTE_CACHE_DIR=f"{folder}/cache")
            began = time.perf_counter()
            server.start()
            cold.append(time.perf_counter() - began)
            first.append(resident_mib(server))
            server.stop()
            began = time.perf_counter()
            server.start()
            warm.append(time.perf_counter() - began)
            idle.append(resident_mib(server))
            with server.client() as client:
                for _ in range(20):
                    client.classify_batch(["a short message", "a longer one, " * 40] * 16)
            used.append(resident_mib(server))
            server.stop()
    for what, figures, unit in (
        ("cold start", cold, "s"),
        ("warm start", warm, "s"),
        ("resident memory, after a cold start", first, "MiB"),
        ("resident memory, warm and idle", idle, "MiB"),
        ("resident memory, after 640 texts for all tasks", used, "MiB"),
    ):
        spread = f"{min(figures):.1f} to {max(figures):.1f}"
        print(f"| {what} | {statistics.median(figures):.1f} {unit} ({spread}) |")


if __name__ == "__main__":
    main()
