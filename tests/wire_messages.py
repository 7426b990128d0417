"""Requests of any type, drawn at random, and calls by the names of their methods."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from nearvote.server import SERVICES

METHODS = [method for service in SERVICES for method in service.methods]
_SECONDS = 60.0
_DEPTH = 3
_TYPES = FieldDescriptor

Texts = Callable[[str], st.SearchStrategy[str]]

# What is known and what is odd, so that calls come further than the first check.
ODD_TEXTS = st.sampled_from(
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


def _scalar(field: Any, texts: Texts) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind == _TYPES.CPPTYPE_STRING:
        return st.binary(max_size=20) if field.type == _TYPES.TYPE_BYTES else texts(field.name)
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


def _value(field: Any, texts: Texts, depth: int) -> st.SearchStrategy[Any]:
    return messages(field.message_type, texts, depth + 1) if field.message_type else _scalar(field, texts)


def _of_field(field: Any, texts: Texts, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        return st.dictionaries(_scalar(entry["key"], texts), _value(entry["value"], texts, depth), max_size=3)
    value = _value(field, texts, depth)
    return st.lists(value, max_size=3) if field.is_repeated else value


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, texts: Texts = lambda _: ODD_TEXTS, depth: int = 0) -> Any:
    """A message of a type; `texts` gives what stands in a string field, by the field's name."""
    message: Any = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if (field.message_type and depth >= _DEPTH) or draw(st.integers(0, 3)) == 0:
            continue
        value = draw(_of_field(field, texts, depth))
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


def outcome(channel: grpc.Channel, method: MethodDescriptor, requests: list[bytes]) -> tuple[grpc.StatusCode, str]:
    """What becomes of a call with these requests, and what is said; a method that takes one request gets the first."""
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
        return failed.code(), f"{failed.details()} {failed.trailing_metadata()}"
    return grpc.StatusCode.OK, ""
