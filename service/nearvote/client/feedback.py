"""What each call for feedback sends and what it makes of the answer: once, for both clients."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nearvote.client.calls import Call
from nearvote.client.errors import ServiceError, error_of_item
from nearvote.feedback.correction import Correction, Feedback, FeedbackState, Revoked, Selection, Submitted
from nearvote.learn.preview import Preview
from nearvote.rpc import feedback_wire as wire
from nearvote.rpc.wire import time_to_wire
from nearvote.v1 import feedback_pb2
from nearvote.v1 import feedback_service_pb2 as feedback


@dataclass(frozen=True, slots=True)
class Promotion:
    """What a promotion did, or would do.

    Attributes:
        count: Corrections that are promoted.
        new_count: Examples that are new.
        relabeled_count: Examples that have other labels.
        refused: Why others can't be promoted, by id.
        preview: What it would change on the examples that are there; None once it is done.
    """

    count: int
    new_count: int
    relabeled_count: int
    refused: Mapping[str, ServiceError]
    preview: Preview | None = None


def submit(correction: Correction) -> Call[Submitted]:
    """Submits a correction."""
    return Call(
        "feedback",
        "SubmitFeedback",
        wire.correction_to_wire(correction),
        lambda reply: Submitted(wire.feedback_from_wire(reply.feedback), reply.created),
    )


def get(id_: str) -> Call[Feedback]:
    """Reads a correction."""
    request = feedback.GetFeedbackRequest(id=id_)
    return Call("feedback", "GetFeedback", request, lambda reply: wire.feedback_from_wire(reply.feedback))


def list_page(task: str, state: FeedbackState | None, source: str, page_token: str) -> Call[tuple[list[Feedback], str]]:
    """Reads a page of corrections, and the token of the next."""
    request = feedback.ListFeedbackRequest(
        task=task, state=wire.state_to_wire(state), source=source, page_token=page_token
    )
    return Call(
        "feedback",
        "ListFeedback",
        request,
        lambda reply: ([wire.feedback_from_wire(one) for one in reply.feedback], reply.next_page_token),
    )


def preview(selection: Selection) -> Call[Promotion]:
    """Asks what a promotion would change."""
    request = feedback.PreviewPromotionRequest(selection=wire.selection_to_wire(selection))
    return Call("feedback", "PreviewPromotion", request, _previewed)


def promote(selection: Selection) -> Call[Promotion]:
    """Promotes corrections."""
    request = feedback.PromoteFeedbackRequest(selection=wire.selection_to_wire(selection))
    return Call(
        "feedback",
        "PromoteFeedback",
        request,
        lambda reply: Promotion(
            reply.promoted_count, reply.new_example_count, reply.relabeled_example_count, _refused(reply.refusals)
        ),
    )


def reject(selection: Selection) -> Call[int]:
    """Refuses corrections."""
    request = feedback.RejectFeedbackRequest(selection=wire.selection_to_wire(selection))
    return Call("feedback", "RejectFeedback", request, lambda reply: int(reply.rejected_count))


def revoke(source: str, task: str, from_us: int, until_us: int) -> Call[Revoked]:
    """Takes back the corrections of a source."""
    request = feedback.RevokeFeedbackRequest(
        source=source,
        task=task,
        from_time=time_to_wire(from_us) if from_us else None,
        until_time=time_to_wire(until_us) if until_us else None,
    )
    return Call(
        "feedback",
        "RevokeFeedback",
        request,
        lambda reply: Revoked(
            reply.dropped_count,
            reply.undone_count,
            reply.deleted_example_count,
            reply.restored_example_count,
            reply.kept_example_count,
        ),
    )


def _previewed(reply: Any) -> Promotion:
    return Promotion(
        reply.feedback_count,
        reply.new_example_count,
        reply.relabeled_example_count,
        _refused(reply.refusals),
        Preview(
            reply.judged_count,
            reply.agreeing_before_count,
            reply.agreeing_after_count,
            reply.flip_count,
            tuple(map(wire.flip_from_wire, reply.flips)),
        ),
    )


def _refused(refusals: Iterable[feedback_pb2.FeedbackRefusal]) -> dict[str, ServiceError]:
    return {refusal.id: error_of_item(refusal.error) for refusal in refusals}
