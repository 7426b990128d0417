"""What each call about what was done sends, and what it makes of the answer: once, for both clients."""

from google.protobuf.timestamp_pb2 import Timestamp

from nearvote.audit.event import Event
from nearvote.audit.log import EventQuery
from nearvote.client.calls import Call
from nearvote.explain import Explanation
from nearvote.rpc import wire
from nearvote.rpc.audit_wire import event_from_wire
from nearvote.v1 import audit_service_pb2 as audit

_PAGE = 1_000


def list_audit_events(query: EventQuery, page_token: str) -> Call[tuple[list[Event], str]]:
    """Reads a page of events, and the token of the next."""
    request = audit.ListAuditEventsRequest(
        start_time=_time(query.start_us or None),
        end_time=_time(query.end_us),
        task=query.task,
        actor=query.actor,
        page_size=_PAGE,
        page_token=page_token,
    )
    return Call(
        "audit",
        "ListAuditEvents",
        request,
        lambda reply: ([event_from_wire(one) for one in reply.events], reply.next_page_token),
    )


def explain_prediction(request_id: str) -> Call[Explanation]:
    """Asks what an answer was made of."""
    return Call(
        "audit",
        "ExplainPrediction",
        audit.ExplainPredictionRequest(request_id=request_id),
        lambda reply: Explanation(
            wire.time_from_wire(reply.time),
            wire.time_from_wire(reply.expire_time),
            wire.classification_from_wire(reply.classification),
        ),
    )


def _time(micros: int | None) -> Timestamp | None:
    return wire.optional_time_to_wire(micros)
