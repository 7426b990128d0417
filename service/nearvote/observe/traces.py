"""Traces for an OpenTelemetry collector: a span a call, in it one a classification, in it one a stage. Never a text.

OpenTelemetry is imported only where traces are asked for.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import grpc

from nearvote.classify import Classification, Classifies, Options, StageTimings
from nearvote.rpc.caller import Context
from nearvote.rpc.interceptors import Continuation, Handler, is_stream, status_code, with_behavior
from nearvote.startup_errors import InvalidSetting
from nearvote.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.context import Context as Trace
    from opentelemetry.trace import Span, Tracer

# A collector that is away must not hold up a stop.
_LAST_SPANS_SECONDS = 2.0

# What is the service's own fault, by OpenTelemetry's conventions for the server's side of a call.
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Tracing:
    """Makes spans, and sends them in batches from a thread of its own; what can't be sent is dropped.

    Whether a call is traced is its caller's decision where the call has one, and else the sampler's, which samples all
    unless the environment's OTEL_TRACES_SAMPLER says otherwise. OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_PROPAGATORS, OTEL_BSP_* and OTEL_EXPORTER_OTLP_* are OpenTelemetry's own.

    Args:
        endpoint: The collector, as a URL; spans go to it by OTLP over gRPC.

    Raises:
        InvalidSetting: OpenTelemetry is not installed, or its settings can't be right.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            # Loading them takes a tenth of a second, so only where traces are asked for.
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError:
            raise InvalidSetting(
                "traces take packages that are not installed: `pip install 'nearvote[traces]'`", field="otlp_endpoint"
            ) from None
        own = Resource({"service.name": "nearvote", "service.version": VERSION})
        try:
            self._exporter = OTLPSpanExporter(endpoint)
            self._processor = BatchSpanProcessor(self._exporter)
            provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise InvalidSetting(
                f"traces can't be set up ({error}): check the OTEL_* variables", field="otlp_endpoint"
            ) from None
        provider.add_span_processor(self._processor)
        self._tracer: Tracer = provider.get_tracer("nearvote", VERSION)

    @property
    def interceptor(self) -> "TracingInterceptor":
        """Makes the spans of calls."""
        return TracingInterceptor(self._tracer)

    def traced(self, classifier: Classifies) -> "TracedClassifier":
        """The same classifier, with spans."""
        return TracedClassifier(classifier, self._tracer)

    async def close(self) -> None:
        """Sends what is left, for a moment at most."""
        ending = asyncio.create_task(asyncio.to_thread(self._processor.shutdown))
        done, _ = await asyncio.wait([ending], timeout=_LAST_SPANS_SECONDS)
        if not done:
            self._exporter.shutdown()  # ends the try under way, and all further ones
        await ending


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Makes a span of each call, within what the caller's metadata say of its own trace.

    It stands before all other interceptors, so that what they refuse is seen too.

    Args:
        tracer: Makes spans.
    """

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry.propagate import extract  # noqa: PLC0415 - see the module

        self._tracer = tracer
        self._extract = extract

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> "Handler | None":
        """Wraps the handler of a call; None for a method that there is not."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method.removeprefix("/")

        def unary(behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def wrapped(request: Any, context: Context) -> Any:
                with self._span(method, context):
                    return await behavior(request, context)

            return wrapped

        def stream(behavior: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncIterator[Any]]:
            async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
                with self._span(method, context):
                    async with contextlib.aclosing(behavior(request, context)) as responses:
                        async for response in responses:
                            yield response

            return wrapped

        return with_behavior(handler, stream if is_stream(handler) else unary)

    @contextlib.contextmanager
    def _span(self, method: str, context: Context) -> Iterator[None]:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - see the module

        metadata = context.invocation_metadata() or ()
        callers = self._extract({key: value for key, value in metadata if isinstance(value, str)})
        span = self._tracer.start_span(
            method,
            callers,
            SpanKind.SERVER,
            {"rpc.system.name": "grpc", "rpc.method": method},
        )
        _enter(span, callers)
        cut_off = False
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            cut_off = True
            raise
        finally:
            code = status_code(context, cut_off=cut_off)
            span.set_attribute("rpc.response.status_code", code.name)
            if code in _FAULTS:
                _fail(span, code.name)
            span.end()


class TracedClassifier:
    """A classifier that makes a span of each classification, and of its stages from the times that were measured.

    Args:
        classifier: Labels messages.
        tracer: Makes spans.
    """

    def __init__(self, classifier: Classifies, tracer: "Tracer") -> None:
        self._classifier = classifier
        self._tracer = tracer

    async def classify(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[str], options: Options
    ) -> list[Classification]:
        """Labels messages, within a span."""
        span = self._tracer.start_span("classify")
        try:
            classifications = await self._classifier.classify(tenant, texts, tasks, options)
        except BaseException as error:
            _fail(span, type(error).__name__)
            span.end()
            raise
        ended = time.time_ns()
        if span.is_recording():
            span.set_attributes(
                {
                    "nearvote.tenant": tenant,
                    "nearvote.tasks": [prediction.task for prediction in classifications[0].predictions],
                    "nearvote.text_count": len(texts),
                    "nearvote.window_count": sum(one.window_count for one in classifications),
                    "nearvote.request_ids": options.request_ids,
                }
            )
            self._stages(span, classifications[0].timings, ended)
        span.end(ended)
        return classifications

    def _stages(self, span: "Span", timings: StageTimings, ended: int) -> None:
        """One span a stage, one after the other, the last of them ending with the classification."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - see the module

        within = set_span_in_context(span)
        for stage in reversed(fields(timings)):
            began = ended - round(getattr(timings, stage.name) * 1e9)
            self._tracer.start_span(stage.name, within, start_time=began).end(ended)
            ended = began


def _enter(span: "Span", callers: "Trace") -> None:
    """Makes a span the present one, for the rest of the call: each call is handled in a context of its own."""
    from opentelemetry.context import attach  # noqa: PLC0415 - see the module
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415 - see the module

    attach(set_span_in_context(span, callers))


def _fail(span: "Span", kind: str) -> None:
    """Marks a span as failed, by the kind of failure alone: an error's message may have a text in it."""
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - see the module

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
