"""The shipped rules and dashboard, in the real Prometheus."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nearvote.client import Policy
from nearvote.client.errors import ServiceError
from tests import deployment
from tests.deployment import DEPLOY
from tests.integration.prometheus import Prometheus, prometheus
from tests.integration.server import Server, wait_until

# What shows nothing while all is well and new: failures, a certificate without TLS, and a week that is not over.
_EMPTY_AT_FIRST = {
    "Certificate",
    "Share of abstentions",
    "Share of failed calls",
    "Drift",
    "Tasks changed",
    "Starts",
}


@pytest.mark.parametrize("path", sorted((DEPLOY / "prometheus/tests").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_rules_pass_their_tests(path: Path) -> None:
    """Alerts fire when they should and not else, on made-up days (`promtool test rules`)."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def watched(plain: Server, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus with the shipped rules, impatient, that watches a service."""
    rules = tmp_path / "rules"
    rules.mkdir()
    for path in deployment.RULES:
        text = re.sub(r"interval: \w+", "interval: 1s", path.read_text())
        (rules / path.name).write_text(re.sub(r"for: \w+", "for: 0s", text))
    with prometheus(tmp_path, plain.metrics_address, rules) as running:
        yield running


def test_figures_are_read_back_by_the_rules(plain: Server, watched: Prometheus) -> None:
    """What the service did is what the recorded series say, and no alert is up while all is well."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    with plain.client() as client:
        client.classify("win a prize", ["spam"])
        watched.value('nearvote_predictions_total{task="spam"}')  # a rate takes a first value and a second
        for _ in range(20):
            client.classify("win a prize", ["spam"])
        client.classify("entirely different words", ["spam"])
    wait_until(lambda: watched.values('sum(nearvote_predictions_total{task="spam",label="spam"})') == [21])
    assert watched.value('sum(nearvote_abstentions_total{task="spam"})') == 1
    assert watched.value('sum(grpc_server_handled_total{grpc_method="Classify",grpc_code="OK"})') == 22
    wait_until(lambda: watched.values("nearvote:calls:rate5m > bool 0") == [1])
    assert watched.value("nearvote:calls_failed:ratio5m") == 0
    assert 0 < watched.value("nearvote:classify_seconds:p99_5m") < 10
    wait_until(lambda: watched.values("sum(nearvote:similarity_bin:share1h)") == [pytest.approx(1)])
    assert watched.value('nearvote:labels:share1h{task="spam",label="spam"}') == pytest.approx(1)
    assert watched.value('nearvote_component_healthy{component="store"}') == 1
    assert watched.firing() == set()
    loaded = [rule for group in watched.get("rules")["groups"] for rule in group["rules"]]
    assert len(loaded) == len(deployment.rules())
    assert {rule["lastError"] for rule in loaded if "lastError" in rule} == set()


def test_the_dashboard_shows_figures(plain: Server, watched: Prometheus) -> None:
    """Every panel has data after a little traffic, but those that wait for a failure or for a week."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    with plain.client() as client:
        client.start_shadow("spam", Policy(similarity_floor=-1.0), share=1.0)
        for texts in (["win a prize", "entirely different words"], ["another text", "and one more"]):
            for text in texts:
                client.classify(text, ["spam"])
            with pytest.raises(ServiceError, match="TASK_NOT_FOUND"):
                client.classify("hello", ["nope"])
            watched.value('sum(nearvote_abstentions_total{task="spam"})')
    wait_until(lambda: bool(watched.values("nearvote:classify_seconds:p99_5m > 0")))
    expressions = list(deployment.dashboard_expressions())

    def empty() -> set[str]:
        return {place for place, expression in expressions if not watched.values(expression)}

    try:
        wait_until(lambda: empty() <= _EMPTY_AT_FIRST)
    except AssertionError:
        assert empty() <= _EMPTY_AT_FIRST  # says which


def test_alerts_come_and_go(plain: Server, watched: Prometheus) -> None:
    """A task without examples that is asked rings, and so does a service that is gone, until it is back."""
    with plain.client() as client:
        client.classify("anything", ["spam"])
        watched.value('nearvote_abstentions_total{reason="NO_EXAMPLES"}')
        client.classify("anything", ["spam"])
    wait_until(lambda: watched.firing() == {"NearvoteNoExamples"})
    plain.stop()
    wait_until(lambda: "NearvoteDown" in watched.firing())
    plain.start()
    wait_until(lambda: "NearvoteDown" not in watched.firing())
