"""ClassificationService."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog

from nearvote.access.caller import Role
from nearvote.classify import Classifies, Options
from nearvote.errors import InvalidField, NearvoteError
from nearvote.limits import Limits
from nearvote.rpc import wire
from nearvote.rpc.authorization import require
from nearvote.rpc.caller import Context, tenant
from nearvote.rpc.request_ids import request_id
from nearvote.rpc.status import error_to_wire, internal_to_wire, log_cause
from nearvote.v1 import classification_service_pb2 as pb
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceServicer

_log = structlog.get_logger(__name__)

_MAX_CORRELATION_BYTES = 128


class ClassificationServicer(ClassificationServiceServicer):
    """Labels messages."""

    def __init__(self, classifier: Callable[[], Classifies], limits: Limits) -> None:
        self._classifier = classifier
        self._limits = limits

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """Labels one message."""
        try:
            return pb.ClassifyResponse(classification=await self._classify_one(request, request_id(context)))
        except NearvoteError as error:
            raise _for_one(error) from error.__cause__

    async def BatchClassify(self, request: pb.BatchClassifyRequest, context: Context) -> pb.BatchClassifyResponse:
        """Labels many messages."""
        id_ = request_id(context)
        options = _options(request.options, tuple(f"{id_}/{i}" for i in range(len(request.texts))))
        classified = await self._classifier().classify(tenant(), request.texts, request.tasks, options)
        return pb.BatchClassifyResponse(classifications=[wire.classification_to_wire(one) for one in classified])

    async def StreamClassify(
        self, request_iterator: AsyncIterator[pb.StreamClassifyRequest], context: Context
    ) -> AsyncIterator[pb.StreamClassifyResponse]:
        """Labels messages as they come, several at a time."""
        # The reader stops taking requests while as many as allowed are under way; gRPC's flow control does the rest.
        slots = asyncio.Semaphore(self._limits.max_stream_concurrency)
        answers: asyncio.Queue[pb.StreamClassifyResponse | None] = asyncio.Queue()

        id_ = request_id(context)

        async def answer(place: int, request: pb.StreamClassifyRequest) -> None:
            answers.put_nowait(await self._answer(request, f"{id_}/{place}"))

        async def read() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    place = 0
                    async for request in request_iterator:
                        await slots.acquire()
                        group.create_task(answer(place, request))
                        place += 1
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (response := await answers.get()) is not None:
                yield response
                slots.release()  # once it is sent: a caller that does not read is not answered without end
            try:
                await reader
            except ExceptionGroup as group:  # the one thing that can fail in it is reading the requests
                raise group.exceptions[0] from None
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _answer(self, request: pb.StreamClassifyRequest, known_by: str) -> pb.StreamClassifyResponse:
        id_ = request.correlation_id
        try:
            _check_correlation(id_)
            classification = await self._classify_one(request, known_by)
            return pb.StreamClassifyResponse(correlation_id=id_, classification=classification)
        except NearvoteError as error:
            log_cause(error, "StreamClassify")
            return pb.StreamClassifyResponse(correlation_id=id_, error=error_to_wire(_for_one(error)))
        except Exception:  # noqa: BLE001 - one item's fault must not end the others
            _log.exception("internal_error", method="StreamClassify")
            return pb.StreamClassifyResponse(correlation_id=id_, error=internal_to_wire())

    async def _classify_one(self, request: pb.ClassifyRequest | pb.StreamClassifyRequest, known_by: str) -> Any:
        (classified,) = await self._classifier().classify(
            tenant(), [request.text], request.tasks, _options(request.options, (known_by,))
        )
        return wire.classification_to_wire(classified)


def _options(asked: pb.ClassifyOptions, request_ids: tuple[str, ...]) -> Options:
    options = wire.options_from_wire(asked, request_ids)
    if options.with_texts:
        require(Role.CURATE, "neighbours' texts")
    return options


def _check_correlation(id_: str) -> None:
    if len(id_.encode()) > _MAX_CORRELATION_BYTES:
        raise InvalidField(f"it has at most {_MAX_CORRELATION_BYTES} bytes", field="correlation_id")


def _for_one(error: NearvoteError) -> NearvoteError:
    error.field = error.field.replace("texts[0]", "text")
    return error
