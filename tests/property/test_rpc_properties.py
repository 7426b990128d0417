"""Laws of every RPC, whatever is sent to it."""

import contextlib
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearvote.client import ServiceError
from nearvote.tasks.task import Label, Task
from tests.integration.server import Server
from tests.wire_messages import METHODS, messages, outcome

# Whatever is asked, it is the service's fault if this is the answer.
_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DATA_LOSS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the encoder without a model, and a task that some of the requests are about."""
    server = Server(tmp_path_factory.mktemp("fuzz") / "data", "--model", "hashing", "--no-seeds").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A channel to it."""
    with server.channel() as channel:
        yield channel


def _spam(server: Server) -> None:
    """Creates the task that requests are about, if one of them has deleted it."""
    with server.client() as client, contextlib.suppress(ServiceError):
        client.create_task(Task("spam", (Label("spam"), Label("ham"))))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_request_is_the_services_fault(method: MethodDescriptor, channel: grpc.Channel, server: Server) -> None:
    """Whatever message of the right type is sent, the answer says what is wrong with it, if anything."""
    _spam(server)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests=st.lists(messages(method.input_type), min_size=1, max_size=3))
    def holds(requests: list[Message]) -> None:
        code, said = outcome(channel, method, [request.SerializeToString() for request in requests])
        assert code not in _OURS, server.log.read_text()[-3000:]
        assert "Traceback" not in said

    holds()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_bytes_are_the_services_fault(method: MethodDescriptor, channel: grpc.Channel, server: Server) -> None:
    """Whatever bytes are sent, they are read as a request or refused as none."""

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests=st.lists(st.binary(max_size=60), min_size=1, max_size=2))
    def holds(requests: list[bytes]) -> None:
        assert outcome(channel, method, requests)[0] not in _OURS, server.log.read_text()[-3000:]

    holds()


def test_the_service_is_well_after_all_that(server: Server) -> None:
    """What went before has left the service in order: it labels, and has logged no error of its own."""
    with server.client() as client:
        client.info()
    assert "internal_error" not in server.log.read_text()
