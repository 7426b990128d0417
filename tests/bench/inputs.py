"""Sends a service what it was not made for, by the thousand, and counts how each ends.

    python -m tests.bench.inputs [--each 60] [--output FILE]

One service, with the encoder without a model, gets all of it: so many calls of each RPC with messages drawn at random
from its own type, and with bytes drawn at random; files of examples, right and wrong lines mixed; and connections that
bring garbage, other protocols, odd HTTP/2 or nothing. Ends with 1 when a call of ours ended as our fault (INTERNAL,
UNKNOWN, DATA_LOSS), an accepted line was lost, or the process is gone.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.bench.start import resident_mib
from tests.import_files import import_files, imported
from tests.integration.server import Server, with_spam
from tests.odd_http2 import OPENINGS, answer_to, half_open
from tests.wire_messages import METHODS, messages, outcome

_OURS = {"INTERNAL", "UNKNOWN", "DATA_LOSS"}
_HALF_OPEN = 500

Ends = Counter[str]


def _drawn(strategy: st.SearchStrategy[Any], count: int, work: Callable[[Any], None]) -> None:
    """Does some work with so many values."""

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(value: Any) -> None:
        work(value)

    one()


def of_their_types(server: Server, each: int) -> Ends:
    """Messages of the right type, on every RPC."""
    ends: Ends = Counter()
    with server.channel() as channel:
        for method in METHODS:

            def call(requests: list[Any], method: Any = method) -> None:
                code, _ = outcome(channel, method, [request.SerializeToString() for request in requests])
                ends[code.name] += 1

            _drawn(st.lists(messages(method.input_type), min_size=1, max_size=3), each, call)
    return ends


def of_any_bytes(server: Server, each: int) -> Ends:
    """Bytes as messages, on every RPC."""
    ends: Ends = Counter()
    with server.channel() as channel:
        for method in METHODS:

            def call(requests: list[bytes], method: Any = method) -> None:
                ends[outcome(channel, method, requests)[0].name] += 1

            _drawn(st.lists(st.binary(max_size=200), min_size=1, max_size=2), each, call)
    return ends


def files(server: Server, count: int) -> Ends:
    """Files, by what became of their lines."""
    ends: Ends = Counter()
    with server.client() as client:

        def one(drawn: tuple[bytes, bool]) -> None:
            fate = imported(client, drawn[0], is_csv=drawn[1])
            ends.update(
                {
                    "files": 1,
                    "lines stored": len(fate.accepted),
                    "named by the reader": len(fate.refused_by_reader),
                    "named by the service": len(fate.refused_by_service),
                    "lost": len(fate.lost),
                }
            )
            ends.update(code for code in fate.refused_by_service.values() if code in _OURS)

        _drawn(import_files(), count, one)
    return ends


def connections(server: Server, count: int) -> Ends:
    """What comes to the port that is no call, by what came back."""
    ends: Ends = Counter()
    _drawn(
        st.tuples(OPENINGS, st.booleans()),
        count,
        lambda drawn: ends.update([answer_to(server.address, drawn[0], closes=drawn[1])]),
    )
    opened = half_open(server.address, _HALF_OPEN)
    with server.client() as client:
        client.info()  # answered beside all of them
    for connection in opened:
        connection.close()
    ends["opened, left, and called beside"] = _HALF_OPEN
    return ends


def measure(server: Server, each: int) -> dict[str, Any]:
    """All of it, with the memory before and after each kind."""
    kinds: dict[str, Callable[[Server, int], Ends]] = {
        "messages of the right type, on every RPC": of_their_types,
        "bytes as messages, on every RPC": of_any_bytes,
        "files of examples": lambda server, each: files(server, 10 * each),
        "connections": lambda server, each: connections(server, 50 * each),
    }
    rows = []
    for name, send in kinds.items():
        send(server, max(1, each // 6))  # caches and pools fill: what grows after that would go on growing
        before = resident_mib(server)
        ends = send(server, each)
        rows.append({"kind": name, "ends": dict(ends.most_common()), "mib": [before, resident_mib(server)]})
        print(json.dumps(rows[-1]), flush=True)
    assert server.process is not None
    counts = server.metrics()
    handled = [name for name, calls in counts.items() if name.startswith("grpc_server_handled_total") and calls]
    ours = [name for name in handled if any(f'grpc_code="{code}"' in name for code in ("Internal", "Unknown"))]
    return {
        "rpcs": len(METHODS),
        "kinds": rows,
        "our_fault": ours,
        "internal_errors": server.log.read_text(errors="replace").count("internal_error"),
        "alive": server.process.poll() is None,
    }


def main() -> None:
    """Sends and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, with_spam(Path(folder) / "data") as server:
        found = measure(server, asked.each)
    if asked.output is not None:
        asked.output.write_text(json.dumps(found, indent=1) + "\n")
    lost = sum(row["ends"].get("lost", 0) for row in found["kinds"])
    if found["our_fault"] or found["internal_errors"] or lost or not found["alive"]:
        raise SystemExit(json.dumps(found))


if __name__ == "__main__":
    main()
