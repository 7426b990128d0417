"""Every RPC that there is, read from the descriptors of the contract and of what is served beside it."""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import nearvote.v1


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC."""

    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        """As it is called on the wire."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def name(self) -> str:
        """Without its service."""
        return str(self.descriptor.name)

    def empty(self) -> Message:
        """A request without anything in it."""
        return message_factory.GetMessageClass(self.descriptor.input_type)()

    def call(
        self, channel: grpc.Channel, request: Message | None = None, key: str = "", request_id: str = ""
    ) -> list[Message]:
        """Calls it with one request, and returns all responses."""
        metadata = [("authorization", f"Bearer {key}")] if key else []
        metadata += [("x-request-id", request_id)] if request_id else []
        sending = "stream" if self.descriptor.client_streaming else "unary"
        receiving = "stream" if self.descriptor.server_streaming else "unary"
        reply = message_factory.GetMessageClass(self.descriptor.output_type)
        make: Any = getattr(channel, f"{sending}_{receiving}")
        method = make(
            self.path, request_serializer=lambda one: one.SerializeToString(), response_deserializer=reply.FromString
        )
        request = request if request is not None else self.empty()
        answer = method(
            iter([request]) if sending == "stream" else request,
            timeout=30,
            metadata=metadata,
        )
        return list(answer) if receiving == "stream" else [answer]


def _rpcs(module: Any) -> list[Rpc]:
    return [Rpc(method) for service in module.DESCRIPTOR.services_by_name.values() for method in service.methods]


OURS = [
    rpc
    for found in pkgutil.iter_modules(nearvote.v1.__path__)
    if found.name.endswith("_pb2")
    for rpc in _rpcs(importlib.import_module(f"nearvote.v1.{found.name}"))
]
BESIDE = [*_rpcs(health_pb2), *_rpcs(reflection_pb2)]
