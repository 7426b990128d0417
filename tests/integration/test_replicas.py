"""Several real services on one store, under load, and one killed."""

import asyncio
import itertools
import json
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from nearvote import Client
from nearvote.audit.event import Action
from nearvote.client.errors import ServiceError
from nearvote.client.learning import FitJob
from nearvote.learn.jobs import JobState
from nearvote.voting.neighbor import View
from tests.integration.kills import some_seeds
from tests.integration.server import ROOT, Server, wait_until
from tests.integration.stored import whats_wrong_on_server
from tests.qdrant.stand_in import StandIn

_STARTED_AT_ONCE = 10
_SERVING = 3
_SEEDS_A_LABEL = 10
_PAUSE_SECONDS = 0.2  # between two examples of a caller


@pytest.fixture
def store(data_folder: Path) -> Iterator[StandIn]:
    """The store that replicas share."""
    found = StandIn(data_folder).start()
    yield found
    found.stop()


@pytest.fixture
def servers(store: StandIn, tmp_path: Path) -> Iterator[list[Server]]:
    """Replicas on it, not started."""
    found = [
        Server(
            tmp_path / f"replica{i}",
            "--model",
            "hashing",
            NEARVOTE_QDRANT_URL="http://127.0.0.1",
            NEARVOTE_QDRANT_GRPC_PORT=str(store.port),
            NEARVOTE_SEEDS_DIR=str(tmp_path / "seeds"),
        )
        for i in range(_STARTED_AT_ONCE)
    ]
    for server in found:
        server.program = [sys.executable, ROOT / "tests/integration/in_metric.py"]
    yield found
    for server in found:
        server.stop(signal.SIGKILL)


def write_seeds(folder: Path) -> int:
    """Writes a task `intent` with examples that a metric can be learned from. Gives how many there are."""
    seeds = some_seeds(count=_SEEDS_A_LABEL)
    folder.mkdir()
    (folder / "tasks.json").write_text(json.dumps([{"name": "intent", "labels": [{"name": one} for one in seeds]}]))
    lines = [json.dumps({"text": text, "label": label}) for label, texts in seeds.items() for text in texts]
    (folder / "intent.jsonl").write_text("\n".join(lines))
    return len(lines)


class Load:
    """Callers of replicas, each of whom calls its own and notes what went wrong.

    Args:
        servers: The replicas.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._done = threading.Event()
        self._numbers = itertools.count()
        later = some_seeds(first=_SEEDS_A_LABEL, count=100)
        self._texts = [(text, label) for label, texts in later.items() for text in texts]
        self.dead: set[Server] = set()
        self.wrong: list[str] = []
        self.answered: Counter[str] = Counter()
        self.added = 0
        self.kinds: defaultdict[int, set[tuple[str, bool]]] = defaultdict(set)  # by version of the policy

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(2 * len(self._servers))
        for server in self._servers:
            self._threads.submit(self._run, server, self._ask)
            self._threads.submit(self._run, server, self._add)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._threads.shutdown()

    def until_answered(self, more: int) -> None:
        """Returns when each replica that lives has answered so many more messages."""
        before = Counter(self.answered)
        living = [server for server in self._servers if server not in self.dead]
        wait_until(lambda: all(self.answered[s.address] >= before[s.address] + more for s in living), 120)

    def _run(self, server: Server, act: Callable[[Server, Client], None]) -> None:
        with server.client() as client:
            while not self._done.is_set() and server not in self.dead:
                try:
                    act(server, client)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is to be shown at the end
                    if server not in self.dead:
                        self.wrong.append(repr(error))

    def _ask(self, server: Server, client: Client) -> None:
        (prediction,) = client.classify("please book me a table", ["intent"]).predictions
        self.kinds[prediction.policy_version].add((prediction.score_kind.value, prediction.prototype_share > 0))
        self.answered[server.address] += 1

    def _add(self, server: Server, client: Client) -> None:
        if self._done.wait(_PAUSE_SECONDS):
            return
        number = next(self._numbers)
        text, label = self._texts[number % len(self._texts)]
        if number >= len(self._texts):
            text = f"{text} number{number}"
        saved = client.add_example("intent", text, [label])
        self.added += 1
        for other in self._servers:
            if other is server or other in self.dead:
                continue
            with other.client() as elsewhere:
                try:
                    (prediction,) = elsewhere.classify(text, ["intent"]).predictions
                except Exception:
                    if other in self.dead:
                        continue
                    raise
            voters = {n.example_id for n in prediction.neighbors if n.view is View.MEANING}
            if saved.example.id not in voters or prediction.labels != (label,):
                self.wrong.append(f"{text!r} does not count elsewhere: {prediction}")


def fitted(client: Client, job: FitJob) -> FitJob:
    """A fit at its end."""
    deadline = time.monotonic() + 120
    while job.state is JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        job = client.fit_job(job.id)
    return job


def begun(client: Client) -> FitJob:
    """A fit, begun when nobody else fits any more."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return client.start_fit("intent")
        except ServiceError as error:
            if error.reason != "FIT_RUNNING" or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


async def test_replicas_agree(store: StandIn, servers: list[Server], tmp_path: Path) -> None:
    """Ten replicas start and seed once; an example counts on all at once; a fit serves whole, and survives a kill."""
    await asyncio.to_thread(_agree, servers, write_seeds(tmp_path / "seeds"))
    assert await whats_wrong_on_server(store.port) == []


def _agree(servers: list[Server], seed_count: int) -> None:
    for server in servers:
        server.launch()
    for server in servers:
        server.serving()
    with servers[0].client() as client:
        changes = [event.change for event in client.audit_events()]
        created = [change for change in changes if change.action is Action.TASK_CREATED]
        added = [change for change in changes if change.action is Action.EXAMPLES_ADDED]
        assert len(created) == 1
        assert sum(change.example_count for change in added) == seed_count, "no example was loaded twice"
        assert [task.name for task in client.list_tasks()] == ["intent"]
    for server in servers[_SERVING:]:
        server.stop()
    del servers[_SERVING:]

    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        load = stack.enter_context(Load(servers))
        load.until_answered(3)
        job = clients[0].start_fit("intent")
        with pytest.raises(ServiceError, match="FIT_RUNNING"):
            clients[1].start_fit("intent")
        first = fitted(clients[0], job)
        assert first.fit is not None, first
        assert clients[0].get_fit("intent").in_metric, "else no slot is written"
        second = fitted(clients[1], begun(clients[1]))
        assert second.fit is not None, second
        load.until_answered(3)

        task = clients[2].get_task("intent")
        changed = clients[2].update_task(replace(task, policy=replace(task.policy, k=11)), ["policy"])
        wait_until(lambda: all(_version(client) == changed.policy_version for client in clients))

        clients[0].start_fit("intent")
        load.dead.add(servers[0])
        servers[0].stop(signal.SIGKILL)
        load.until_answered(3)
        after = fitted(clients[1], begun(clients[1]))
        assert after.fit is not None, after
        assert after.fit.replaced_version == second.fit.version, "the fit that was cut short never served"
        wait_until(lambda: _version(clients[2]) == _version(clients[1]))
        load.until_answered(3)
    assert load.wrong == []
    assert load.added
    assert all(len(kinds) == 1 for kinds in load.kinds.values()), f"a fit and another's policy: {load.kinds}"
    assert len(load.kinds) == 5, "unfitted, fitted twice, changed, and fitted again"


def _version(client: Client) -> int:
    (prediction,) = client.classify("any", ["intent"]).predictions
    return prediction.policy_version
