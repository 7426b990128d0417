"""Laws of importing, whatever is in the file."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from nearvote import Client
from tests.import_files import Fate, import_files, imported
from tests.integration.server import Server

# What a line may be refused with: all of them its own fault.
_THEIRS = {"INVALID_ARGUMENT", "NOT_FOUND"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the encoder without a model."""
    server = Server(tmp_path_factory.mktemp("files") / "data", "--model", "hashing", "--no-seeds").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    """A client of it."""
    with server.client() as client:
        yield client


def _lines(fate: Fate) -> list[int]:
    return sorted([*fate.accepted, *fate.refused_by_reader, *fate.refused_by_service])


def test_every_line_is_stored_or_named(client: Client, server: Server) -> None:
    """Each line of a file is stored as it was written, or named with what is wrong with it."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(import_files())
    def holds(drawn: tuple[bytes, bool]) -> None:
        file, is_csv = drawn
        fate = imported(client, file, is_csv=is_csv)
        assert fate.lost == []
        assert set(fate.refused_by_service.values()) <= _THEIRS, server.log.read_text()[-3000:]
        lines = _lines(fate)
        assert len(lines) == len(set(lines)), "no line has two fates"
        if not is_csv:
            assert lines == [i for i, line in enumerate(file.split(b"\n"), 1) if _is_something(line)]

    holds()
    assert "internal_error" not in server.log.read_text()


def test_right_and_wrong_lines_are_told_apart(client: Client) -> None:
    """Of three lines the two that are right are stored, and the third is named by the service."""
    right = (
        b'{"text": "win a prize", "label": "spam"}\n{"text": "see you", "label": "ham"}\n{"text": "", "label": "ham"}'
    )
    fate = imported(client, right, is_csv=False)
    assert (fate.accepted, fate.refused_by_reader, fate.lost) == ([1, 2], [], [])
    assert fate.refused_by_service == {3: "INVALID_ARGUMENT"}


def _is_something(line: bytes) -> bool:
    try:
        return bool(line.decode("utf-8-sig").strip())
    except UnicodeDecodeError:
        return True
