"""A Qdrant server that is down, slow, restarting, full, hanging or garbled, as the service's clients see it."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from nearvote.v1 import prediction_pb2 as prediction
from nearvote.v1 import task_service_pb2 as tasks
from nearvote.v1.task_service_pb2_grpc import TaskServiceStub
from tests.integration.store_site import (
    ALL,
    LESS_SECONDS,
    MUCH_LATER,
    PATIENCE_SECONDS,
    TIMEOUT_SECONDS,
    Site,
    service,
    site_in,
    unavailable_at_worst,
)
from tests.qdrant.proxy import Proxy
from tests.qdrant.stand_in import StandIn


@pytest.fixture
def site(tmp_path: Path, data_folder: Path) -> Iterator[Site]:
    """A service with one example, all well."""
    with site_in(tmp_path, data_folder) as site:
        yield site


@pytest.fixture
def abstaining(tmp_path: Path, data_folder: Path) -> Iterator[Site]:
    """The same, set to abstain while the store fails."""
    with site_in(tmp_path, data_folder, NEARVOTE_ON_STORE_FAILURE="abstain") as site:
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
    assert site.refused(lambda: site.classify(timeout=LESS_SECONDS), hurried=True) < LESS_SECONDS
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
    assert site.refused(lambda: site.classify(timeout=LESS_SECONDS), hurried=True) < LESS_SECONDS
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
