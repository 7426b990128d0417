"""`nearvote health`: the check that a container runs."""

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.integration.server import Server, free_port, run


def test_the_service_is_serving(plain: Server) -> None:
    """A service that is well ends the command with 0, as a whole and for one of its services."""
    done = plain.cli("health")
    assert (done.returncode, done.stdout.strip()) == (0, "SERVING")
    assert plain.cli("health", "nearvote.v1.ClassificationService").returncode == 0


def test_a_service_that_there_is_not_is_wrong_usage(plain: Server) -> None:
    """A name that nobody serves is a mistake of the caller, not ill health."""
    done = plain.cli("health", "nearvote.v1.Nope")
    assert done.returncode == 2
    assert "nearvote.v1.Nope" in done.stderr


def test_nobody_there_is_told_apart() -> None:
    """Where nothing listens the command ends with 3."""
    done = run("health", "--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert "nobody answers" in done.stderr


def test_a_process_that_hangs_is_not_healthy(plain: Server) -> None:
    """A process that takes the connection and says nothing fails within the time given."""
    assert plain.process is not None
    plain.process.send_signal(signal.SIGSTOP)
    try:
        done = plain.cli("health", "--timeout", "1")
    finally:
        plain.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "DEADLINE_EXCEEDED" in done.stderr


@pytest.fixture
def not_serving() -> Iterator[tuple[str, health.HealthServicer]]:
    """A health service and where it is, to be set to anything."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(None)


def test_not_serving_fails(not_serving: tuple[str, health.HealthServicer]) -> None:
    """A service that says that it does not serve ends the command with 1."""
    address, servicer = not_serving
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    done = run("health", "--address", address)
    assert done.returncode == 1
    assert "NOT_SERVING" in done.stderr


def test_tls_is_spoken_to_a_named_server(tmp_path: Path) -> None:
    """With certificates to trust, TLS is spoken, and the certificate must be for the name that is given."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", tmp_path / "tls.key", "-out", tmp_path / "tls.crt", "-days", "1"),
            *("-subj", "/CN=nearvote", "-addext", "subjectAltName=DNS:nearvote.example"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    pair = ((tmp_path / "tls.key").read_bytes(), (tmp_path / "tls.crt").read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    asked = ("health", "--address", f"127.0.0.1:{port}", "--tls-ca", str(tmp_path / "tls.crt"), "--server-name")
    try:
        assert run(*asked, "nearvote.example").returncode == 0
        assert run(*asked, "other.example").returncode == 3
    finally:
        server.stop(None)
    assert run("health", "--tls-ca", str(tmp_path / "nowhere.crt")).returncode == 2
