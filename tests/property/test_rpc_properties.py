"""Laws of every RPC, whatever is sent to it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearvote.client import ServiceError
from nearvote.server import SERVICES
from nearvote.tasks.task import Label, Task
from tests.integration.server import Server

METHODS = [method for service in SERVICES for method in service.methods]
# Whatever is asked, it is the service's fault if this is the answer.
_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DATA_LOSS}
_SECONDS = 60.0
_DEPTH = 3
_TYPES = FieldDescriptor

# What is known and what is odd, so that calls come further than the first check.
_TEXTS = st.sampled_from(
    [
        "spam",
        "ham",
        "fuzz",
        "win a prize",
        "",
        " ",
        "\x00",
        "a" * 300,
        "ümläut \u202e\u200b🎉",
        "policy.k",
        "labels",
        "1",
    ]
) | st.text(max_size=40)
_INTS = st.sampled_from([0, 1, 2, 10, 200, 2**31 - 1])
_FLOATS = st.sampled_from([0.0, 0.5, 1.0, -1.0, 1e300, float("nan"), float("inf"), -float("inf")]) | st.floats()


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind == _TYPES.CPPTYPE_STRING:
        return st.binary(max_size=20) if field.type == _TYPES.TYPE_BYTES else _TEXTS
    if kind in {_TYPES.CPPTYPE_INT32, _TYPES.CPPTYPE_INT64}:
        return _INTS | st.integers(-(2**31), -1)
    if kind in {_TYPES.CPPTYPE_UINT32, _TYPES.CPPTYPE_UINT64}:
        return _INTS
    if kind in {_TYPES.CPPTYPE_FLOAT, _TYPES.CPPTYPE_DOUBLE}:
        return _FLOATS
    if kind == _TYPES.CPPTYPE_BOOL:
        return st.booleans()
    assert kind == _TYPES.CPPTYPE_ENUM
    return st.integers(0, len(field.enum_type.values))  # one more than there are


def _value(field: Any, depth: int) -> st.SearchStrategy[Any]:
    return _messages(field.message_type, depth + 1) if field.message_type else _scalar(field)


def _of_field(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return st.dictionaries(_scalar(entry["key"]), _value(entry["value"], depth), max_size=3)
    value = _value(field, depth)
    return st.lists(value, max_size=3) if field.is_repeated else value


@st.composite
def _messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 0) -> Any:
    message: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if (field.message_type and depth >= _DEPTH) or draw(st.integers(0, 3)) == 0:
            continue
        value = draw(_of_field(field, depth))
        if isinstance(value, dict):
            target = getattr(message, field.name)
            for key, item in value.items():
                target[key].CopyFrom(item) if isinstance(item, Message) else target.__setitem__(key, item)
        elif isinstance(value, list):
            getattr(message, field.name).extend(value)
        elif isinstance(value, Message):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


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


def _code(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> grpc.StatusCode:
    """What becomes of a call with these requests; of one that takes a single one, the first."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    arity = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, arity)(path, request_serializer=None, response_deserializer=None)
    sent: Any = iter(requests) if method.client_streaming else requests[0]
    try:
        answer = call(sent, timeout=_SECONDS)
        for _ in answer if method.server_streaming else ():
            pass
    except grpc.RpcError as error:
        failed: Any = error
        code: grpc.StatusCode = failed.code()
        assert "Traceback" not in (failed.details() or "")
        return code
    return grpc.StatusCode.OK


def _spam(server: Server) -> None:
    """Creates the task that requests are about, if one of them has deleted it."""
    with server.client() as client, contextlib.suppress(ServiceError):
        client.create_task(Task("spam", (Label("spam"), Label("ham"))))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_request_is_the_services_fault(method: MethodDescriptor, channel: grpc.Channel, server: Server) -> None:
    """Whatever message of the right type is sent, the answer says what is wrong with it, if anything."""
    _spam(server)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests=st.lists(_messages(method.input_type), min_size=1, max_size=3))
    def holds(requests: list[Message]) -> None:
        code = _code(channel, method, [request.SerializeToString() for request in requests])
        assert code not in _OURS, server.log.read_text()[-3000:]

    holds()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_no_bytes_are_the_services_fault(method: MethodDescriptor, channel: grpc.Channel, server: Server) -> None:
    """Whatever bytes are sent, they are read as a request or refused as none."""

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(requests=st.lists(st.binary(max_size=60), min_size=1, max_size=2))
    def holds(requests: list[bytes]) -> None:
        assert _code(channel, method, requests) not in _OURS, server.log.read_text()[-3000:]

    holds()


def test_the_service_is_well_after_all_that(server: Server) -> None:
    """What went before has left the service in order: it labels, and has logged no error of its own."""
    with server.client() as client:
        client.info()
    assert "internal_error" not in server.log.read_text()
