"""What happens to every call: errors become statuses, and calls are counted."""

import asyncio
import contextlib
import inspect
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from nearvote.deadline import set_deadline
from nearvote.errors import InvalidField, NearvoteError
from nearvote.rpc.caller import Context
from nearvote.rpc.status import INTERNAL, INTERNAL_MESSAGE, code_of, log_cause, status_of

_log = structlog.get_logger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]"


def kind_of(*, sends: bool, answers: bool) -> str:
    """The kind of a method, by whether clients send a stream and whether they are answered by one."""
    if answers:
        return "bidi_stream" if sends else "server_stream"
    return "client_stream" if sends else "unary"


class CallObserver(Protocol):
    """Is told of calls. `kind` is unary, client_stream, server_stream or bidi_stream; `code` gRPC's name of it."""

    def started(self, kind: str, service: str, method: str) -> None:
        """A call came in."""
        ...

    def handled(self, kind: str, service: str, method: str, code: str, seconds: float) -> None:
        """A call is done."""
        ...


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Turns errors into statuses, and tells an observer of calls.

    An error that is not nearvote's own becomes INTERNAL, its text and trace going to the log alone.

    What it and the interceptors behind it make of a method's handler is made once: it goes by the method alone.

    Args:
        observer: Is told of every call.
        clock: A clock in seconds.
    """

    def __init__(self, observer: CallObserver, clock: Callable[[], float]) -> None:
        self._observer = observer
        self._clock = clock
        self._wrapped: dict[str, Handler] = {}  # by method, of those that there are

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> "Handler | None":
        """Wraps the handler of a call; None for a method that there is not."""
        wrapped = self._wrapped.get(details.method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(details)
        if handler is None:
            return None
        _, service, method = details.method.split("/")
        kind = kind_of(sends=handler.request_streaming, answers=handler.response_streaming)
        call = _Call(self._observer, self._clock, kind, service, method)
        wrapped = with_behavior(handler, call.stream if is_stream(handler) else call.unary, _lenient)
        self._wrapped[details.method] = wrapped
        return wrapped


def is_stream(handler: "Handler") -> bool:
    """Whether a handler yields responses; one that streams may also be a coroutine that writes to its context."""
    return inspect.isasyncgenfunction(getattr(handler, _name(handler)))


def with_behavior(
    handler: "Handler",
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]],
    wrap_deserializer: Callable[[Any], Any] = lambda deserialize: deserialize,
) -> "Handler":
    """The same handler, with what it does wrapped.

    Args:
        handler: The handler of a method.
        wrap: Gets what it does, and returns what it is to do.
        wrap_deserializer: The same for what reads its requests, which may be None.
    """
    name = _name(handler)
    result: Handler = getattr(grpc, f"{name}_rpc_method_handler")(
        wrap(getattr(handler, name)), wrap_deserializer(handler.request_deserializer), handler.response_serializer
    )
    return result


class _Malformed:
    """Stands for a request that could not be read, so that it is refused like any other bad one."""


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialize is None:
        return None

    def read(message: bytes) -> Any:
        try:
            return deserialize(message)
        except DecodeError:
            return _Malformed()

    return read


def _checked(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidField("the request is not of the contract, or a text in it is not UTF-8")
    return request


async def _each_checked(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


def _received(request: Any) -> Any:
    """The request or requests of a call, malformed ones refused."""
    return _each_checked(request) if hasattr(request, "__aiter__") else _checked(request)


def _name(handler: "Handler") -> str:
    """GRPC's name of what a handler does, such as `unary_stream`."""
    return "_".join("stream" if one else "unary" for one in (handler.request_streaming, handler.response_streaming))


class _Call:
    def __init__(
        self, observer: CallObserver, clock: Callable[[], float], kind: str, service: str, method: str
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._names = (kind, service, method)

    def unary(self, behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(request: Any, context: Context) -> Any:
            try:
                async with self._handling(context):
                    return await behavior(_received(request), context)
            finally:
                # gRPC keeps the error of a call that failed, which keeps this frame, until the collector comes by.
                del request

        return wrapped

    def stream(self, behavior: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
            # The inner one is closed with the outer, not left to the garbage collector.
            async with self._handling(context), contextlib.aclosing(behavior(_received(request), context)) as responses:
                async for response in responses:
                    yield response

        return wrapped

    @contextlib.asynccontextmanager
    async def _handling(self, context: Context) -> AsyncIterator[None]:
        set_deadline(context.time_remaining())
        self._observer.started(*self._names)
        began = self._clock()
        cut_off = False
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            cut_off = True
            raise
        except Exception as error:  # noqa: BLE001
            try:
                await self._abort(error, context)
            finally:
                traceback.clear_frames(error.__traceback__)  # as `wrapped`: the handlers' frames have the request, too
        finally:
            code = _spelled(status_code(context, cut_off=cut_off))
            self._observer.handled(*self._names, code, self._clock() - began)

    async def _abort(self, error: Exception, context: Context) -> None:
        if isinstance(error, grpc.aio.AbortError):  # a servicer has set the status itself
            raise error
        if isinstance(error, NearvoteError):
            log_cause(error, self._names[2])
            status = status_of(error)
            context.set_code(code_of(error))
            await context.abort_with_status(status)
        if isinstance(error, NotImplementedError):  # declared by a library's contract, and not made by it
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this is not implemented")
        _log.error("internal_error", method=self._names[2], exc_info=error)
        context.set_code(INTERNAL)
        await context.abort(INTERNAL, INTERNAL_MESSAGE)


def status_code(context: Context, *, cut_off: bool) -> grpc.StatusCode:
    """How a call that is done has ended.

    Args:
        context: The call's.
        cut_off: Whether its handler was stopped from outside.
    """
    if cut_off or context.cancelled():
        remaining = context.time_remaining()
        in_time = remaining is None or remaining > 0
        return grpc.StatusCode.CANCELLED if in_time else grpc.StatusCode.DEADLINE_EXCEEDED
    status = context.code() or grpc.StatusCode.OK
    if isinstance(status, int):
        return next((known for known in grpc.StatusCode if known.value[0] == status), grpc.StatusCode.UNKNOWN)
    return status


def _spelled(code: grpc.StatusCode) -> str:
    """A code in go-grpc-middleware's spelling: OK, InvalidArgument, NotFound, ..."""
    if code is grpc.StatusCode.OK:
        return "OK"
    return code.name.title().replace("_", "").replace("Cancelled", "Canceled")
