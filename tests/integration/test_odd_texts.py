"""Texts that nobody expects."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearvote.client import ServiceError
from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.server import Server, with_spam


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a task `spam` and one example."""
    with with_spam(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


@contextmanager
def suppress_refusal() -> Iterator[None]:
    """An example may be refused as invalid, and in no other way."""
    try:
        yield
    except ServiceError as error:
        if error.code != "INVALID_ARGUMENT":
            raise


ODD = [
    "",
    " \t\n",
    "\x00",
    "a\x00b",
    "\u0301" * 1000,
    "z" + "\u034f\u0308\u0301" * 10_000,
    "\u202eevil\u202c",
    "\u200b\u200c\u200d\u2060\ufeff",
    "\U000e0041\U000e0042\U000e007f",
    "\U0001d56c\U0001d587\U0001d588 \ufdfd \u337f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466" * 300,
    "\ufffe\uffff",
    "x" * 65_536,
    "<" * 6_000,
    "<div>" * 10_000,
    "&lt;" * 3_000,
    "<script>" * 8_000,
    "\u0627" * 8_000,
    "\ud55c" * 10_000,
    "\n" * 60_000,
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_no_text_is_too_odd(seeded: Server, text: str) -> None:
    """However odd a text is, the real encoder and store answer it, with labels or an abstention."""
    with seeded.client() as client:
        result = client.classify(text, neighbor_limit=1)
    assert len(result.predictions) == 3
    assert all(bool(prediction.labels) != prediction.abstained for prediction in result.predictions)


def test_a_request_above_the_limit_is_refused(seeded: Server) -> None:
    """A request of more bytes than the service takes is refused, not read; one of a megabyte is read and refused."""
    with seeded.channel() as channel:
        stub = ClassificationServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            stub.Classify(classification.ClassifyRequest(text="a" * 9_000_000))
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            stub.Classify(classification.ClassifyRequest(text="a" * 1_048_576))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_is_answered(server: Server, text: str) -> None:
    """No text gives INTERNAL or UNKNOWN, as a message or as an example."""
    with server.client() as client:
        (prediction,) = client.classify(text, ["spam"]).predictions
        assert bool(prediction.labels) != prediction.abstained
        with suppress_refusal():
            client.add_example("spam", text, ["ham"], source=text[:50])
