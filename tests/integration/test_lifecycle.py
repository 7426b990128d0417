"""Starting, stopping, and refusing to."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.conftest import Start
from tests.integration.rolling import restarted_in_turn
from tests.integration.server import Server, free_port, run, wait_until

_AS_FIRST = ["unshare", "--pid", "--fork", "--kill-child"]


def _may_be_first() -> bool:
    try:
        return subprocess.run([*_AS_FIRST, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_a_second_service_on_the_folder_is_refused(plain: Server) -> None:
    """Two services on one folder: the second says so, names the first, and ends with a code."""
    done = run("serve", "--data-dir", str(plain.folder), "--model", "hashing", "--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert plain.process is not None
    assert f"pid {plain.process.pid}" in done.stderr
    assert "--data-dir" in done.stderr
    assert "Traceback" not in done.stderr
    assert plain.cli("info").returncode == 0


def test_an_address_in_use_is_refused(plain: Server, tmp_path: Path) -> None:
    """A second service on the same port says what to do, before it has loaded an encoder."""
    there = ("serve", "--data-dir", str(tmp_path / "other"), "--model", str(tmp_path / "no encoder"))
    done = run(*there, "--address", plain.address)
    assert done.returncode == 1
    assert f"{plain.address} can't be listened on" in done.stderr
    assert "--address" in done.stderr
    free = f"127.0.0.1:{free_port()}"
    done = run(*there, "--address", free, "--metrics-address", plain.metrics_address)
    assert done.returncode == 1
    assert f"{plain.metrics_address} can't be listened on" in done.stderr
    assert "--metrics-address" in done.stderr
    assert not (tmp_path / "other").exists()


def test_the_index_is_built_while_the_service_is_stopped(plain: Server, tmp_path: Path) -> None:
    """`nearvote optimize` is refused while the service runs, builds the index after it, and says where no store is."""
    assert plain.cli("examples", "add", "-t", "spam", "-l", "spam", "you won a prize, claim it now").returncode == 0
    folder = str(plain.folder)
    running = run("optimize", "--data-dir", folder)
    assert running.returncode == 1
    assert "open in another process" in running.stderr
    plain.stop()
    done = run("optimize", "--data-dir", folder)
    assert (done.returncode, done.stdout.split()[1:]) == (0, ["points", "indexed"])
    assert int(done.stdout.split()[0]) >= 1
    mistyped = run("optimize", "--data-dir", str(tmp_path / "nowhere"), NEARVOTE_DATADIR="x")
    assert mistyped.returncode == 2
    assert "NEARVOTE_DATA_DIR" in mistyped.stderr, "a variable that is no setting is told of"
    plain.start()
    assert "prize" in plain.cli("examples", "list", "-t", "spam").stdout


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NEARVOTE_MAX_K": "many"}, "max_k"),
        ({"NEARVOTE_CONFIG": "/nowhere.toml"}, "/nowhere.toml"),
        ({"NEARVOTE_DEVICE": "abacus"}, "device"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(environment: dict[str, str], said: str) -> None:
    """A setting that can't be right ends the start with its name."""
    done = run("serve", **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_come_from_a_file(start: Start, tmp_path: Path) -> None:
    """A TOML file sets what neither flags nor environment say."""
    config = tmp_path / "nearvote.toml"
    config.write_text("max_text_bytes = 1000\nmax_k = 7\n")
    server = start("--config", str(config), NEARVOTE_MAX_K="9")
    with server.client() as client:
        limits = client.info().limits
    assert (limits.max_text_bytes, limits.max_k) == (1000, 9)


def test_another_encoder_is_refused_until_examples_are_embedded_again(plain: Server, model_cache: str) -> None:
    """A store of other vectors is refused with the command that embeds again, and that command mends it."""
    assert plain.cli("examples", "add", "-t", "spam", "-l", "spam", "you won a prize, claim it now").returncode == 0
    plain.stop()
    other = Server(plain.folder, "--no-seeds", NEARVOTE_CACHE_DIR=model_cache)
    with pytest.raises(AssertionError, match="nearvote reindex --model sentence-transformers/all-MiniLM-L6-v2"):
        other.start()
    done = run("reindex", "--yes", "--data-dir", str(plain.folder), NEARVOTE_CACHE_DIR=model_cache)
    assert done.returncode == 0, done.stderr
    assert "sentence-transformers/all-MiniLM-L6-v2 serves" in done.stdout
    other.start()
    try:
        with other.client() as client:
            (prediction,) = client.classify("claim the prize that you have won", ["spam"], with_texts=True).predictions
        assert prediction.labels == ("spam",)
        assert prediction.neighbors[0].text == "you won a prize, claim it now"
    finally:
        other.stop()


def test_sigterm_lets_calls_finish(plain: Server) -> None:
    """A stop signal turns health to not serving; calls under way are answered; the process ends with 0."""
    with plain.client() as client:
        client.add_example("spam", "word", ["spam"])
    started, go_on = threading.Event(), threading.Event()

    def requests() -> Iterator[classification.StreamClassifyRequest]:
        yield classification.StreamClassifyRequest(correlation_id="first", text="word", tasks=["spam"])
        started.set()
        go_on.wait(20)
        yield classification.StreamClassifyRequest(correlation_id="last", text="word", tasks=["spam"])

    with plain.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        health = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        answers = ClassificationServiceStub(channel).StreamClassify(requests())
        assert next(answers).correlation_id == "first"
        assert started.wait(10)
        assert plain.process is not None
        plain.process.send_signal(signal.SIGTERM)
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        go_on.set()
        assert next(answers).correlation_id == "last"
        assert list(answers) == []
        health.cancel()
        assert plain.process.wait(20) == 0
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            ClassificationServiceStub(channel).Classify(classification.ClassifyRequest(text="word"), timeout=5)


@pytest.mark.skipif(not _may_be_first(), reason="takes a namespace of processes, which is not allowed here")
def test_a_containers_first_process_ends_while_it_starts(tmp_path: Path) -> None:
    """As process 1, which lives through signals that it does not handle, a start is ended by SIGTERM, too, at once."""
    server = Server(tmp_path / "data", NEARVOTE_CACHE_DIR=str(tmp_path / "cache"))
    server.program = [*_AS_FIRST, *server.program]
    server.launch()
    try:
        server.wait_for_log("exporting_model")
        process = server.process
        assert process is not None
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
        assert "serving" not in server.log.read_text()
    finally:
        server.stop(signal.SIGKILL)


def test_a_stream_that_does_not_end_is_told_so(start: Start) -> None:
    """A stream that is open when the time to drain is over has its answers, and then a status that says why it ends."""
    server = start(NEARVOTE_DRAIN_TIMEOUT_SECONDS="0.5")
    assert server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham").returncode == 0
    go_on = threading.Event()

    def requests() -> Iterator[classification.StreamClassifyRequest]:
        yield classification.StreamClassifyRequest(correlation_id="first", text="word", tasks=["spam"])
        go_on.wait(30)

    with server.channel() as channel:
        stub: Any = ClassificationServiceStub(channel)
        stream = stub.StreamClassify(requests())
        assert next(stream).correlation_id == "first"
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as told:
            next(stream)
        go_on.set()
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "about to stop" in str(told.value.details())
    assert server.process.wait(30) == 0


def test_what_was_acknowledged_survives_sigkill(plain: Server) -> None:
    """After SIGKILL every acknowledged example is there, and the folder opens."""
    with plain.client() as client:
        ids = {client.add_example("spam", f"text {i}", ["spam"]).example.id for i in range(50)}
        client.delete_example("spam", min(ids))
    plain.stop(signal.SIGKILL)
    plain.start()
    with plain.client() as client:
        assert {example.id for example in client.list_examples("spam")} == ids - {min(ids)}
        assert client.info().tasks[0].example_count == 49


def test_the_version_of_examples_is_kept(plain: Server) -> None:
    """Predictions carry versions of policy and examples, which grow with changes and outlive a restart."""
    with plain.client() as client:
        client.add_example("spam", "one", ["spam"])
        first = client.classify("one", ["spam"]).predictions[0]
        client.add_example("spam", "two", ["ham"])
        second = client.classify("one", ["spam"]).predictions[0]
        client.add_example("spam", "two", ["ham"])
        third = client.classify("one", ["spam"]).predictions[0]
    assert 0 < first.examples_version < second.examples_version == third.examples_version
    assert first.policy_version == 1
    plain.stop()
    plain.start()
    with plain.client() as client:
        again = client.classify("one", ["spam"]).predictions[0]
    assert (again.examples_version, again.policy_version) == (second.examples_version, 1)


def test_no_text_is_logged(start: Start) -> None:
    """Neither messages nor examples show up in what the process writes, even at the debug level."""
    server = start("--log-level", "debug")
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    with server.client() as client:
        client.add_example("spam", "canary-example", ["spam"])
        client.classify("canary-message", ["spam"])
    assert server.cli("classify", "canary-message", "--task", "nope").returncode == 1
    assert server.cli("examples", "add", "-t", "spam", "-l", "nope", "canary-example").returncode == 1
    server.stop()
    written = server.log.read_text()
    assert "serving" in written
    assert "canary" not in written


def test_a_rolling_restart_loses_nothing(start: Start) -> None:
    """While two replicas are restarted in turn under load, every call is answered, without the client trying again."""
    servers = [start(folder=name) for name in ("one", "two")]
    for server in servers:
        assert server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham").returncode == 0
        assert server.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize").returncode == 0
    answered, failed = asyncio.run(restarted_in_turn(servers, "spam", rounds=1))
    assert failed == {}
    assert answered >= 400


def test_an_old_connection_is_let_go(start: Start) -> None:
    """A client is asked for a new connection after a while, which it makes unseen; its calls go on."""
    server = start(NEARVOTE_MAX_CONNECTION_AGE_SECONDS="1")
    states: list[grpc.ChannelConnectivity] = []
    with server.channel() as channel:
        channel.subscribe(states.append, try_to_connect=True)
        wait_until(lambda: grpc.ChannelConnectivity.READY in states)
        wait_until(lambda: states[-1] is grpc.ChannelConnectivity.IDLE)
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


_LOOK = """
import asyncio, gc
from nearvote import server
from nearvote.settings import read_settings
async def looked():
    print("collector:", gc.get_threshold()[0] > 1_000, gc.get_freeze_count() > 10_000)
server._stop_signal = looked
settings = read_settings({settings})
asyncio.run(server.serve(settings, lambda done, total: None))
"""


def test_the_garbage_collector_looks_rarely(tmp_path: Path) -> None:
    """Once the service runs, the collector looks rarely, and never at what the start has made."""
    settings = {
        "address": f"127.0.0.1:{free_port()}",
        "metrics_address": "off",
        "data_dir": str(tmp_path),
        "model": "hashing",
        "seeds": False,
        "drain_delay_seconds": 0,
    }
    code = _LOOK.format(settings=settings)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "collector: True True" in done.stdout, done.stderr
