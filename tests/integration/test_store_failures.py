"""A Qdrant server that is down, slow, restarting, full, hanging or garbled, as the service's clients see it."""

import signal
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
from nearvote.v1 import task_service_pb2 as tasks
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_pb2 import Example
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from nearvote.v1.task_service_pb2_grpc import TaskServiceStub
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

    def refused(self, call: Callable[[], object]) -> float:
        """Sees a call fail with UNAVAILABLE, and none of the store's own words. Returns how long it took."""
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            call()
        seconds = time.monotonic() - began
        status: Any = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        assert status is not None, caught.value
        reason = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(reason)
        assert (grpc.StatusCode.UNAVAILABLE.value[0], "STORE_UNAVAILABLE") == (status.code, reason.reason)
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
def _site(folder: Path, data: Path, **environment: str) -> Iterator[Site]:
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


@pytest.fixture
def site(tmp_path: Path, data_folder: Path) -> Iterator[Site]:
    """A service with one example, all well."""
    with _site(tmp_path, data_folder) as site:
        yield site


@pytest.fixture
def abstaining(tmp_path: Path, data_folder: Path) -> Iterator[Site]:
    """The same, set to abstain while the store fails."""
    with _site(tmp_path, data_folder, NEARVOTE_ON_STORE_FAILURE="abstain") as site:
        yield site


def test_down(site: Site) -> None:
    """While the store is down calls are refused at once, health says so, the cause is in the log; then all goes on."""
    site.network.refuse()
    assert site.refused(site.classify) < TIMEOUT_SECONDS + MUCH_LATER
    assert site.refused(lambda: site.add("a new one")) < TIMEOUT_SECONDS + MUCH_LATER
    site.becomes()
    site.comes_to_be_refused(
        lambda: TaskServiceStub(site.channel).ListTasks(tasks.ListTasksRequest(), timeout=PATIENCE_SECONDS)
    )
    assert site.server.metric_with("nearvote_store_errors_total", 'operation="nearest"') >= 1
    log = site.server.log.read_text()
    assert "store_unavailable" in log
    assert "UNAVAILABLE: " in log
    assert "win a prize" not in log
    site.network.restore()
    site.answers_again()


def test_restarting(site: Site) -> None:
    """A store that is killed and started again costs nothing that it had acknowledged, and no restart."""
    site.add("the last one before")
    site.store.stop(signal.SIGKILL)
    assert site.refused(site.classify) < TIMEOUT_SECONDS + MUCH_LATER
    site.store.start()
    site.answers_again()
    assert site.classify("the last one before").labels == ["spam"]


def test_a_connection_that_breaks(site: Site) -> None:
    """A connection that breaks now and then is not seen by clients."""
    for i in range(10):
        site.network.cut()
        assert site.classify().labels == ["spam"]
        site.add(f"text {i}")


def test_slow(site: Site) -> None:
    """A slow store makes slow answers; one slower than it may be is refused, in time for a caller who waits less."""
    site.network.delay(0.2)
    assert site.classify().labels == ["spam"]
    site.network.delay(60)
    assert site.refused(site.classify) < TIMEOUT_SECONDS + MUCH_LATER
    assert site.refused(lambda: site.classify(timeout=LESS_SECONDS)) < LESS_SECONDS
    site.becomes()
    site.network.restore()
    site.network.cut()  # what is delayed by a minute stays so
    site.answers_again()


@pytest.mark.parametrize("how", ["full", "broken"])
def test_full(site: Site, how: str) -> None:
    """A store that takes no writes still answers; health tells labelling from what writes."""
    site.store.tell(how)
    before = site.store.calls()["Upsert"]
    assert site.refused(lambda: site.add("no room for this")) < TIMEOUT_SECONDS + MUCH_LATER
    assert site.store.calls()["Upsert"] - before <= 2, "the example, and the version of what is there; none twice"
    assert site.classify().labels == ["spam"]
    site.becomes("", "nearvote.v1.ClassificationService", "nearvote.v1.InfoService")
    assert site.server.metric_with("nearvote_store_errors_total", 'operation="upsert"') >= 1
    site.store.tell("well")
    site.answers_again()


def test_hanging_half_way(site: Site) -> None:
    """A store that falls silent in the middle of an answer holds nobody up for longer than a call may take."""
    site.network.hang_after(40)
    assert site.refused(site.classify) < TIMEOUT_SECONDS + MUCH_LATER
    assert site.refused(lambda: site.classify(timeout=LESS_SECONDS)) < LESS_SECONDS
    site.becomes()
    site.network.restore()  # the network; the connections that hung do so for ever
    site.answers_again()


@pytest.mark.parametrize("every", [7, 61, 509, 2_003])
def test_corrupted(site: Site, every: int) -> None:
    """Answers with wrong bytes in them end in a refusal, or are used where nothing that counts was hit; never worse."""
    site.network.corrupt(every)
    for i in range(20):
        began = time.monotonic()
        with unavailable_at_worst():
            site.classify(f"win a prize {i}")
        assert time.monotonic() - began < TIMEOUT_SECONDS + MUCH_LATER
    site.network.restore()
    site.answers_again()


def test_abstaining(abstaining: Site) -> None:
    """Set to abstain, it answers without its store, with a reason of its own and the action that the policy names."""
    site = abstaining
    site.network.refuse()
    for _ in range(3):
        answer = site.classify()
        assert answer.abstention_reason == prediction.ABSTENTION_REASON_STORE_UNAVAILABLE
        assert (list(answer.labels), answer.action, answer.policy_version) == ([], prediction.ACTION_REVIEW, 1)
    site.refused(lambda: site.add("a new one"))
    site.becomes("", "nearvote.v1.ClassificationService")
    site.comes_to_be_refused(lambda: site.classify(task="never-read"))
    assert site.server.metric_with("nearvote_abstentions_total", "spam", "STORE_UNAVAILABLE") == 3
    assert "store_unavailable" in site.server.log.read_text()
    site.network.restore()
    site.answers_again()
    site.network.hang()
    began = time.monotonic()
    answer = site.classify("something else", timeout=LESS_SECONDS)
    assert time.monotonic() - began < LESS_SECONDS
    assert answer.abstention_reason == prediction.ABSTENTION_REASON_STORE_UNAVAILABLE


def test_down_at_the_start(tmp_path: Path, data_folder: Path) -> None:
    """Started before its store, the service waits, says that it does, and begins by itself."""
    store = StandIn(data_folder).start()
    network = Proxy(store.port).start()
    network.refuse()
    server = service(tmp_path, network)
    try:
        server.launch()
        with server.channel() as channel:
            site = Site(store, network, server, channel)
            grpc.channel_ready_future(channel).result(PATIENCE_SECONDS)
            site.becomes()
            site.refused(site.classify)
            network.restore()
            server.serving()
            site.becomes(*ALL)
        assert "waiting_for_store" in server.log.read_text()
    finally:
        server.stop()
        network.stop()
        store.stop()


def test_stopped_while_it_waits(tmp_path: Path, data_folder: Path) -> None:
    """A stop signal ends a service that waits for its store, with 0."""
    store = StandIn(data_folder).start()
    network = Proxy(store.port).start()
    network.refuse()
    server = service(tmp_path, network)
    try:
        server.launch()
        with server.channel() as channel:
            grpc.channel_ready_future(channel).result(PATIENCE_SECONDS)
        assert server.stop() == 0
    finally:
        server.stop()
        network.stop()
        store.stop()


def test_a_wrong_key_ends_the_start(tmp_path: Path, data_folder: Path) -> None:
    """What waiting does not mend is an error that says what to check."""
    store = StandIn(data_folder).start()
    network = Proxy(store.port).start()
    store.tell("key secret")
    server = service(tmp_path, network, NEARVOTE_QDRANT_API_KEY="other")
    try:
        with pytest.raises(AssertionError, match="API key"):
            server.start()
    finally:
        server.stop()
        network.stop()
        store.stop()
