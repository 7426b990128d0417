"""What the service is for: real messages, the real encoder, the shipped examples."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.server import Server


def classify(server: Server, *texts: str, task: str | None = None) -> list[dict[str, Any]]:
    """What `nearvote classify --json` says."""
    chosen = ["--task", task] if task else []
    done = server.cli("classify", "--json", *chosen, "--", *texts)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("text", "task", "labels"),
    [
        ("URGENT: your parcel is held, pay the 1.99 fee at http://parcel-fee.example now", "spam", {"spam"}),
        ("You people are vermin and should not exist", "abuse", {"harassment", "hate", "threat"}),
        ("I still have not received my refund", "intent", {"refund_status"}),
        ("see you at the station at six", "spam", {"ham"}),
        ("this bug is really killing me today", "abuse", {"none"}),
    ],
)
def test_shipped_examples_label_messages(seeded: Server, text: str, task: str, labels: set[str]) -> None:
    """A message gets the label that a person would give it, with the neighbours that decided."""
    (answer,) = classify(seeded, text, task=task)
    assert answer["labels"]
    assert set(answer["labels"]) <= labels
    assert not answer["abstained"]
    voters = answer["neighbors"]
    assert voters
    assert all(voter["text"] and voter["labels"] for voter in voters)
    weights = [voter["weight"] for voter in voters]
    assert sum(weights) == pytest.approx(1, abs=1e-4)
    assert weights == sorted(weights, reverse=True)
    assert {voter["view"] for voter in voters} == {"meaning", "surface"}
    assert all(-1 <= voter["similarity"] <= 1 for voter in voters if voter["view"] == "meaning")
    assert all(voter["similarity"] > 0 for voter in voters if voter["view"] == "surface")


def test_a_message_that_is_an_example(seeded: Server) -> None:
    """What is an example, word for word, has its label, and it alone as evidence."""
    (answer,) = classify(seeded, "this bug is killing me", task="abuse")
    assert (answer["labels"], answer["score"]) == (["none"], 1.0)
    assert [voter["text"] for voter in answer["neighbors"]] == ["this bug is killing me"]


def test_out_of_scope_abstains(seeded: Server) -> None:
    """A question that is none of the shop's abstains, and shows what was nearest."""
    (answer,) = classify(seeded, "what is the airspeed of a swallow", task="intent")
    assert (answer["label"], answer["labels"], answer["abstained"]) == (None, [], True)
    assert answer["reason"] in {"TOO_FAR", "OUT_OF_SCOPE"}
    assert answer["neighbors"]


def test_all_tasks_are_asked_when_none_is_named(seeded: Server) -> None:
    """Without --task there is one line for each task."""
    assert [answer["task"] for answer in classify(seeded, "hello")] == ["abuse", "intent", "spam"]


def test_long_mail_is_seen_whole(seeded: Server) -> None:
    """Bait at the end of a long harmless mail decides from its own window."""
    harmless = "The minutes of the parish council's meeting about the village hall roof are below. " * 60
    bait = (
        "You have won a prize draw! Claim your cash gift card now at http://claim-prize.example before it expires. " * 8
    )
    (answer,) = classify(seeded, harmless + bait, task="spam")
    assert answer["windows"] > 3
    bait_windows = {voter["window"] for voter in answer["neighbors"] if "spam" in voter["labels"]}
    assert answer["windows"] - 1 in bait_windows


def test_example_counts_at_once_and_survives_a_restart(tmp_path: Path, model_cache: str) -> None:
    """An added example changes the very next prediction, and still does after a restart, which embeds nothing."""
    server = Server(tmp_path / "data", NEARVOTE_CACHE_DIR=model_cache).start()
    try:
        text = "the heron has landed by the old lighthouse"
        (before,) = classify(server, text, task="intent")
        assert before["abstained"]
        added = server.cli("examples", "add", "--task", "intent", "--label", "order_status", text)
        assert added.returncode == 0, added.stderr
        (after,) = classify(server, text, task="intent")
        assert after["neighbors"][0]["similarity"] == pytest.approx(1, abs=1e-4)
        assert after["label"] == "order_status"
        examples = server.metrics()["nearvote_encoder_batch_windows_sum"]
        assert examples > 2_000
        server.stop()
        server.start()
        # The one window is the check before it serves; it may be checked again meanwhile.
        assert server.metrics()["nearvote_encoder_batch_windows_sum"] <= 3
        (again,) = classify(server, text, task="intent")
        assert again["label"] == "order_status"
        maps = Path(f"/proc/{server.process.pid}/maps").read_text() if server.process else ""
        assert "onnxruntime" in maps
        assert "libtorch" not in maps
    finally:
        server.stop()
