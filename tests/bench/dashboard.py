"""Looks at the shipped Grafana dashboard with real figures in it, and writes docs/dashboard.png.

    python -m tests.bench.dashboard [--seconds 150] [--output docs/dashboard.png]

The real service, with the seeds and TLS, is sent mixed traffic: messages made of seeds, many of them twice, batches,
wrong calls, a burst of more than it takes, added and deleted examples, a changed policy, a fit, a policy that is tried.
The real Prometheus scrapes it every second, with the shipped rules, which are evaluated every second too. Then each
panel's own queries are asked of Prometheus as Grafana asks them, and drawn where the dashboard has the panel
(`tests.bench.dashboard_drawing`).
"""

import argparse
import datetime as dt
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import trustme
from tests import deployment
from tests.bench import dashboard_drawing
from tests.bench.dashboard_drawing import Series
from tests.integration.prometheus import Prometheus, prometheus
from tests.integration.server import Server, wait_until

from nearvote import Client
from nearvote.client import Draft, Policy, ServiceError, ServiceUnreachable
from nearvote.seeding import shipped_seeds

_TASKS = ("spam", "abuse", "intent")
_CALLERS = 4
_BURST = 64
_MOST_CALLS = 40  # so that the burst is more than the service takes
_RATE_INTERVAL = "15s"  # what Grafana takes for a picture of some minutes and a scrape every second, rounded up
_STEP_SECONDS = 2


def messages() -> list[str]:
    """Texts of the seeds, some of their words left out."""
    rng = random.Random(0)
    texts = [
        json.loads(line)["text"]
        for task in _TASKS
        for line in (shipped_seeds() / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rng.shuffle(texts)
    return [" ".join(word for word in text.split() if rng.random() > 0.15) or text for text in texts]


class Traffic:
    """What callers do until they are told to stop.

    Args:
        server: Whom they call.
        seconds: For how long.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self._server = server
        self._seconds = seconds
        self._texts = messages()
        self._over = threading.Event()

    def run(self) -> None:
        """Calls until the time is over."""
        events: list[tuple[float, Callable[[Client], object]]] = [
            (0.25, lambda client: client.start_shadow("spam", Policy(surface_weight=0.0, margin_floor=0.3), share=0.5)),
            (0.35, self._add),
            (0.45, self._change_policy),
            (0.55, lambda client: client.start_fit("spam")),
            (0.70, lambda _: self._burst()),
            (0.80, lambda client: client.delete_examples(task="intent", source="dashboard")),
        ]
        with ThreadPoolExecutor(_CALLERS + 1) as pool:
            callers = [pool.submit(self._call, number) for number in range(_CALLERS)]
            callers.append(pool.submit(self._call_in_batches))
            began = time.monotonic()
            with self._server.client() as client:
                for share, event in events:
                    time.sleep(max(0.0, began + share * self._seconds - time.monotonic()))
                    print(f"{share:.0%} of the time", file=sys.stderr)
                    event(client)
            time.sleep(max(0.0, began + self._seconds - time.monotonic()))
            self._over.set()
            for caller in callers:
                caller.result()

    def _call(self, number: int) -> None:
        rng = random.Random(number)
        with self._server.client() as client:
            while not self._over.wait(rng.expovariate(8)):
                text = self._texts[min(int(rng.expovariate(1 / 300)), len(self._texts) - 1)]
                task = rng.choice(_TASKS) if rng.random() > 0.02 else "forgotten"
                with suppress(ServiceError, ServiceUnreachable):
                    client.classify(text, [task])

    def _call_in_batches(self) -> None:
        rng = random.Random(-1)
        with self._server.client() as client:
            while not self._over.wait(2):
                with suppress(ServiceError, ServiceUnreachable):
                    client.classify_batch(rng.sample(self._texts, 16), list(_TASKS))

    def _burst(self) -> None:
        def one(text: str) -> None:
            with self._server.client() as client, suppress(ServiceError, ServiceUnreachable):
                client.classify(text, list(_TASKS))

        with ThreadPoolExecutor(_BURST) as pool:
            list(pool.map(one, self._texts[-4 * _BURST :]))

    def _add(self, client: Client) -> None:
        drafts = [Draft("intent", f"{text} please", ("change_plan",), source="dashboard") for text in self._texts[:60]]
        client.add_examples(drafts)

    def _change_policy(self, client: Client) -> None:
        task = client.get_task("abuse")
        client.update_task(replace(task, policy=replace(task.policy, margin_floor=0.2)), ["policy"])


@contextmanager
def watched(folder: Path) -> Iterator[tuple[Server, Prometheus]]:
    """A service with TLS, and a Prometheus with the shipped rules, impatient, that watches it."""
    authority = trustme.CA()
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=60)
    issued = authority.issue_cert("127.0.0.1", "localhost", not_after=ends)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "tls.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "tls.key").write_bytes(issued.private_key_pem.bytes())
    server = Server(
        folder / "data",
        NEARVOTE_TLS_CERT=str(folder / "tls.pem"),
        NEARVOTE_TLS_KEY=str(folder / "tls.key"),
        NEARVOTE_MAX_CONCURRENT_CALLS=str(_MOST_CALLS),
    )
    server.access = {"tls_ca": str(folder / "ca.pem")}
    rules = folder / "rules"
    rules.mkdir()
    for path in deployment.RULES:
        (rules / path.name).write_text(re.sub(r"interval: \w+", "interval: 1s", path.read_text()))
    server.launch()
    try:
        # Longer than a test waits: on a busy machine the seeds take their time.
        wait_until(lambda: '"serving"' in server.log.read_text(), seconds=900)
        with prometheus(folder, server.metrics_address, rules) as running:
            yield server, running
    finally:
        server.stop()


def asked(running: Prometheus, target: dict[str, Any], begin: float, end: float) -> list[Series]:
    """What a panel's query finds, as Grafana asks it with all tenants and tasks chosen."""
    query = target["expr"].replace("$__rate_interval", _RATE_INTERVAL).replace("$tenant", ".*").replace("$task", ".*")
    if target.get("instant"):
        found = running.get("query", query=query, time=str(end))["result"]
        series = [(one["metric"], [one["value"]]) for one in found]
    else:
        span = {"start": str(begin), "end": str(end), "step": str(_STEP_SECONDS)}
        series = [(one["metric"], one["values"]) for one in running.get("query_range", query=query, **span)["result"]]
    return [
        Series(
            dashboard_drawing.legend(target.get("legendFormat", ""), labels),
            labels,
            [float(when) - begin for when, _ in values],
            [float(value) for _, value in values],
        )
        for labels, values in series
    ]


def main() -> None:
    """Runs, asks and draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "docs" / "dashboard.png")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, watched(Path(folder)) as (server, running):
        begin = time.time()
        Traffic(server, told.seconds).run()
        end = time.time()
        board = deployment.dashboard()
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        found = {
            panel["id"]: {target["refId"]: asked(running, target, begin, end) for target in panel["targets"]}
            for panel in panels
        }
        marks = {
            one["name"]: [
                when
                for series in asked(running, {"expr": one["expr"]}, begin, end)
                for when, before in zip(series.seconds, [None, *series.seconds], strict=False)
                if before is None or when - before > _STEP_SECONDS  # it holds for a minute: its beginning is the change
            ]
            for one in board["annotations"]["list"]
        }
    for panel in panels:
        if not any(found[panel["id"]].values()):
            print(f"{panel['title']}: no data", file=sys.stderr)
    dashboard_drawing.draw(board, found, marks, end - begin, told.output)


if __name__ == "__main__":
    main()
