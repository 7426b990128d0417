"""The real server, in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearvote import Client
from nearvote.client.access import Access

ROOT = Path(__file__).parents[2]
NEARVOTE = Path(sys.executable).parent / "nearvote"
START_SECONDS = 120  # a first start exports the model


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(*arguments: str, stdin: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `nearvote` with arguments, to its end."""
    return subprocess.run(
        [NEARVOTE, *arguments],
        input=stdin if isinstance(stdin, str) else stdin.decode(),
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


class Server:
    """A nearvote process on ports of its own."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.folder = folder
        self.flags = flags
        self.environment = environment
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.log = folder.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.program: list[str | Path] = [NEARVOTE]
        self.access: dict[str, str] = {}  # what its clients show, as arguments of a client

    def start(self) -> "Server":
        """Starts it, and returns when it serves."""
        return self.launch().serving()

    def launch(self) -> "Server":
        """Starts the process, and returns at once."""
        command: list[str | Path] = [
            *self.program,
            "serve",
            "--address",
            self.address,
            "--metrics-address",
            self.metrics_address,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", self.folder, *self.flags],
                stdout=log,
                stderr=log,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **self.environment},
            )
        return self

    def serving(self) -> "Server":
        """Returns when the process that was started serves."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        with self.channel() as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline and self.process.poll() is None:
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return self
                except grpc.RpcError:
                    continue
        self.stop(signal.SIGKILL)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops it, and returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process = None

    def wait_for_log(self, text: str) -> None:
        """Returns when the log has a text."""
        deadline = time.monotonic() + 20
        while text not in self.log.read_text():
            assert time.monotonic() < deadline, f"the log never had {text}"
            time.sleep(0.02)

    def cli(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command that talks to it."""
        shown = {f"NEARVOTE_{name.upper()}": value for name, value in self.access.items()}
        return run(*arguments, stdin=stdin, NEARVOTE_ADDRESS=self.address, **shown)

    def client(self, **access: str) -> Client:
        """A client of it, which shows what is said here, and else what all of its clients show."""
        shown: dict[str, Any] = {**self.access, **access}
        return Client(self.address, **shown)

    def channel(self) -> grpc.Channel:
        """A bare channel to it."""
        shown: dict[str, Any] = dict(self.access)
        credentials = Access(**shown).credentials
        return grpc.secure_channel(self.address, credentials) if credentials else grpc.insecure_channel(self.address)

    def metrics(self) -> dict[str, float]:
        """Its metrics, by name with labels."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def metric_with(self, *parts: str) -> float:
        """The metric whose name and labels have all these parts, waited for: some are counted after the answer."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for name, value in self.metrics().items():
                if all(part in name for part in parts):
                    return value
            time.sleep(0.05)
        raise AssertionError(f"there is no metric with {parts}")


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for what another process does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@contextmanager
def with_spam(folder: Path, **environment: str) -> Iterator[Server]:
    """A server with the encoder without a model, a task `spam`, and one example."""
    server = Server(folder, "--model", "hashing", "--no-seeds", **environment).start()
    try:
        server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham", "--benign", "ham")
        server.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
        yield server
    finally:
        server.stop()
