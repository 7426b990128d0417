"""Another encoder while a real service answers: under load, killed, and on several replicas."""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearvote import Client
from nearvote.client import Draft, Label, ServiceError, Task
from nearvote.embedding.models import DEFAULT_MODEL
from nearvote.reindex.status import Phase
from nearvote.voting.neighbor import View
from tests.integration.server import ROOT, START_SECONDS, Server, wait_until
from tests.qdrant.stand_in import StandIn

_T = TypeVar("_T")

_PROGRAM = [sys.executable, str(ROOT / "tests/integration/two_encoders.py")]
_PAUSE_SECONDS = 0.05  # of each caller
_MESSAGE = "win a splendid prize number 7 today"


def _server(folder: Path, **environment: str) -> Server:
    server = Server(folder, "--model", "hashing", "--no-seeds", **environment)
    server.program = [*_PROGRAM]
    return server


def _texts(first: int, count: int) -> list[Draft]:
    labels = (("spam", "win a splendid prize number"), ("ham", "see you at lunch number"))
    return [Draft("spam", f"{text} {i} today", (label,)) for i in range(first, first + count) for label, text in labels]


def _fill(*servers: Server) -> None:
    """Adds a task with examples by the first, and returns when all know it."""
    with servers[0].client() as client:
        client.create_task(Task("spam", (Label("spam"), Label("ham"))))
        for start in range(0, 300, 50):
            client.add_examples(_texts(start, 50))
    wait_until(lambda: all(map(_knows, servers)))


def _knows(server: Server) -> bool:
    with server.client() as client:
        try:
            client.classify(_MESSAGE, ["spam"])
        except ServiceError:
            return False
    return True


def _cli(server: Server, *arguments: str) -> str:
    """Runs a command that talks to the server, and returns what it prints."""
    done = subprocess.run(
        [*_PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
        env={**os.environ, "COLUMNS": "200", "NEARVOTE_ADDRESS": server.address},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _model(server: Server) -> str:
    with server.client() as client:
        return client.info().encoder.model


class Load:
    """Callers who classify, add and delete all the while, and note what went wrong.

    Args:
        servers: Each is called by callers of its own.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._done = threading.Event()
        self._numbers = itertools.count(1_000)
        self.wrong: list[str] = []
        self.answered = 0
        self.added: set[str] = set()
        self.deleted: set[str] = set()
        self.models: set[str] = set()

    def __enter__(self) -> Self:
        with self._servers[0].client() as client:
            self._expected = self._similarity(client)
        self._threads = ThreadPoolExecutor(3 * len(self._servers))
        for server in self._servers:
            for act in (self._ask, self._stream, self._write):
                self._threads.submit(self._run, server, act)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._threads.shutdown()

    def more(self, answers: int = 20, writes: int = 4) -> None:
        """Returns when so many more were answered, and made."""
        answered, written = self.answered + answers, len(self.added) + writes
        wait_until(lambda: bool(self.wrong) or (self.answered >= answered and len(self.added) >= written), 120)
        assert self.wrong == []

    def _run(self, server: Server, act: Callable[[Client], None]) -> None:
        with server.client() as client:
            while not self._done.is_set():
                try:
                    act(client)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is to be shown at the end
                    self.wrong.append(f"{server.address}: {error!r}")

    def _similarity(self, client: Client) -> float:
        classification = client.classify(_MESSAGE + " again", ["spam"])
        self.models.add(classification.encoder_key)
        (prediction,) = classification.predictions
        assert prediction.labels == ("spam",)
        return max(one.similarity for one in prediction.neighbors if one.view is View.MEANING)

    def _ask(self, client: Client) -> None:
        similarity = self._similarity(client)
        if abs(similarity - self._expected) > 1e-3:
            self.wrong.append(f"vectors of two spaces were compared: {similarity}, not {self._expected}")
        self.answered += 1
        self._done.wait(_PAUSE_SECONDS)

    def _stream(self, client: Client) -> None:
        answered = threading.Semaphore(1)  # what is sent ahead of the answers would be worked on at the end

        def texts() -> Iterator[str]:
            while not self._done.wait(_PAUSE_SECONDS):
                if answered.acquire(timeout=1):
                    yield _MESSAGE

        for answer in client.classify_stream(texts(), ["spam"]):
            answered.release()
            if answer.error or not answer.classification or answer.classification.predictions[0].labels != ("spam",):
                self.wrong.append(f"in a stream: {answer}")

    def _write(self, client: Client) -> None:
        number = next(self._numbers)
        kept, gone = (
            self._told(functools.partial(client.add_example, "spam", text, ["ham"])).example.id
            for text in (f"kept word {number} came meanwhile", f"gone word {number} came meanwhile")
        )
        self.added.add(kept)
        try:
            self._told(lambda: client.delete_example("spam", gone))
        except ServiceError as error:
            if error.reason != "EXAMPLE_NOT_FOUND":  # a try that was refused has deleted it
                raise
        self.deleted.add(gone)
        self._done.wait(_PAUSE_SECONDS)

    @staticmethod
    def _told(act: Callable[[], _T]) -> _T:
        """Does as a caller that is told to try again for a moment, since another encoder comes to serve."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return act()
            except ServiceError as error:
                if error.reason != "SPACE_SWITCHING" or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def assert_right(self, server: Server) -> None:
        """What was acknowledged is so, and nothing went wrong."""
        assert self.wrong == []
        with server.client() as client:
            there = {one.id for one in client.export_examples("spam")}
        assert self.added <= there
        assert not self.deleted & there
        assert len(there) == 600 + len(self.added)


def test_under_load(tmp_path: Path) -> None:
    """Every message is answered within one space; what is added and deleted meanwhile is so after it, and back."""
    server = _server(tmp_path / "data").start()
    try:
        _fill(server)
        with Load([server]) as load:
            load.more()
            shown = _cli(server, "reindex", "--model", "hashing-2")
            assert "accuracy on the examples" in shown
            assert _model(server) == "hashing"
            load.more()
            shown = _cli(server, "reindex", "--switch")
            assert "hashing-2 serves" in shown
            assert _model(server) == "hashing-2"
            load.more()
            _cli(server, "reindex", "--back")
            assert _model(server) == "hashing"
            load.more()
        load.assert_right(server)
        assert len(load.models) == 2
        with server.client() as client:
            status = client.reindex.status()
            assert (status.serving_model, status.former_model, status.phase) == ("hashing", "hashing-2", Phase.IDLE)
            assert client.reindex.drop_former().former_model == ""
    finally:
        server.stop()


def test_killed_half_way(tmp_path: Path) -> None:
    """After SIGKILL the old encoder serves; it goes on from what is there; a restart serves what was switched to."""
    gate = tmp_path / "gate"
    gate.touch()
    server = _server(tmp_path / "data", REINDEX_GATE=str(gate)).start()
    try:
        _fill(server)
        with server.client() as client:
            client.reindex.start("hashing-2")

            def half_way() -> bool:
                return 0 < client.reindex.status().done < 600

            wait_until(half_way, 60)
        server.stop(signal.SIGKILL)
        server.start()
        with server.client() as client:
            assert client.classify(_MESSAGE, ["spam"]).predictions[0].labels == ("spam",)
            now = client.reindex.status()
            assert (now.phase, now.serving_model, now.building_model) == (Phase.IDLE, "hashing", "hashing-2")
            with pytest.raises(ServiceError, match="nothing is ready"):
                client.reindex.switch()
        gate.unlink()
        assert "hashing-2 serves" in _cli(server, "reindex", "--yes")
        server.stop(signal.SIGKILL)
        server.start()  # whose settings still name the former one
        assert _model(server) == "hashing-2"
        assert "encoder_switched_since" in server.log.read_text()
        with server.client() as client:
            (prediction,) = client.classify(_MESSAGE, ["spam"]).predictions
            assert prediction.neighbors[0].similarity == pytest.approx(1, abs=1e-3)
            assert len([*client.export_examples("spam")]) == 600
    finally:
        server.stop()


@pytest.mark.parametrize("how", ["stop", "cancel", "cancel at once"])
def test_ended_while_a_model_is_exported(how: str, tmp_path: Path) -> None:
    """Neither a stop nor a cancelled reindex waits until a model is exported, and nothing is left of the export."""
    server = _server(tmp_path / "data", NEARVOTE_CACHE_DIR=str(tmp_path / "cache")).start()
    try:
        _fill(server)
        with server.client() as client:
            client.reindex.start(DEFAULT_MODEL)
            if how != "cancel at once":
                wait_until(lambda: bool(_run_apart_by(server)))
            if how != "stop":
                client.reindex.cancel()
                wait_until(lambda: not _run_apart_by(server))
        assert server.stop() == 0
        assert list((tmp_path / "cache").rglob("*.onnx")) == [], "it was exported"
        assert "Traceback" not in server.log.read_text()
    finally:
        server.stop()


def _run_apart_by(server: Server) -> list[str]:
    """The processes that it has started and that have not ended."""
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    return [pid for file in children for pid in file.read_text().split()]


def test_a_stopped_service(tmp_path: Path) -> None:
    """The same command opens the store itself where a folder is named; what it left the service goes on with."""
    server = _server(tmp_path / "data").start()
    folder = ("--data-dir", str(server.folder))
    _fill(server)
    server.stop()
    assert "hashing serves" in _cli(server, "reindex", "--model", "hashing-2", *folder)
    server.start()
    try:
        _cli(server, "reindex", "--switch")
        assert _model(server) == "hashing-2"
    finally:
        server.stop()
    done = json.loads(_cli(server, "reindex", "--back", "--json", *folder))
    assert (done["serving_model"], done["former_model"], done["phase"]) == ("hashing", "hashing-2", "idle")
    server.start()
    try:
        assert _model(server) == "hashing"
    finally:
        server.stop()


def test_tried_before_the_switch(tmp_path: Path) -> None:
    """The encoder that is ready is tried on live messages by one command, and over once it serves, by another."""
    server = _server(tmp_path / "data").start()
    try:
        _fill(server)
        start = ("shadow", "start", "--task", "spam", "--encoder", "--share", "1")
        refused = server.cli(*start)
        assert refused.returncode == 1
        assert "nearvote reindex --model" in refused.stderr
        assert server.cli("shadow", "start", "--task", "spam").returncode == 2
        _cli(server, "reindex", "--model", "hashing-2")
        assert "trying hashing-2 on 100.0% of spam's messages" in _cli(server, *start)
        with server.client() as client:
            answer = client.classify(_MESSAGE, ["spam"])
            agree = ("nearvote_shadow_predictions_total", 'outcome="agree"', 'task="spam"')
            wait_until(lambda: server.metric_with(*agree) == 1)
            with pytest.raises(ServiceError, match="nearvote reindex --switch") as error:
                client.promote_shadow("spam")
            assert error.value.reason == "CANNOT_REINDEX"
            (shown,) = client.list_shadows()
            assert (shown.encoder_model, shown.outdated) == ("hashing-2", False)
            client.reindex.cancel()
            assert client.list_shadows()[0].outdated
            status = server.cli("shadow", "status").stdout
            assert "encoder hashing-2" in status
            assert "outdated" in status
            _cli(server, "reindex", "--model", "hashing-2")
            client.start_encoder_shadow("spam", 1.0)
            client.classify(_MESSAGE, ["spam"])
            wait_until(lambda: server.metric_with(*agree) == 2)
            client.reindex.switch()
            assert client.list_shadows() == []
            assert client.classify(_MESSAGE, ["spam"]).encoder_key != answer.encoder_key
            assert not any('outcome="failed"' in name for name in server.metrics() if "shadow" in name)
    finally:
        server.stop()


@contextmanager
def _replicas(folder: Path, data_folder: Path) -> Iterator[list[Server]]:
    """Three that share a store with a task; the last one can't load the other encoder."""
    store = StandIn(data_folder).start()
    there = {"NEARVOTE_QDRANT_URL": "http://127.0.0.1", "NEARVOTE_QDRANT_GRPC_PORT": str(store.port)}
    servers = [_server(folder / f"replica{i}", **there) for i in range(3)]
    servers[2].environment["REINDEX_WITHOUT"] = "1"
    with ExitStack() as stack:
        stack.callback(store.stop)
        for server in servers:
            stack.callback(server.stop, signal.SIGKILL)
            server.start()
        _fill(*servers)
        yield servers


def test_tried_by_replicas(tmp_path: Path, data_folder: Path) -> None:
    """Every replica that can load the encoder tries it; one that can't counts what it would have tried."""
    with _replicas(tmp_path, data_folder) as servers:
        _cli(servers[0], "reindex", "--model", "hashing-2")
        with servers[0].client() as client:
            client.start_encoder_shadow("spam", 1.0)
        for server, outcome in zip(servers, ("agree", "agree", "not_loaded"), strict=True):
            parts = ("nearvote_shadow_predictions_total", f'outcome="{outcome}"')
            with server.client() as client:

                def counted(client: Client = client, server: Server = server, parts: Sequence[str] = parts) -> bool:
                    client.classify(_MESSAGE, ["spam"])
                    return any(all(part in name for part in parts) for name in server.metrics())

                wait_until(counted)


def test_replicas(tmp_path: Path, data_folder: Path) -> None:
    """All replicas switch, each answering within one space all the while; one without the encoder refuses to answer."""
    with _replicas(tmp_path, data_folder) as servers:
        with Load(servers[:2]) as load:
            load.more()
            _cli(servers[0], "reindex", "--model", "hashing-2", "--yes")
            wait_until(lambda: _model(servers[1]) == "hashing-2")
            load.more()
        load.assert_right(servers[1])

        wait_until(lambda: not _serves(servers[2]))
        with servers[2].client() as client, pytest.raises(ServiceError, match="hashing-2 serves elsewhere"):
            client.classify(_MESSAGE, ["spam"])
        assert "encoder_not_loaded" in servers[2].log.read_text()
        _cli(servers[1], "reindex", "--back")
        wait_until(lambda: all(map(_serves, servers)))
        with servers[2].client() as client:
            assert client.classify(_MESSAGE, ["spam"]).predictions[0].labels == ("spam",)


def _serves(server: Server) -> bool:
    with server.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
