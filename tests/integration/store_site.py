"""A service with its store in another process, and a network between them that can be spoilt."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1 import example_service_pb2 as examples
from nearvote.v1 import prediction_pb2 as prediction
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_pb2 import Example
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from tests.integration.server import Server
from tests.qdrant.proxy import Proxy
from tests.qdrant.stand_in import StandIn

TIMEOUT_SECONDS = 4  # what the service gives a call to its store
LESS_SECONDS = 3  # what a caller gives it
MUCH_LATER = 15  # seconds that a machine which is busy may add
PATIENCE_SECONDS = 60
SERVING, NOT_SERVING = "SERVING", "NOT_SERVING"
ALL = ("", *(f"nearvote.v1.{name}Service" for name in ("Classification", "Example", "Task", "Learning", "Info")))


@contextmanager
def unavailable_at_worst() -> Iterator[None]:
    """What is called in here may fail, and in one way only."""
    try:
        yield
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise


@dataclass(slots=True)
class Site:
    """A service, the store behind it, and the network between them."""

    store: StandIn
    network: Proxy
    server: Server
    channel: grpc.Channel

    def classify(self, text: str = "win a prize", *, timeout: float = PATIENCE_SECONDS, task: str = "spam") -> Any:
        """One prediction."""
        request = classification.ClassifyRequest(text=text, tasks=[task])
        answer = ClassificationServiceStub(self.channel).Classify(request, timeout=timeout)
        return answer.classification.predictions[0]

    def add(self, text: str) -> Any:
        """Adds an example."""
        request = examples.CreateExampleRequest(example=Example(task="spam", text=text, labels=["spam"]))
        return ExampleServiceStub(self.channel).CreateExample(request, timeout=PATIENCE_SECONDS)

    def refused(self, call: Callable[[], object], *, hurried: bool = False) -> float:
        """Sees a call fail with UNAVAILABLE, and none of the store's own words. Returns how long it took.

        A call that was hurried, by a deadline shorter than what the store may take, may be told so instead.
        """
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            call()
        seconds = time.monotonic() - began
        status: Any = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        assert status is not None, caught.value
        reason = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(reason)
        expected = {("STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE.value[0])}
        if hurried:
            expected.add(("DEADLINE_TOO_SHORT", grpc.StatusCode.DEADLINE_EXCEEDED.value[0]))
        assert (reason.reason, status.code) in expected
        assert "127.0.0.1" not in status.message
        return seconds

    def comes_to_be_refused(self, call: Callable[[], object]) -> None:
        """Waits until a call fails with UNAVAILABLE: what was read of the tasks holds for two seconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                call()
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return
            time.sleep(0.1)
        raise AssertionError("it goes on without a store")

    def health(self) -> dict[str, str]:
        """What is said of each service."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        return {
            name: health_pb2.HealthCheckResponse.ServingStatus.Name(
                stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_SECONDS).status
            )
            for name in ALL
        }

    def becomes(self, *serving: str) -> None:
        """Waits until exactly these services are well."""
        expected = {name: SERVING if name in serving else NOT_SERVING for name in ALL}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (health := self.health()) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        assert health == expected

    def answers_again(self) -> None:
        """Waits until messages are labelled and examples are taken again, by the same process, and all is well."""
        assert self.server.process is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with unavailable_at_worst():
                answer = self.classify()
                self.add(f"another prize {time.monotonic_ns()}")
                if answer.labels == ["spam"]:
                    break
                assert answer.abstention_reason == prediction.ABSTENTION_REASON_STORE_UNAVAILABLE
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.becomes(*ALL)
        assert self.server.process.poll() is None


def service(folder: Path, network: Proxy, **environment: str) -> Server:
    """A service whose store is behind a proxy; not started."""
    return Server(
        folder / "service",
        "--model",
        "hashing",
        "--no-seeds",
        NEARVOTE_QDRANT_URL="http://127.0.0.1",
        NEARVOTE_QDRANT_GRPC_PORT=str(network.port),
        NEARVOTE_QDRANT_TIMEOUT_SECONDS=str(TIMEOUT_SECONDS),
        **environment,
    )


@contextmanager
def site_in(folder: Path, data: Path, **environment: str) -> Iterator[Site]:
    store = StandIn(data).start()
    network = Proxy(store.port).start()
    server = service(folder, network, **environment)
    try:
        server.start()
        made = server.cli(
            "tasks", "create", "spam", "-l", "spam", "-l", "ham", "--benign", "ham", "--abstention-action", "review"
        )
        assert made.returncode == 0, made.stderr
        with server.channel() as channel:
            site = Site(store, network, server, channel)
            site.add("win a prize")
            assert site.classify().labels == ["spam"]
            site.becomes(*ALL)
            yield site
    finally:
        server.stop()
        network.stop()
        store.stop()
