"""Which calls are let in: how many at a time, whose, and none any more before a stop."""

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc

from nearvote.access.attempts import host_of
from nearvote.access.flow import FLOW, Flow, Shares
from nearvote.errors import Draining, LimitReached, Overloaded
from nearvote.limits import Limits
from nearvote.rpc.caller import CALLER, Context
from nearvote.rpc.interceptors import Continuation, Handler, is_stream, with_behavior

_OURS = "/nearvote.v1."
# What is asked when something is wrong: it costs little, and is answered whatever the load.
_ALWAYS = "/nearvote.v1.InfoService/"
_RETRY_SECONDS = 0.5
# Calls whose request has not come whole: they are not looked at yet, and may never be.
_HALF_SENT = 1_024
# Calls that have come over all connections, and that the event loop has not got to. gRPC cancels some beyond the first,
# and all beyond the second number: enough for 16 connections that are full.
_WAITING = (8_192, 16_384)
_STOPS = "the service is about to stop: ask another replica, or this one once it has started again"


def before_admission(limits: Limits) -> list[tuple[str, int]]:
    """A server's options that bound what there can be before a call is looked at (DECISIONS 87)."""
    return [
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_concurrent_streams", limits.max_connection_calls),
        # It refuses calls of clients that keep to the limit, while former ones are not yet put away here.
        ("grpc.http.overload_protection", 0),
        ("grpc.server.max_pending_requests", _WAITING[0]),
        ("grpc.server.max_pending_requests_hard_limit", _WAITING[1]),
    ]


def most_calls(limits: Limits) -> int:
    """How many calls there may be in all, whatever they are and however little of them has come."""
    return limits.max_concurrent_calls + limits.max_streams + limits.max_watches + _HALF_SENT


class AdmissionInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls beyond what the service takes at a time, of which clients have fair shares.

    It stands behind those that make statuses of errors and find out who calls. What it lets in runs with its flow set:
    the queue before the encoder goes by that.

    Args:
        limits: How many calls, streams and watches there may be at a time, and how long a stream may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._calls = Shares(limits.max_concurrent_calls)
        self._streams = Shares(limits.max_streams)
        self._watches = Shares(limits.max_watches)
        self._max_stream_requests = limits.max_stream_requests
        self._closed = False
        self._ending = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.let_in_at = -math.inf  # when a call or a stream was, last, by `time.perf_counter`

    async def close(self) -> None:
        """From now on lets nothing in; streams that are open go on. Returns when all are out."""
        self._closed = True
        await self._empty.wait()

    async def end_streams(self) -> None:
        """Reads no more of streams, so that they end when what came is answered. Returns when all are out."""
        self._ending.set()
        await self._empty.wait()

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> "Handler | None":
        """Wraps the handler of a call; None for a method that there is not."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_ALWAYS):
            return handler
        if not details.method.startswith(_OURS):
            if not handler.response_streaming:
                return handler
            return with_behavior(handler, self._watched if is_stream(handler) else self._watch)
        return with_behavior(handler, self._stream if is_stream(handler) else self._unary)

    def _unary(self, behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(request: Any, context: Context) -> Any:
            with self._place(self._calls, context, waits=False, what="calls"):
                return await behavior(request, context)

        return wrapped

    def _stream(self, behavior: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
            requests = self._until_ended(request) if hasattr(request, "__aiter__") else request
            with self._place(self._streams, context, waits=True, what="streams"):
                async with contextlib.aclosing(behavior(requests, context)) as responses:
                    async for response in responses:
                        yield response
                if self._ending.is_set() and requests is not request:
                    raise Draining(_STOPS)  # what was sent is answered; what was not goes elsewhere

        return wrapped

    def _watch(self, behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(request: Any, context: Context) -> Any:
            with self._taken(self._watches, context, "watches"):
                return await behavior(request, context)

        return wrapped

    def _watched(self, behavior: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
            async with contextlib.aclosing(behavior(request, context)) as responses:
                with self._taken(self._watches, context, "watches"):
                    async for response in responses:
                        yield response

        return wrapped

    async def _until_ended(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The requests of a stream, until the service is about to stop."""
        ending = asyncio.create_task(self._ending.wait())
        following: asyncio.Future[Any] | None = None
        try:
            for count in itertools.count(1):
                following = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait((following, ending), return_when=asyncio.FIRST_COMPLETED)
                if not following.done() or (request := following.result()) is None:
                    return
                if count > self._max_stream_requests:
                    raise LimitReached(f"a stream has at most {self._max_stream_requests} requests: go on in another")
                yield request
        finally:
            ending.cancel()
            if following is not None:
                following.cancel()

    @contextlib.contextmanager
    def _place(self, places: Shares, context: Context, *, waits: bool, what: str) -> Iterator[None]:
        if self._closed:
            raise Draining(_STOPS)
        try:
            with self._taken(places, context, what) as key:
                self.let_in_at = time.perf_counter()
                self._empty.clear()
                # Seen by all that the call starts; the call has a task of its own, so nothing is to be set back.
                FLOW.set(Flow(key, waits))
                yield
        finally:
            if not self._calls.taken + self._streams.taken:
                self._empty.set()

    @contextlib.contextmanager
    def _taken(self, places: Shares, context: Context, what: str) -> Iterator[str]:
        key = CALLER.get().name or host_of(context.peer())
        if not places.take(key, 1):
            raise Overloaded(
                f"as many {what} as one client may have are under way, {places.taken} of all: come again later",
                retry_seconds=_RETRY_SECONDS,
            )
        try:
            yield key
        finally:
            places.give(key, 1)
