"""Traces, as a collector gets them."""

import itertools
import signal
import sys
from collections.abc import Iterator

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from nearvote.v1.classification_service_pb2 import ClassifyRequest, StreamClassifyRequest
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.collector import Collector, attributes, collector
from tests.integration.conftest import Start
from tests.integration.server import NEARVOTE, Server, free_port, run

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_PARENT = "00f067aa0ba902b7"
_STAGES = ["clean", "queue", "embed", "search", "vote"]


@pytest.fixture
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    with collector() as one:
        yield one


def _traced(start: Start, collecting: Collector, **environment: str) -> Server:
    server = start(NEARVOTE_OTLP_ENDPOINT=collecting.endpoint, **environment)
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    return server


def _called(server: Server, parent: str, task: str = "spam") -> grpc.StatusCode:
    """Classifies a message as part of a caller's trace; returns the code."""
    metadata = (("traceparent", parent), ("x-request-id", "r-1"))
    with server.channel() as channel:
        try:
            ClassificationServiceStub(channel).Classify(
                ClassifyRequest(text="win a prize", tasks=[task]), metadata=metadata, timeout=30
            )
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def _of_trace(collecting: Collector) -> list[Span]:
    return [span for span in collecting.spans if span.trace_id.hex() == _TRACE]


def test_a_call_is_part_of_its_callers_trace(start: Start, collecting: Collector) -> None:
    """A call is a span under its caller's, a classification one under it, and the stages stand in it in their order."""
    server = _traced(start, collecting, OTEL_SERVICE_NAME="labels")
    assert _called(server, f"00-{_TRACE}-{_PARENT}-01") is grpc.StatusCode.OK
    assert server.stop() == 0, "what is left is sent"

    call, classification, *stages = sorted(_of_trace(collecting), key=lambda span: _rank(span.name))
    assert call.name == "nearvote.v1.ClassificationService/Classify"
    assert call.parent_span_id.hex() == _PARENT
    assert attributes(call) == {
        "rpc.system.name": "grpc",
        "rpc.method": call.name,
        "rpc.response.status_code": "OK",
    }
    assert classification.parent_span_id == call.span_id
    assert attributes(classification) == {
        "nearvote.tenant": "default",
        "nearvote.tasks": ["spam"],
        "nearvote.text_count": 1,
        "nearvote.window_count": 1,
        "nearvote.request_ids": ["r-1"],
    }
    assert [stage.name for stage in stages] == _STAGES
    assert {stage.parent_span_id for stage in stages} == {classification.span_id}
    for stage, following in itertools.pairwise(stages):
        assert stage.start_time_unix_nano <= stage.end_time_unix_nano == following.start_time_unix_nano
    assert stages[-1].end_time_unix_nano == classification.end_time_unix_nano
    resource = collecting.requests[0].resource_spans[0].resource
    assert ("service.name", "labels") in [(pair.key, pair.value.string_value) for pair in resource.attributes]


def _rank(name: str) -> int:
    return _STAGES.index(name) + 2 if name in _STAGES else int(name == "classify")


def test_a_caller_that_does_not_trace_is_not_traced(start: Start, collecting: Collector) -> None:
    """The caller's decision not to sample a trace holds here too."""
    server = _traced(start, collecting)
    _called(server, f"00-{_TRACE}-{_PARENT}-00")
    server.stop()
    assert collecting.spans, "calls without a caller's decision are traced"
    assert not _of_trace(collecting)


def test_a_call_that_fails_says_how_and_no_more(start: Start, collecting: Collector) -> None:
    """A refused call has its code; the classification that failed has the kind of error, and no message."""
    server = _traced(start, collecting)
    assert _called(server, f"00-{_TRACE}-{_PARENT}-01", task="nope") is grpc.StatusCode.NOT_FOUND
    server.stop()
    call, classification = sorted(_of_trace(collecting), key=lambda span: _rank(span.name))
    assert attributes(call)["rpc.response.status_code"] == "NOT_FOUND"
    assert call.status.code == 0, "a caller's mistake is no fault of the service"
    assert attributes(classification) == {"error.type": "TaskNotFound"}
    assert (classification.status.code, classification.status.message) == (2, "")
    assert not call.events
    assert not classification.events


def test_each_message_of_a_stream_has_its_own_span(start: Start, collecting: Collector) -> None:
    """Messages of a stream are spans side by side under the stream's."""
    server = _traced(start, collecting)
    requests = [StreamClassifyRequest(correlation_id=str(i), text="win a prize", tasks=["spam"]) for i in range(3)]
    with server.channel() as channel:
        stub = ClassificationServiceStub(channel)
        metadata = (("traceparent", f"00-{_TRACE}-{_PARENT}-01"),)
        assert len(list(stub.StreamClassify(iter(requests), metadata=metadata, timeout=30))) == 3
    server.stop()
    spans = _of_trace(collecting)
    (call,) = (span for span in spans if span.name.endswith("/StreamClassify"))
    messages = [span for span in spans if span.name == "classify"]
    assert [span.parent_span_id for span in messages] == [call.span_id] * 3


def test_a_collector_that_is_away_is_in_nobodys_way(start: Start) -> None:
    """Without its collector the service labels, and stops in time."""
    server = start(NEARVOTE_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    assert _called(server, f"00-{_TRACE}-{_PARENT}-01") is grpc.StatusCode.OK
    assert server.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("traced", [False, True])
def test_nothing_is_loaded_for_traces_that_nobody_asks_for(
    start: Start, collecting: Collector, *, traced: bool
) -> None:
    """OpenTelemetry is imported with the setting, and not without it."""
    server = start(folder="once")
    server.stop()
    server.program = [sys.executable, "-X", "importtime", NEARVOTE]
    server.environment = {"NEARVOTE_OTLP_ENDPOINT": collecting.endpoint} if traced else {}
    server.start()
    server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
    _called(server, f"00-{_TRACE}-{_PARENT}-01")
    server.stop()
    assert "nearvote.classify" in server.log.read_text()
    assert ("opentelemetry" in server.log.read_text()) is traced


def test_an_endpoint_is_a_url() -> None:
    """Something else is refused with what it should be."""
    done = run("serve", NEARVOTE_OTLP_ENDPOINT="collector:4317")
    assert done.returncode != 0
    assert "http://host:port" in done.stderr
