"""Learning from examples, on the real server and by the command line."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from nearvote.learn.goal import Goal, GoalKind, ValidationMessage
from nearvote.learn.jobs import JobState
from tests.integration.server import Server, run

_WORDS = {
    "spam": ["win", "money", "prize", "free", "offer", "soon"],
    "ham": ["lunch", "team", "meeting", "you", "see", "later"],
}
ASKED = ["prize money soon", "lunch with the team", "team prize", "an unladen swallow"]


def _lines(count: int, seed: int = 0, label: str = "") -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    common = [f"word{i}" for i in range(40)]
    return [
        {"text": " ".join([*rng.choice(own, 3), *rng.choice(common, 4)]), "label": name}
        for name, own in _WORDS.items()
        if label in ("", name)
        for _ in range(count)
    ]


def _write(path: Path, lines: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def _fill(server: Server, folder: Path, count: int = 25) -> None:
    done = server.cli("examples", "import", "-t", "spam", str(_write(folder / "in.jsonl", _lines(count))))
    assert done.returncode == 0, done.stderr


def _say(server: Server, *texts: str) -> list[tuple[str | None, float]]:
    done = server.cli("classify", "--json", "-t", "spam", stdin="\n".join(texts or ASKED))
    return [(row["label"], row["score"]) for row in map(json.loads, done.stdout.splitlines())]


@pytest.fixture
def filled(plain: Server, tmp_path: Path) -> Server:
    """A server with fifty examples."""
    _fill(plain, tmp_path)
    return plain


def test_a_task_is_fitted_shown_and_rolled_back(filled: Server) -> None:
    """`nearvote fit` prints what was before and after; the fit survives a restart; rolled back, all is as before."""
    plain = _say(filled)
    assert (missing := filled.cli("fit", "-t", "spam", "--show")).returncode == 1
    assert "nearvote fit --task spam" in missing.stderr
    done = filled.cli("fit", "-t", "spam")
    assert done.returncode == 0, done.stderr
    for part in ("fit 1 of spam", "50 examples, 50 texts judged", "plain vote", "accuracy", "macro-F1", "learned: "):
        assert part in done.stdout
    fitted = _say(filled)
    assert fitted != plain
    second = json.loads(filled.cli("fit", "-t", "spam", "--json", "--max-false-positives", "0").stdout)
    assert (second["task"], second["version"], second["replaced_version"]) == ("spam", 2, 1)
    assert second["example_count"] == second["judged_count"] == 50
    assert {"accuracy", "accuracy_before", "macro_f1", "calibration_error", "coverage", "has_metric"} <= second.keys()
    shown = json.loads(filled.cli("fit", "-t", "spam", "--show", "--json").stdout)
    assert shown.pop("notes") == second.pop("notes")
    assert shown == pytest.approx(second, abs=1e-5)
    served = _say(filled)
    filled.stop()
    filled.start()
    assert _say(filled) == served
    assert "fit 1 serves" in filled.cli("fit", "-t", "spam", "--roll-back").stdout
    assert _say(filled) == fitted
    assert "plain metric serves" in filled.cli("fit", "-t", "spam", "--roll-back").stdout
    assert _say(filled) == plain
    assert filled.cli("fit", "-t", "spam", "--roll-back").returncode == 1


_WRONG_GOALS = (
    ("--target-precision", "0"),
    ("--target-recall", "1.5"),
    ("--max-false-positives", "-1"),
    ("--target-precision", "0.9", "--target-recall", "0.9"),
    ("--max-false-positives", "0", "--target-recall", "0.9"),
    ("--validation", "/nowhere.jsonl"),
)


def test_wrong_goals_are_wrong_usage(plain: Server) -> None:
    """A goal that can't be right, or two of them, end with 2, something said and no traceback."""
    for arguments in _WRONG_GOALS:
        done = plain.cli("fit", "-t", "spam", *arguments)
        assert (arguments, done.returncode, "Traceback" in done.stderr) == (arguments, 2, False)
        assert done.stderr


def test_what_can_not_be_fitted(plain: Server) -> None:
    """An unknown task, and one without examples, end with 1 and the reason."""
    for arguments in (["fit", "-t", "nope"], ["fit", "-t", "nope", "--show"], ["examples", "check", "-t", "nope"]):
        done = plain.cli(*arguments)
        assert (done.returncode, "no such task" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    done = plain.cli("fit", "-t", "spam")
    assert (done.returncode, "no examples" in done.stderr) == (1, True)


def test_by_the_client(filled: Server) -> None:
    """A client starts a fit, asks how far it is, cancels one, and sees the next example count at once."""
    with filled.client() as client:
        job = client.start_fit("spam", Goal(GoalKind.TARGET_PRECISION, 0.9))
        assert job.task == "spam"
        while job.state is JobState.RUNNING:
            time.sleep(0.02)
            job = client.fit_job(job.id)
        assert (job.state, job.progress, job.error) == (JobState.SUCCEEDED, 1.0, None)
        assert job.fit is not None
        assert job.fit.version == client.get_fit("spam").version == 1
        before = client.classify("swallow flies", tasks=["spam"]).predictions[0].scores["spam"]
        client.add_example("spam", "swallow flies high", ["spam"])
        assert client.classify("swallow flies", tasks=["spam"]).predictions[0].scores["spam"] > before
        served = client.classify("prize lunch", tasks=["spam"]).predictions[0]
        slow = client.start_fit("spam", validation=[ValidationMessage("win", ("spam",))] * 50)
        cancelled = client.cancel_fit(slow.id)
        assert cancelled.state in (JobState.CANCELLED, JobState.SUCCEEDED)
        if cancelled.state is JobState.CANCELLED:
            assert cancelled.fit is None
            assert client.classify("prize lunch", tasks=["spam"]).predictions[0].scores == served.scores


def test_messages_are_answered_while_a_fit_runs(plain: Server, tmp_path: Path) -> None:
    """While a fit runs every message is answered within a second."""
    _fill(plain, tmp_path, 400)
    waits = []
    with plain.client() as client:
        client.classify("win a prize", tasks=["spam"])
        job = client.start_fit("spam")
        while job.state is JobState.RUNNING:
            began = time.monotonic()
            client.classify("win a prize", tasks=["spam"])
            waits.append(time.monotonic() - began)
            job = client.fit_job(job.id)
    assert job.state is JobState.SUCCEEDED
    assert len(waits) > 5
    assert max(waits) < 1


def test_doubtful_examples_are_told(filled: Server) -> None:
    """`nearvote examples check` tells what is doubtful, as a table or as lines, and by --strict with its exit code."""
    assert filled.cli("examples", "check", "-t", "spam", "--strict").returncode in (0, 1)
    filled.cli("examples", "add", "-t", "spam", "-l", "spam", "the same again")
    filled.cli("examples", "add", "-t", "spam", "-l", "ham", "The  same again")
    done = filled.cli("examples", "check", "-t", "spam")
    assert done.returncode == 0
    assert "duplicates: one text, several examples" in done.stdout
    assert filled.cli("examples", "check", "-t", "spam", "--strict").returncode == 1
    rows = [json.loads(line) for line in filled.cli("examples", "check", "-t", "spam", "--json").stdout.splitlines()]
    (row,) = (row for row in rows if row["kind"] == "duplicate")
    assert {row["text"], row["other_text"]} == {"the same again", "The  same again"}
    assert sorted([row["labels"], row["other_labels"]]) == [["ham"], ["spam"]]


def test_measured_on_files(tmp_path: Path) -> None:
    """`nearvote evaluate` measures on files, lists errors, saves a report, and ends with 1 when it got worse."""
    examples = _write(tmp_path / "examples.jsonl", _lines(25))
    messages = [{**line, "channel": ("mail", "forum")[i % 2]} for i, line in enumerate(_lines(10, seed=5))]
    messages += [{"text": f"swallow {i} unladen", "label": "nothing", "channel": "mail"} for i in range(6)]
    messages.append({"text": "win money prize lunch", "label": "ham", "channel": "mail"})
    asked = _write(tmp_path / "messages.jsonl", messages)
    errors, saved = tmp_path / "errors.jsonl", tmp_path / "report.json"

    def evaluate(*arguments: str, of: Path = asked) -> tuple[int, str, str]:
        done = run(
            "evaluate", "-e", str(examples), "-m", str(of), "--oos", "nothing", *arguments, NEARVOTE_MODEL="hashing"
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    code, told, problem = evaluate("--group", "channel", "--errors", str(errors), "--save", str(saved))
    assert code == 0, problem
    for part in ("spam", "ham", "mail", "forum"):
        assert part in told
    wrong = [json.loads(line) for line in errors.read_text().splitlines()]
    assert "win money prize lunch" in {line["text"] for line in wrong}
    code, _, problem = evaluate("--group", "channel", "--compare", str(saved))
    assert code == 0, problem
    swapped = [{**line, "label": {"spam": "ham", "ham": "spam"}.get(line["label"], "nothing")} for line in messages]
    code, told, _ = evaluate("--compare", str(saved), "--json", "--no-fit", of=_write(tmp_path / "bad.jsonl", swapped))
    assert code == 1
    assert json.loads(told)["worse"]
    for arguments in (
        ("--compare", str(examples)),
        ("--compare", str(tmp_path / "nowhere")),
        ("--benign", "nope"),
        ("--target-recall", "7"),
    ):
        code, _, problem = evaluate(*arguments)
        assert code in (1, 2)
        assert problem
