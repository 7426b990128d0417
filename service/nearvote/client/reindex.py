"""The calls that change the encoder, for both clients."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from nearvote.client.calls import Call
from nearvote.client.errors import ServiceError, error_of_item
from nearvote.reindex.status import Compared, Phase
from nearvote.rpc.reindex_wire import PHASE_OF, compared_from_wire
from nearvote.v1 import reindex_service_pb2 as pb

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reindex:
    """How far a change of encoder is.

    Attributes:
        phase: What the service is doing for it.
        serving_model: What serves.
        building_model: What is to serve; empty for nothing.
        former_model: What served before, and can again; empty for nothing.
        done: How many examples have been looked at.
        total: How many there were when it began.
        left_out_count: Those that the other encoder reads nothing in.
        comparisons: What it changes of the caller's tasks, once it is ready.
        unfitted_tasks: The caller's tasks whose fit stayed with the former vectors, once it has switched.
        error: Why it failed.
    """

    phase: Phase
    serving_model: str
    building_model: str
    former_model: str
    done: int
    total: int
    left_out_count: int
    comparisons: tuple[Compared, ...]
    unfitted_tasks: tuple[str, ...]
    error: ServiceError | None


class _Do(Protocol):
    def __call__(self, call: Call[_T]) -> _T: ...


class _DoAsync(Protocol):
    def __call__(self, call: Call[_T]) -> Awaitable[_T]: ...


class Reindexing:
    """Changes the encoder: `client.reindex`. See the service's contract for what each call does."""

    def __init__(self, do: _Do) -> None:
        self._do = do

    def start(self, model: str = "", revision: str = "", *, back: bool = False) -> Reindex:
        """Begins to embed all examples with another encoder, or goes on with it, and returns at once."""
        return self._do(_start(model, revision, back=back))

    def status(self) -> Reindex:
        """How far it is."""
        return self._do(_STATUS)

    def switch(self) -> Reindex:
        """Lets the vectors that are ready serve."""
        return self._do(_SWITCH)

    def cancel(self) -> Reindex:
        """Stops it, and lets go of what was embedded."""
        return self._do(_CANCEL)

    def drop_former(self) -> Reindex:
        """Lets go of what served before."""
        return self._do(_DROP)


class AsyncReindexing:
    """The same with asyncio."""

    def __init__(self, do: _DoAsync) -> None:
        self._do = do

    async def start(self, model: str = "", revision: str = "", *, back: bool = False) -> Reindex:
        """Begins to embed all examples with another encoder, or goes on with it, and returns at once."""
        return await self._do(_start(model, revision, back=back))

    async def status(self) -> Reindex:
        """How far it is."""
        return await self._do(_STATUS)

    async def switch(self) -> Reindex:
        """Lets the vectors that are ready serve."""
        return await self._do(_SWITCH)

    async def cancel(self) -> Reindex:
        """Stops it, and lets go of what was embedded."""
        return await self._do(_CANCEL)

    async def drop_former(self) -> Reindex:
        """Lets go of what served before."""
        return await self._do(_DROP)


def _call(method: str, request: Message) -> Call[Reindex]:
    read: Callable[[Any], Reindex] = lambda reply: _reindex(reply.reindex)  # noqa: E731 - typed
    return Call("reindex", method, request, read)


def _start(model: str, revision: str, *, back: bool) -> Call[Reindex]:
    return _call("StartReindex", pb.StartReindexRequest(model=model, model_revision=revision, back=back))


def _reindex(message: pb.Reindex) -> Reindex:
    return Reindex(
        phase=PHASE_OF.get(message.phase, Phase.IDLE),
        serving_model=message.serving_model,
        building_model=message.building_model,
        former_model=message.former_model,
        done=message.done_count,
        total=message.total_count,
        left_out_count=message.left_out_count,
        comparisons=tuple(map(compared_from_wire, message.comparisons)),
        unfitted_tasks=tuple(message.unfitted_tasks),
        error=error_of_item(message.error) if message.HasField("error") else None,
    )


_STATUS = _call("GetReindex", pb.GetReindexRequest())
_SWITCH = _call("SwitchReindex", pb.SwitchReindexRequest())
_CANCEL = _call("CancelReindex", pb.CancelReindexRequest())
_DROP = _call("DropFormer", pb.DropFormerRequest())
