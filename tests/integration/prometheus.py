"""The real Prometheus, in a process of its own."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.server import free_port, wait_until


class Prometheus:
    """A Prometheus that scrapes once a second.

    Args:
        address: Where it listens.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def get(self, path: str, **arguments: str) -> Any:
        """What its HTTP API answers below /api/v1/."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def values(self, expression: str) -> list[float]:
        """The values that an expression has now."""
        return [float(one["value"][1]) for one in self.get("query", query=expression)["result"]]

    def value(self, expression: str) -> float:
        """The one value that an expression has, waited for."""
        wait_until(lambda: bool(self.values(expression)), seconds=60)
        (value,) = self.values(expression)
        return value

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self.get("alerts")["alerts"] if one["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, metrics_address: str, rules: Path | None = None) -> Iterator[Prometheus]:
    """Runs Prometheus against a service, or skips the test where it is not installed.

    Args:
        folder: Where it may write.
        metrics_address: Where the service's metrics are.
        rules: A folder of rules.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{f'{rules}/*.yaml' if rules else ''}]\n"
        f"scrape_configs: [{{job_name: nearvote, static_configs: [{{targets: ['{metrics_address}']}}]}}]\n"
    )
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        running = Prometheus(address)
        began = time.monotonic()
        while not running.ready():
            assert process.poll() is None and time.monotonic() < began + 60, (folder / "prometheus.log").read_text()  # noqa: PT018
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(30)
