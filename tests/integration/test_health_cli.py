"""`nearvote health`: the check that a container runs."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.integration.server import Server, free_port, run, wait_until


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
    """With authorities to trust, TLS is spoken: the certificate is of the name given, and the client shows its own."""
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    files = {}
    for name in ("service.example", "probe.example"):
        issued = authority.issue_cert(name, common_name=name)
        files[name] = cert, key = str(tmp_path / f"{name}.pem"), str(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
    server = Server(tmp_path / "data", "--model", "hashing", "--no-seeds")
    cert, key = files["service.example"]
    server.environment |= {"NEARVOTE_TLS_CERT": cert, "NEARVOTE_TLS_KEY": key, "NEARVOTE_TLS_CLIENT_CA": str(ca)}
    trusting = {"NEARVOTE_ADDRESS": server.address, "NEARVOTE_TLS_CA": str(ca)}
    named = {"NEARVOTE_SERVER_NAME": "service.example"}
    own = dict(zip(("NEARVOTE_TLS_CLIENT_CERT", "NEARVOTE_TLS_CLIENT_KEY"), files["probe.example"], strict=True))
    server.launch()
    try:
        wait_until(lambda: run("health", **trusting, **named, **own).returncode == 0)
        assert run("health", **trusting, **named).returncode == 3, "without a certificate of its own"
        assert run("health", **trusting, **own).returncode == 3, "the certificate is not for the address"
        assert run("health", NEARVOTE_ADDRESS=server.address).returncode == 3, "without TLS"
        assert run("health", "--tls-client-cert", cert, **trusting).returncode == 2, "a certificate without its key"
    finally:
        server.stop()
    done = run("health", "--tls-ca", str(tmp_path / "nowhere.pem"))
    assert (done.returncode, "nowhere.pem" in done.stderr) == (2, True)
