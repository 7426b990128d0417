"""Corrections over the wire, by the clients and by the command line, against the real server."""

import json
import time
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from nearvote import AsyncClient
from nearvote.client import Draft, FeedbackState, Revoked, Selection, ServiceError
from nearvote.v1 import feedback_pb2
from nearvote.v1 import feedback_service_pb2 as pb
from nearvote.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from tests.integration.conftest import Start
from tests.integration.server import Server

NO_ID = "00000000-0000-0000-0000-000000000000"
SPAM = [f"win a big prize now number {i}" for i in range(20)]
HAM = [f"lunch with the team on day {i}" for i in range(20)]
ASKED = ["win a big prize now number 77", "lunch with the team on day 77"]


def _fill(server: Server) -> None:
    with server.client() as client:
        client.add_examples(
            [Draft("spam", text, ("spam",), 1.0, "seed") for text in SPAM]
            + [Draft("spam", text, ("ham",), 2.0, "seed") for text in HAM]
        )


def _said(server: Server) -> list[tuple[str | None, float]]:
    with server.client() as client:
        found = client.classify_batch(ASKED, ["spam"])
    return [(one.predictions[0].label, one.predictions[0].score) for one in found]


def _examples(server: Server) -> list[dict[str, Any]]:
    lines = server.cli("examples", "export", "-t", "spam").stdout.splitlines()
    return sorted(map(json.loads, lines), key=lambda line: str(line["text"]))


def test_a_poisoning_is_seen_flagged_and_undone(plain: Server) -> None:
    """A source submits bad labels: nothing votes yet, a preview shows the flips, `check` names it, revoking heals."""
    _fill(plain)
    clean, examples = _said(plain), _examples(plain)
    assert [label for label, _ in clean] == ["spam", "ham"]
    with plain.client() as client:
        for i, text in enumerate(SPAM[:8]):
            client.submit_feedback(f"relabel {i}", "spam", ["ham"], source="mallory", text=text)
        for i in range(10):
            client.submit_feedback(
                f"new {i}", "spam", ["ham"], source="mallory", text=f"win a big prize now number {100 + i}"
            )
        client.submit_feedback("honest", "spam", ["ham"], source="moderator", text="lunch with the other team")
    assert (_said(plain), _examples(plain)) == (clean, examples)

    seen = json.loads(plain.cli("feedback", "preview", "-t", "spam", "--source", "mallory", "--json").stdout)
    assert (seen["promoted"], seen["new"], seen["relabelled"], seen["judged"]) == (18, 10, 8, 40)
    assert seen["agreeing_before"] == 40
    assert seen["flipped"] == len(seen["flips"]) == 40 - seen["agreeing_after"] > 5
    assert all((flip["before"], flip["after"]) == (["spam"], ["ham"]) for flip in seen["flips"])
    table = plain.cli("feedback", "preview", "-t", "spam", "--source", "mallory").stdout
    assert "18 corrections: 10 new examples, 8 relabelled" in table
    assert f"flips ({seen['flipped']}" in table
    assert (_said(plain), _examples(plain)) == (clean, examples)

    done = plain.cli("feedback", "promote", "-t", "spam", "--since", "2000-01-01")
    assert (done.returncode, done.stdout) == (0, "19 promoted: 11 new examples, 8 relabelled\n")
    assert [label for label, _ in _said(plain)] != ["spam", "ham"]
    found = [json.loads(line) for line in plain.cli("examples", "check", "-t", "spam", "--json").stdout.splitlines()]
    (source,) = [one for one in found if one["kind"] == "contradicting_source"]
    assert (source["source"], source["judged_count"]) == ("mallory", 18)
    assert source["value"] > 2 * source["rest_value"]
    shown = plain.cli("examples", "check", "-t", "spam").stdout
    assert "sources that contradict the rest (1)" in shown
    assert "mallory" in shown

    plain.stop()
    plain.start()
    revoked = plain.cli("feedback", "revoke", "--source", "mallory")
    assert revoked.stdout == ("0 dropped, 18 undone: 10 examples deleted, 8 restored, 0 left as others have them\n")
    after = _examples(plain)
    assert [one for one in after if one["source"] != "moderator"] == examples
    with plain.client() as client:
        (honest,) = client.list_examples("spam", source="moderator")
        client.delete_example("spam", honest.id)
    assert _said(plain) == clean
    assert plain.metric_with("nearvote_feedback_total", 'outcome="revoked"', 'task="spam"') == 18


def test_the_command_line(plain: Server) -> None:
    """Each command does what it says, and says it; submitting twice is submitting once."""
    first = plain.cli("feedback", "submit", "-t", "spam", "-l", "ham", "--source", "m", "hello")
    assert (first.returncode, first.stdout.split()[0]) == (0, "pending")
    id_ = first.stdout.split()[1]
    again = plain.cli("feedback", "submit", "-t", "spam", "-l", "ham", "--source", "m", "hello")
    assert again.stdout == f"pending {id_}, submitted before\n"
    other = json.loads(
        plain.cli(
            "feedback", "submit", "-t", "spam", "-l", "spam", "--source", "n", "--key", "k", "--json", "buy"
        ).stdout
    )
    assert (other["key"], other["state"], other["created"], other["text"]) == ("k", "pending", True, "")
    listed = [json.loads(line) for line in plain.cli("feedback", "list", "-t", "spam", "--json").stdout.splitlines()]
    assert {one["text"] for one in listed} == {"hello", "buy"}
    assert id_ in plain.cli("feedback", "list", "--source", "m", "--state", "pending").stdout
    assert plain.cli("feedback", "reject", "-t", "spam", id_).stdout == "1 rejected\n"
    assert plain.cli("feedback", "reject", "-t", "spam", id_).stdout == "0 rejected\n"
    refused = plain.cli("feedback", "promote", "-t", "spam", id_, other["id"])
    assert (refused.returncode, refused.stdout) == (1, "1 promoted: 1 new examples, 0 relabelled\n")
    assert "FEEDBACK_NOT_PENDING" in refused.stderr
    plain.cli("feedback", "submit", "-t", "spam", "-l", "ham", "--source", "n", "--example", other["example_id"])
    done = json.loads(plain.cli("feedback", "promote", "-t", "spam", "--source", "n", "--json").stdout)
    assert done == {"promoted": 1, "new": 0, "relabelled": 1, "refused": {}}
    assert plain.cli("feedback", "revoke", "--source", "n", "--until", "2000-01-01", "--json").stdout == (
        '{"dropped": 0, "undone": 0, "deleted": 0, "restored": 0, "kept": 0}\n'
    )
    assert json.loads(plain.cli("feedback", "revoke", "--source", "n", "-t", "spam", "--json").stdout)["deleted"] == 1
    for wrong in (
        ("promote", "-t", "spam"),
        ("reject", "-t", "spam", id_, "--source", "m"),
        ("submit", "-t", "spam", "-l", "ham", "--source", "m"),
        ("submit", "-t", "spam", "-l", "ham", "--source", "m", "--example", id_, "text"),
        ("preview", "-t", "spam", "--since", "yesterday"),
    ):
        assert plain.cli("feedback", *wrong).returncode == 2, wrong


async def test_the_asyncio_client(plain: Server) -> None:
    """Every method for feedback of the asyncio client does what it says."""
    async with AsyncClient(plain.address) as client:
        sent = [
            (await client.submit_feedback(str(i), "spam", ["ham"], source="s", text=f"text {i}")).feedback
            for i in range(120)
        ]
        known = await client.submit_feedback("0", "spam", ["ham"], source="s", text="text 0")
        assert (known.created, known.feedback) == (False, sent[0])
        assert (await client.get_feedback(sent[0].id)).text == "text 0"
        listed = [one async for one in client.list_feedback("spam", state=FeedbackState.PENDING, source="s")]
        assert [one.id for one in listed] == sorted(one.id for one in sent)
        seen = await client.preview_promotion(Selection("spam", [sent[0].id]))
        assert (seen.count, seen.new_count, seen.preview and seen.preview.judged_count) == (1, 1, 0)
        assert await client.reject_feedback(Selection("spam", [sent[0].id])) == 1
        done = await client.promote_feedback(Selection("spam", source="s", until_us=sent[10].created_us))
        assert (done.count, done.new_count, done.refused, done.preview) == (9, 9, {}, None)
        assert await client.revoke_feedback("s", task="spam", from_us=sent[5].created_us) == Revoked(110, 5, 5, 0, 0)
        assert {one.text async for one in client.list_examples("spam")} == {f"text {i}" for i in range(1, 5)}
        with pytest.raises(ServiceError, match="FEEDBACK_NOT_FOUND"):
            await client.get_feedback(NO_ID)


@pytest.fixture
def limited(start: Start) -> Server:
    """A server that takes little from a source, and has a rule."""
    server = start(
        NEARVOTE_MAX_PENDING_FEEDBACK="2", NEARVOTE_MAX_FEEDBACK_PER_HOUR="3", NEARVOTE_FEEDBACK_PROMOTE_AFTER="2"
    )
    assert server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham").returncode == 0
    return server


def test_limits_and_the_rule(limited: Server) -> None:
    """Limits are shown and held, the codes say which; the rule promotes where enough sources agree."""
    left = 3600 - time.time() % 3600
    if left < 60:  # the hour would end in the middle of it
        pytest.skip(f"the hour ends in {left:.0f} seconds")
    with limited.client() as client:
        limits = client.info().limits
        assert (limits.max_pending_feedback, limits.max_feedback_per_hour) == (2, 3)

        def submit(key: str, source: str = "a") -> FeedbackState:
            given = client.submit_feedback(key, "spam", ["ham"], source=source, text=f"text {key}")
            return given.feedback.state

        assert [submit("1"), submit("2")] == [FeedbackState.PENDING] * 2
        with pytest.raises(ServiceError) as pending:
            submit("3")
        assert (pending.value.code, pending.value.reason) == ("FAILED_PRECONDITION", "LIMIT_REACHED")
        assert client.submit_feedback("b1", "spam", ["ham"], source="b", text="text 1").feedback.state is (
            FeedbackState.PROMOTED
        )
        assert submit("3") is FeedbackState.PENDING
        client.submit_feedback("b2", "spam", ["ham"], source="b", text="text 2")
        with pytest.raises(ServiceError) as rate:
            submit("4")
        assert (rate.value.code, rate.value.reason) == ("RESOURCE_EXHAUSTED", "FEEDBACK_RATE_REACHED")
        assert {one.text for one in client.list_examples("spam")} == {"text 1", "text 2"}
    assert limited.metric_with("nearvote_feedback_total", 'outcome="limited"') == 2


SUBMIT = {"key": "k", "task": "spam", "text": "hello", "labels": ["ham"], "source": "s"}


def _submit(**fields: Any) -> pb.SubmitFeedbackRequest:
    return pb.SubmitFeedbackRequest(**{**SUBMIT, **fields})


def _selected(request: Any, **fields: Any) -> Any:
    return request(selection=feedback_pb2.FeedbackSelection(**fields))


_REFUSALS: list[tuple[str, Message, str, str, str]] = [
    ("SubmitFeedback", _submit(key=""), "INVALID_ARGUMENT", "INVALID_FIELD", "key"),
    ("SubmitFeedback", _submit(source=""), "INVALID_ARGUMENT", "INVALID_FIELD", "source"),
    ("SubmitFeedback", _submit(text=""), "INVALID_ARGUMENT", "INVALID_FIELD", "text"),
    ("SubmitFeedback", _submit(text="x" * 65_537), "INVALID_ARGUMENT", "TEXT_TOO_LONG", "text"),
    ("SubmitFeedback", _submit(task="nope"), "NOT_FOUND", "TASK_NOT_FOUND", "task"),
    ("SubmitFeedback", _submit(labels=["eggs"]), "INVALID_ARGUMENT", "UNKNOWN_LABEL", "labels[0]"),
    ("SubmitFeedback", _submit(key="taken"), "ALREADY_EXISTS", "FEEDBACK_KEY_REUSED", "key"),
    ("SubmitFeedback", _submit(text=None, example_id=NO_ID), "NOT_FOUND", "EXAMPLE_NOT_FOUND", "example_id"),
    ("SubmitFeedback", _submit(text=None, example_id="x"), "INVALID_ARGUMENT", "INVALID_FIELD", "example_id"),
    ("GetFeedback", pb.GetFeedbackRequest(id="x"), "INVALID_ARGUMENT", "INVALID_FIELD", "id"),
    ("GetFeedback", pb.GetFeedbackRequest(id=NO_ID), "NOT_FOUND", "FEEDBACK_NOT_FOUND", "id"),
    ("ListFeedback", pb.ListFeedbackRequest(task="nope"), "NOT_FOUND", "TASK_NOT_FOUND", "task"),
    ("ListFeedback", pb.ListFeedbackRequest(page_size=1001), "INVALID_ARGUMENT", "INVALID_FIELD", "page_size"),
    ("ListFeedback", pb.ListFeedbackRequest(page_token="x"), "INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"),
    ("ListFeedback", pb.ListFeedbackRequest(state=cast("Any", 99)), "INVALID_ARGUMENT", "INVALID_FIELD", "state"),
    ("PromoteFeedback", pb.PromoteFeedbackRequest(), "INVALID_ARGUMENT", "INVALID_FIELD", "selection"),
    (
        "PromoteFeedback",
        _selected(pb.PromoteFeedbackRequest, task="nope", ids=[NO_ID]),
        "NOT_FOUND",
        "TASK_NOT_FOUND",
        "task",
    ),
    (
        "PromoteFeedback",
        _selected(pb.PromoteFeedbackRequest, task="spam", ids=[NO_ID]),
        "NOT_FOUND",
        "FEEDBACK_NOT_FOUND",
        "selection.ids",
    ),
    ("RejectFeedback", pb.RejectFeedbackRequest(), "INVALID_ARGUMENT", "INVALID_FIELD", "selection"),
    ("PreviewPromotion", pb.PreviewPromotionRequest(), "INVALID_ARGUMENT", "INVALID_FIELD", "selection"),
    ("RevokeFeedback", pb.RevokeFeedbackRequest(), "INVALID_ARGUMENT", "INVALID_FIELD", "source"),
    ("RevokeFeedback", pb.RevokeFeedbackRequest(source="s", task="nope"), "NOT_FOUND", "TASK_NOT_FOUND", "task"),
]


def test_what_is_refused(plain: Server) -> None:
    """Each refusal has its code, its reason and the field at fault, and nothing is stored for it."""
    with plain.channel() as channel:
        stub: Any = FeedbackServiceStub(channel)
        stub.SubmitFeedback(_submit(key="taken", text="another"))
        for method, request, code, reason, field in _REFUSALS:
            with pytest.raises(grpc.RpcError) as caught:
                getattr(stub, method)(request)
            status = rpc_status.from_call(cast("Any", caught.value))
            info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            status.details[0].Unpack(info)
            status.details[1].Unpack(bad_request)
            assert (caught.value.code().name, info.reason) == (code, reason), (method, request)
            assert bad_request.field_violations[0].field == field, (method, request)
        assert len(stub.ListFeedback(pb.ListFeedbackRequest()).feedback) == 1


def test_a_submission_does_not_show_texts(plain: Server) -> None:
    """Who submits a correction of an example by its id is not told its text; a list of corrections shows it."""
    with plain.client() as client:
        id_ = client.add_example("spam", "a private matter", ["spam"]).example.id
    with plain.channel() as channel:
        stub: Any = FeedbackServiceStub(channel)
        given = _submit(text=None, example_id=id_)
        for _ in range(2):
            assert stub.SubmitFeedback(given).feedback.text == ""
        start = Timestamp(seconds=1)
        selection = feedback_pb2.FeedbackSelection(task="spam", from_time=start)
        assert stub.PreviewPromotion(pb.PreviewPromotionRequest(selection=selection)).feedback_count == 1
        assert stub.ListFeedback(pb.ListFeedbackRequest()).feedback[0].text == "a private matter"
    assert "private matter" not in plain.log.read_text()


def test_long_texts_come_in_more_pages(plain: Server) -> None:
    """Any client gets all corrections however long they are, in answers that gRPC takes without being told to."""
    with plain.client() as client, plain.channel() as channel:
        for i in range(80):
            client.submit_feedback(str(i), "spam", ["spam"], source="s", text=f"{i} {'x' * 60_000}")
        stub: Any = FeedbackServiceStub(channel)
        pages = [stub.ListFeedback(pb.ListFeedbackRequest(page_size=1_000))]
        while pages[-1].next_page_token:
            asked = pb.ListFeedbackRequest(page_size=1_000, page_token=pages[-1].next_page_token)
            pages.append(stub.ListFeedback(asked))
        assert len(pages) == 2
        assert len({one.id for page in pages for one in page.feedback}) == 80
        assert len(list(client.list_feedback("spam"))) == 80
