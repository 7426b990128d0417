"""Laws of the port, whatever comes to it."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.server import Server, wait_until, with_spam
from tests.odd_http2 import ENDS, OPENINGS, WAITS, answer_to, half_open

_OURS = ("Internal", "Unknown", "DataLoss")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a task `spam` and one example."""
    with with_spam(tmp_path_factory.mktemp("http2") / "data") as server:
        yield server


def _is_well(server: Server) -> bool:
    with server.client() as client:
        return client.classify("win a prize", ["spam"]).predictions[0].labels == ("spam",)


def test_whatever_comes_to_the_port_is_answered_or_ended(server: Server) -> None:
    """Garbage, other protocols, odd frames and wrong lengths end in a status or with the connection."""

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(OPENINGS, st.booleans())
    def holds(opening: bytes, closes: bool) -> None:  # noqa: FBT001 - drawn
        answer = answer_to(server.address, opening, closes=closes)
        # INTERNAL is gRPC's own answer to headers that can't be decompressed; handlers' answers are looked at below.
        assert answer in {ENDS, WAITS} or answer.isupper(), answer

    holds()
    assert _is_well(server)
    counts = server.metrics()
    handled = [name for name, calls in counts.items() if name.startswith("grpc_server_handled_total") and calls]
    assert handled
    assert [name for name in handled if any(f'grpc_code="{code}"' in name for code in _OURS)] == []
    assert "internal_error" not in server.log.read_text(errors="replace")  # gRPC logs bytes as they came


def test_connections_that_say_nothing_keep_nobody_out(server: Server) -> None:
    """Beside many connections that are opened and left, calls are answered; when they go, nothing of them stays."""
    before = server.metrics()["process_open_fds"]
    opened = half_open(server.address, 200)
    try:
        wait_until(lambda: server.metrics()["process_open_fds"] >= before + 200)
        assert _is_well(server)
    finally:
        for connection in opened:
            connection.close()
    wait_until(lambda: server.metrics()["process_open_fds"] < before + 20)
    assert _is_well(server)
