"""Whom a serving process talks to: those who call it, and what it was told to."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearvote.embedding.models import DEFAULT_MODEL
from nearvote.examples.server_engine import ServerEngine
from tests.integration import confined
from tests.integration.server import Server
from tests.qdrant.stand_in import StandIn

_CONFINED = [sys.executable, confined.__file__]
pytestmark = pytest.mark.skipif(not confined.SUPPORTED, reason="confines by seccomp on x86-64 and arm64 Linux")


_CONNECTS = "import socket; socket.create_connection(('127.0.0.1', 1))"


@pytest.mark.parametrize(
    ("code", "ends_by"),
    [
        (_CONNECTS, -signal.SIGSYS),
        ("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)", -signal.SIGSYS),
        ("import socket; socket.socket().sendto(b'', ('127.0.0.1', 1))", -signal.SIGSYS),
        (f"import subprocess, sys; sys.exit(-subprocess.call([sys.executable, '-c', {_CONNECTS!r}]))", signal.SIGSYS),
        ("import socket; socket.create_server(('127.0.0.1', 0)); a, b = socket.socketpair(); a.send(b'x')", 0),
    ],
)
def test_who_is_confined_reaches_nobody(code: str, ends_by: int) -> None:
    """A confined process ends at its first try to reach somebody, or to look up a name, and may listen."""
    done = subprocess.run([*_CONFINED, sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == ends_by


@pytest.fixture
def alone(tmp_path: Path, model_cache: str) -> Iterator[Server]:
    """A server with the default model, the seeds and the embedded store, confined, and not told to stay offline."""
    server = Server(
        tmp_path / "data",
        NEARVOTE_CACHE_DIR=model_cache,
        HF_HUB_OFFLINE="0",
        NEARVOTE_EXPLAIN_HOURS="1",
    )
    server.program = [*_CONFINED, *server.program]
    yield server.start()
    server.stop()


def test_a_server_of_its_own_reaches_nobody(alone: Server) -> None:
    """With the embedded store a server starts, labels, learns, fits and stops, and reaches for nobody: no telemetry."""
    with alone.client() as client:
        assert client.classify("URGENT: pay the fee at http://parcel-fee.example now", tasks=["spam"]).predictions
    for command in (
        ("examples", "add", "-t", "spam", "-l", "spam", "claim the prize at http://prize.example"),
        ("fit", "-t", "spam"),
        ("health",),
    ):
        done = alone.cli(*command)
        assert done.returncode == 0, done.stderr
    assert alone.stop() == 0


def test_an_export_reaches_nobody(tmp_path: Path) -> None:
    """The default model is exported at a first start by a process that is as confined, and reaches for nobody."""
    code = (
        "import sys; from pathlib import Path; from nearvote.embedding.load import load_encoder\n"
        f"print(load_encoder({DEFAULT_MODEL!r}, None, 'cpu', Path(sys.argv[1]), 1).spec.engine)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    command = [*_CONFINED, sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "onnx-cpu"


async def test_a_qdrant_server_is_asked_by_grpc_alone(data_folder: Path) -> None:
    """Of a Qdrant server only the configured gRPC port is called: no version is asked for over HTTP."""
    stand_in = StandIn(data_folder).start()
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as http:
        stack.callback(stand_in.stop)
        http.settimeout(0)
        engine = ServerEngine.connect(
            f"http://127.0.0.1:{http.getsockname()[1]}", grpc_port=stand_in.port, api_key=None, timeout_seconds=10
        )
        assert await engine.collections() is not None
        await engine.close()
        with pytest.raises(BlockingIOError):
            http.accept()
