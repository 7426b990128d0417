"""What is written down about texts: nothing."""

import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearvote.client import ServiceError
from tests.integration.collector import collector
from tests.integration.conftest import Start
from tests.integration.server import Server
from tests.wire_messages import METHODS, ODD_TEXTS, messages, outcome

_TEXT = "canarytext wins a prize"
_NAME = "canaryname"
_NAMES = st.sampled_from(["spam", "ham", _NAME]) | ODD_TEXTS


def _texts(field: str) -> st.SearchStrategy[str]:
    """What stands in a field: in one of a text a text, in others a name of something that there is or is not."""
    return st.just(_TEXT) if field in {"text", "texts", "description"} else _NAMES


def _written(server: Server) -> str:
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as response:
        metrics: str = response.read().decode()
    return server.log.read_text() + metrics


def test_no_text_leaves_by_another_way_than_answers(start: Start) -> None:
    """Texts in any field of any RPC show up neither in logs at any level, nor in metrics, traces or error messages."""
    with collector() as collecting:
        _try_everything(start("--log-level", "debug", NEARVOTE_OTLP_ENDPOINT=collecting.endpoint))
        assert {"classify", "vote"} <= {span.name for span in collecting.spans}
        assert not [request for request in collecting.requests if "canarytext" in str(request)]


def _try_everything(server: Server) -> None:
    """Calls every RPC with all kinds of requests, and stops the server."""
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    codes: set[grpc.StatusCode] = set()

    def try_all(channel: grpc.Channel, method: MethodDescriptor) -> None:
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(requests=st.lists(messages(method.input_type, _texts), min_size=1, max_size=3))
        def holds(requests: list[Message]) -> None:
            code, said = outcome(channel, method, [request.SerializeToString() for request in requests])
            codes.add(code)
            assert "canarytext" not in said

        holds()

    with server.channel() as channel:
        for method in METHODS:
            try_all(channel, method)
    assert {grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT} <= codes
    assert "canary" not in _written(server)
    server.stop()
    assert "canary" not in server.log.read_text()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_text_is_written_where_the_service_fails(tmp_path: Path, log_format: str) -> None:
    """An error of the service's own is logged by its type and place; its message, which may have a text, is not."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        """
import asyncio, logging
from nearvote.classify import Classifier
from nearvote.cli import main

async def forgotten(text):
    raise ValueError(text)

async def classify(self, tenant, texts, *more):
    asyncio.get_running_loop().create_task(forgotten(texts[0]))
    await asyncio.sleep(0)
    try:
        raise ValueError(texts[0])
    except ValueError as error:
        logging.getLogger("library").error("it said %s", error)
        logging.getLogger("library").exception("it failed")
        raise RuntimeError(texts[0]) from error

Classifier.classify = classify
main()
"""
    )
    server = Server(tmp_path / "data", "--model", "hashing", "--no-seeds", "--log-level", "debug")
    server.environment["NEARVOTE_LOG_FORMAT"] = log_format
    server.program = [sys.executable, broken]
    server.start()
    try:
        with server.client() as client, pytest.raises(ServiceError) as told:
            client.classify(_TEXT, ["spam"])
        assert told.value.code == "INTERNAL"
        assert "canary" not in str(told.value)
        with server.client() as client:
            (answer,) = client.classify_stream([_TEXT], ["spam"])
        assert answer.error is not None
        assert "canary" not in str(answer.error)
    finally:
        server.stop()
    written = server.log.read_text()
    assert "RuntimeError" in written
    assert "it said ValueError" in written
    assert "canary" not in written
