"""Policies that are tried on live messages, from the command line to the metrics."""

import json
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.server import Server, wait_until


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
