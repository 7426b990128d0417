"""Who changed what, which examples end, and why a message was answered so: over the wire, from the real server."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from nearvote.audit.event import Action
from nearvote.audit.log import EventQuery
from nearvote.client.errors import ServiceError
from nearvote.examples.example import Draft
from nearvote.v1 import classification_service_pb2 as pb
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from nearvote.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from nearvote.v1.learning_service_pb2_grpc import LearningServiceStub
from nearvote.v1.reindex_service_pb2_grpc import ReindexServiceStub
from nearvote.v1.task_service_pb2_grpc import TaskServiceStub
from nearvote.voting.policy import Policy
from tests.integration.server import Server, with_spam

CANARY = "zzcanaryzz"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that explains its answers, and sweeps often."""
    folder = tmp_path_factory.mktemp("audit") / "data"
    with with_spam(folder, NEARVOTE_EXPLAIN_HOURS="1", NEARVOTE_SWEEP_SECONDS="0.2") as server:
        yield server


def until(done: Callable[[], bool]) -> None:
    """Waits for what another process does."""
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def lines_of(server: Server, *arguments: str) -> list[dict[str, object]]:
    """What an export of the record has."""
    file = server.folder.with_suffix(".jsonl")
    done = server.cli("audit", "export", "-o", str(file), *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_change_is_recorded(server: Server) -> None:
    """Every call that changes something leaves an event with the caller's address and the service's versions."""
    drafts = [Draft("mood", f"{CANARY} {word} day {i}", (word,)) for word in ("good", "bad") for i in range(15)]
    file = server.folder.with_suffix(".csv")
    file.write_text("text,label,subject\n" + "\n".join(f"{one.text},{one.labels[0]},s" for one in drafts[1:]))
    with server.client() as client:
        assert server.cli("tasks", "create", "mood", "-l", "good", "-l", "bad").returncode == 0
        (first,) = client.add_examples(drafts[:1])
        assert server.cli("examples", "import", "-t", "mood", str(file)).returncode == 0
        client.add_example("mood", drafts[0].text, ["bad"], weight=2.0)
        assert server.cli("tasks", "update", "mood", "--margin-floor", "0.2").returncode == 0
        client.start_shadow("mood", Policy(k=7), share=1.0)
        client.stop_shadow("mood")
        client.start_shadow("mood", Policy(k=5), share=1.0)
        client.promote_shadow("mood")
        assert server.cli("fit", "-t", "mood").returncode == 0
        client.roll_back_fit("mood")
        client.submit_feedback("k", "mood", ["good"], source="m", text=f"{CANARY} waits")
        assert server.cli("feedback", "promote", "-t", "mood", "--source", "m").returncode == 0
        client.revoke_feedback("m")
        client.delete_example("mood", first.id)
        assert client.delete_examples(subject="s").example_count == 29
        client.delete_task("mood", force=True)
    events = lines_of(server, "--task", "mood")
    assert [one["action"] for one in events] == [
        "task_created",
        "examples_added",
        "examples_added",
        "examples_changed",
        "task_updated",
        "shadow_started",
        "shadow_stopped",
        "shadow_started",
        "shadow_promoted",
        "task_fitted",
        "fit_rolled_back",
        "examples_promoted",
        "examples_deleted",
        "examples_deleted",
        "examples_deleted",
        "task_deleted",
    ]
    assert all(str(one["address"]).startswith("ipv4:127.0.0.1:") for one in events)
    assert [one.get("example_count") for one in events] == [None, 1, 29, 1, *[None] * 7, 1, 1, 1, 29, None]
    assert (events[9]["fit_versions"], events[10]["fit_versions"]) == ([0, 1], [1, 0])
    assert events[3]["examples"] == [
        {
            "id": first.id,
            "before": {"labels": ["good"], "weight": 1.0, "source": ""},
            "after": {"labels": ["bad"], "weight": 2.0, "source": ""},
        }
    ]
    assert CANARY not in json.dumps(events)
    assert [one["time"] for one in events] == sorted(str(one["time"]) for one in events)


# Calls that change nothing, those whose change is of no state that is kept, those of feedback that only waits, and
# those of vectors that do not serve.
_READS = {
    "GetExample", "ListExamples", "SearchExamples", "ExportExamples", "GetTask", "ListTasks", "GetFitJob",
    "CancelFitJob", "GetFit", "CheckExamples", "GetFeedback", "ListFeedback", "PreviewPromotion", "SubmitFeedback",
    "RejectFeedback", "ListShadows", "StartReindex", "GetReindex", "CancelReindex", "DropFormer",
}  # fmt: skip
_RECORDED = {
    "CreateExample", "BatchCreateExamples", "DeleteExample", "DeleteExamples", "ImportExamples", "CreateTask",
    "UpdateTask", "DeleteTask", "StartFit", "RollBackFit", "PromoteFeedback", "RevokeFeedback",
    "StartShadow", "StopShadow", "PromoteShadow", "SwitchReindex",
}  # fmt: skip


def test_no_call_is_overlooked() -> None:
    """A new call says here whether it changes anything; the test above, and one of its own, make those that do."""
    stubs = (ExampleServiceStub, TaskServiceStub, LearningServiceStub, FeedbackServiceStub, ReindexServiceStub)
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        names = {name for stub in stubs for name in vars(stub(channel))}
    assert names == _READS | _RECORDED


def test_pages_and_times(server: Server) -> None:
    """The record can be read from and to a time, page by page."""
    with server.client() as client:
        client.add_example("spam", "before", ["ham"])
        between = datetime.now(UTC)
        client.add_example("spam", "after", ["ham"])
        start_us = round(between.timestamp() * 1_000_000)
        found = list(client.audit_events(EventQuery(start_us=start_us)))
        assert [(one.change.action, one.change.example_count) for one in found] == [(Action.EXAMPLES_ADDED, 1)]
        assert not any(one.id == found[0].id for one in client.audit_events(EventQuery(end_us=start_us)))
        assert list(client.audit_events(EventQuery(actor="nobody"))) == []
    table = server.cli("audit", "list", "--since", between.isoformat(), "--task", "spam").stdout
    assert "examples_added; 1" in table
    assert server.cli("audit", "list", "--since", "yesterday").returncode == 2


def test_an_example_ends(server: Server) -> None:
    """An example with an end votes until then, is in an export with it, and is deleted after it."""
    with server.client() as client:
        expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        arguments = ("-t", "spam", "-l", "ham", "--subject", "person-1", "--expires", expires, "a passing fancy")
        added = json.loads(server.cli("examples", "add", "--json", *arguments).stdout)
        assert (added["subject"], added["expires"]) == ("person-1", expires)
        end = datetime.now(UTC) + timedelta(seconds=2)
        client.add_example("spam", "a passing fancy", ["ham"], expires_us=round(end.timestamp() * 1_000_000))
        (prediction,) = client.classify("a passing fancy", ["spam"], with_texts=True).predictions
        assert "a passing fancy" in [one.text for one in prediction.neighbors]
        until(lambda: datetime.now(UTC) > end)
        assert "a passing fancy" not in [one.text for one in client.list_examples("spam")]
        (prediction,) = client.classify("a passing fancy", ["spam"], with_texts=True).predictions
        assert "a passing fancy" not in [one.text for one in prediction.neighbors]
        until(lambda: any(one.change.action is Action.EXAMPLES_EXPIRED for one in client.audit_events()))
        assert client.delete_examples(subject="person-1").example_count == 0, "the sweep was there"
    past = server.cli("examples", "add", "-t", "spam", "-l", "ham", "--expires", "2001-01-01", "too late")
    assert (past.returncode, "ends in the future" in past.stderr) == (1, True)


def test_delete_by_source_by_hand(server: Server) -> None:
    """The command line deletes a source's examples, and says which task to fit again; it wants one way of naming."""
    with server.client() as client:
        client.add_examples([Draft("spam", f"from the mill {i}", ("spam",), source="mill") for i in range(3)])
    done = server.cli("examples", "delete", "--source", "mill")
    assert (done.returncode, done.stdout) == (0, "3 examples deleted\n")
    for arguments in ((), ("--source", "mill", "-t", "spam", "an-id"), ("an-id",)):
        assert server.cli("examples", "delete", *arguments).returncode == 2


def test_explained(server: Server) -> None:
    """An answer is explained by the id that came with it, after a restart as well; without texts, and not twice."""
    with server.channel() as channel:
        stub = ClassificationServiceStub(channel)
        request = pb.ClassifyRequest(text=f"{CANARY} win a prize", tasks=["spam"])
        given = stub.Classify(request, metadata=(("x-request-id", "req-17"),)).classification
        made = stub.Classify(request, metadata=(("x-request-id", "has a space"),)).classification
        batch = pb.BatchClassifyRequest(texts=["win", "a", "prize"], tasks=["spam"])
        many = stub.BatchClassify(batch, metadata=(("x-request-id", "req-18"),)).classifications
    assert given.request_id == "req-17"
    assert len(made.request_id) == 36
    assert [one.request_id for one in many] == ["req-18/0", "req-18/1", "req-18/2"]
    server.stop()
    server.start()
    with server.client() as client:
        explanation = client.explain("req-17")
        (kept,), (expected,) = explanation.classification.predictions, given.predictions
        assert [one.example_id for one in kept.neighbors] == [one.example_id for one in expected.neighbors]
        assert kept.scores == {one.label: one.score for one in expected.scores}
        assert kept.examples_version == expected.examples_version
        client.explain("req-18/2")
        with pytest.raises(ServiceError) as caught:
            client.explain("req-18/3")
        assert caught.value.reason == "EXPLANATION_NOT_FOUND"
    shown = server.cli("explain", "req-17", "--json")
    assert json.loads(shown.stdout)["neighbors"][0]["id"] == expected.neighbors[0].example_id
    assert CANARY not in shown.stdout
    assert "spam" in server.cli("explain", "req-17").stdout
    stream = json.loads(server.cli("classify", "--json", "-t", "spam", "win a prize").stdout)
    assert server.cli("explain", stream["request_id"]).returncode == 0
    assert server.cli("explain", "unknown").returncode == 1
    assert server.metrics()["nearvote_explanations_dropped_total"] == 0


def test_off_unless_asked_for(tmp_path: Path) -> None:
    """Nothing is kept of answers unless the service is told to, and nothing of a deleted text once it is vacuumed."""
    with with_spam(tmp_path / "data") as server:
        with server.client() as client:
            answer = client.classify(CANARY, ["spam"])
            assert answer.request_id
            with pytest.raises(ServiceError, match="explain_hours"):
                client.explain(answer.request_id)
            client.add_example("spam", f"{CANARY} of the deep", ["ham"], subject="s")
            assert client.delete_examples(subject="s").example_count == 1
        assert not (server.folder / "collections" / "nearvote_explanations").exists()
        server.stop()
        assert server.cli("optimize", "--vacuum", "--data-dir", str(server.folder)).returncode == 0
        assert not [
            path for path in server.folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()
        ]
        assert CANARY not in server.log.read_text()
        server.start()
        with server.client() as client:
            assert [one.text for one in client.list_examples("spam")] == ["win a prize"]
