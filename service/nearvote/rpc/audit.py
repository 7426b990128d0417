"""AuditService."""

from collections.abc import Callable

from nearvote.audit.log import AuditLog, EventQuery
from nearvote.errors import InvalidField
from nearvote.examples.example import MAX_TIME_US
from nearvote.explain import Explainer
from nearvote.limits import check_page_size
from nearvote.rpc import wire
from nearvote.rpc.audit_wire import event_to_wire
from nearvote.rpc.caller import Context, tenant
from nearvote.rpc.pages import page_start, page_token
from nearvote.v1 import audit_service_pb2 as pb
from nearvote.v1.audit_service_pb2_grpc import AuditServiceServicer

# Half of what a gRPC client takes unless told otherwise. One event, of 256 examples at most, fits into the rest.
_BYTES_A_PAGE = 2 * 2**20


class AuditServicer(AuditServiceServicer):
    """Says what was done, and why a message was answered as it was."""

    def __init__(self, log: AuditLog, explainer: Callable[[], Explainer]) -> None:
        self._log = log
        self._explainer = explainer

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        """Returns a page of events."""
        limit = check_page_size(request.page_size)
        events = EventQuery(
            start_us=_time(request, "start_time") or 0,
            end_us=_time(request, "end_time"),
            task=request.task,
            actor=request.actor,
        )
        query = ("audit", tenant(), str(events.start_us), str(events.end_us), request.task, request.actor)
        start = page_start(query, request.page_token)
        page = await self._log.page(tenant(), events, limit, start)
        response, size, next_id = pb.ListAuditEventsResponse(), 0, page.next_id
        for event in page.events:
            message = event_to_wire(event)
            size += message.ByteSize()
            if response.events and size > _BYTES_A_PAGE:
                next_id = event.id
                break
            response.events.append(message)
        response.next_page_token = page_token(query, next_id)
        return response

    async def ExplainPrediction(
        self, request: pb.ExplainPredictionRequest, context: Context
    ) -> pb.ExplainPredictionResponse:
        """Returns what an answer was made of."""
        explanation = await self._explainer().get(tenant(), request.request_id)
        return pb.ExplainPredictionResponse(
            time=wire.time_to_wire(explanation.time_us),
            expire_time=wire.time_to_wire(explanation.expires_us),
            classification=wire.classification_to_wire(explanation.classification),
        )


def _time(request: pb.ListAuditEventsRequest, field: str) -> int | None:
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    micros = wire.time_from_wire(getattr(request, field))
    if not 0 <= micros <= MAX_TIME_US:
        raise InvalidField("a time is of the years 1970 to 9999", field=field)
    return micros
