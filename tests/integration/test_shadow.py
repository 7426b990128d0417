"""Policies and fits that are tried on live messages, from the command line to the metrics."""

import json
import sys
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.server import ROOT, Server, wait_until
from tests.integration.test_learning import _fill, _say


def _policy(server: Server, file: Path, **fields: object) -> Path:
    """The policy of a task with some fields changed, in a file as `tasks show` prints tasks."""
    task = json.loads(server.cli("tasks", "show", "spam").stdout)
    task["policy"] |= fields
    file.write_text(json.dumps(task))
    return file


def test_a_policy_is_tried_and_promoted_by_one_command(plain: Server, tmp_path: Path) -> None:
    """A policy is begun, shown with what differs, counted on live messages, and promoted; then it serves."""
    plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize")
    file = _policy(plain, tmp_path / "candidate.json", similarity_floor=-1.0)
    begun = plain.cli("shadow", "start", "--task", "spam", "--policy", str(file), "--share", "1")
    assert "trying a policy on 100.0%" in begun.stdout
    shown = json.loads(plain.cli("shadow", "status", "--json").stdout)
    assert (shown["task"], shown["share"], shown["differs_in"]) == ("spam", 1.0, ["similarity_floor"])
    with plain.client() as client:
        assert client.classify("unlike anything", ["spam"]).predictions[0].label is None
        labels = ('from="TOO_FAR"', 'of="label"', 'to="spam"')
        assert plain.metric_with("nearvote_shadow_changes_total", *labels) == 1
        assert "is at version 2" in plain.cli("shadow", "promote", "--task", "spam").stdout
        assert client.classify("unlike anything", ["spam"]).predictions[0].label == "spam"
    assert plain.cli("shadow", "status", "--json").stdout == ""


def test_a_trial_outlives_a_restart_and_shows_when_it_is_outdated(start: Start, tmp_path: Path) -> None:
    """A trial is kept in the store; once the task is changed it says so, is refused, and can be ended."""
    server = start()
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    file = _policy(server, tmp_path / "candidate.json", k=3)
    assert server.cli("shadow", "start", "-t", "spam", "--policy", str(file), "--share", "0.5").returncode == 0
    server.stop()
    server.start()
    with server.client() as client:
        client.classify("hello", ["spam"])

        def tried() -> bool:
            client.classify("hello", ["spam"])
            return any(name.startswith("nearvote_shadow_predictions_total") for name in server.metrics())

        wait_until(tried)
    assert server.cli("tasks", "update", "spam", "--margin-floor", "0.2").returncode == 0
    assert "outdated" in server.cli("shadow", "status").stdout
    refused = server.cli("shadow", "promote", "-t", "spam")
    assert refused.returncode == 1
    assert "start it again" in refused.stderr
    assert server.cli("shadow", "stop", "-t", "spam").returncode == 0
    assert server.cli("shadow", "stop", "-t", "spam").returncode == 1


def test_a_file_that_is_no_policy_is_refused(plain: Server, tmp_path: Path) -> None:
    """A file with a field that a policy has not, or that is none, is refused before anything is begun."""
    for name, text in (("odd.json", '{"kk": 3}'), ("list.json", "[]"), ("broken.json", "{")):
        file = tmp_path / name
        file.write_text(text)
        assert plain.cli("shadow", "start", "-t", "spam", "--policy", str(file)).returncode == 2
    assert plain.cli("shadow", "status", "--json").stdout == ""


def test_a_fit_is_tried_promoted_and_gone_back_from(start: Start, tmp_path: Path) -> None:
    """A fit is tried beside what serves, also after a restart; promoted it serves, and one goes back from it."""
    server = start()
    server.stop()
    server.program = [sys.executable, ROOT / "tests/integration/in_metric.py"]
    server.start()
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    _fill(server, tmp_path)
    server.cli("tasks", "update", "spam", "--similarity-floor", "0.99")  # so that the fit is sure to say something else
    known = json.loads((tmp_path / "in.jsonl").read_text().splitlines()[0])["text"]  # which is told by its words alone
    plain = _say(server)
    for wrong in (["--shadow", "0"], ["--shadow", "1.5"], ["--shadow", "0.5", "--roll-back"]):
        assert server.cli("fit", "-t", "spam", *wrong).returncode == 2
    done = server.cli("fit", "-t", "spam", "--shadow", "1")
    assert done.returncode == 0, done.stderr
    assert "it is tried on 100.0% of spam's messages" in done.stdout
    assert server.cli("fit", "-t", "spam", "--show").returncode == 1, "none serves"

    server.stop()
    server.start()
    shown = json.loads(server.cli("shadow", "status", "--json").stdout)
    assert (shown["fit_version"], shown["policy_version"], shown["outdated"]) == (1, 2, False)
    assert "fit 1" in server.cli("shadow", "status").stdout
    assert _say(server) == plain
    with server.client() as client:
        wait_until(lambda: _is_counted(server, client.classify("prize money soon", ["spam"]).predictions[0].label))
        assert server.metric_with("nearvote_shadow_predictions_total", 'outcome="differ"', 'task="spam"') > 0
        client.classify(known, ["spam"])
        assert server.metric_with("nearvote_shadow_predictions_total", 'outcome="agree"', 'task="spam"') > 0
        assert not any('outcome="failed"' in name for name in server.metrics())

        client.add_example("spam", "swallow flies high over hills", ["ham"])
        assert "is at version 3" in server.cli("shadow", "promote", "--task", "spam").stdout
        served = client.get_fit("spam")
        assert (served.version, served.in_metric, served.replaced_version) == (1, True, 0)
        (found,) = client.classify("swallow flies high over hills now", ["spam"]).predictions
        assert found.neighbors[0].similarity > 0.9, "an example that came meanwhile is in the fit's metric"
    assert server.cli("shadow", "status", "--json").stdout == ""
    assert _say(server) != plain
    assert "the plain metric serves" in server.cli("fit", "-t", "spam", "--roll-back").stdout
    assert [label for label, _ in _say(server)] == [label for label, _ in plain]


def _is_counted(server: Server, label: str | None) -> bool:
    """Whether what is tried has been read, and says something else than what serves, which is nothing."""
    assert label is None
    return any("nearvote_shadow_predictions_total" in name and "differ" in name for name in server.metrics())
