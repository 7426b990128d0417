"""Wire types of feedback to domain types and back. Nothing else."""

from collections.abc import Mapping

from nearvote.errors import InvalidField, NearvoteError
from nearvote.feedback.correction import Correction, Feedback, FeedbackState, Selection
from nearvote.learn.preview import Flip
from nearvote.rpc.status import error_to_wire
from nearvote.rpc.wire import time_from_wire, time_to_wire
from nearvote.v1 import feedback_pb2
from nearvote.v1 import feedback_service_pb2 as pb

_STATES = {
    FeedbackState.PENDING: feedback_pb2.FEEDBACK_STATE_PENDING,
    FeedbackState.PROMOTED: feedback_pb2.FEEDBACK_STATE_PROMOTED,
    FeedbackState.REJECTED: feedback_pb2.FEEDBACK_STATE_REJECTED,
    FeedbackState.REVOKED: feedback_pb2.FEEDBACK_STATE_REVOKED,
}
_STATE_OF = {value: key for key, value in _STATES.items()}


def correction_to_wire(correction: Correction) -> pb.SubmitFeedbackRequest:
    """A correction for the wire."""
    message = pb.SubmitFeedbackRequest(
        key=correction.key, task=correction.task, labels=correction.labels, source=correction.source
    )
    if correction.example_id:
        message.example_id = correction.example_id
    else:
        message.text = correction.text
    return message


def correction_from_wire(message: pb.SubmitFeedbackRequest) -> Correction:
    """A correction off the wire."""
    return Correction(
        key=message.key,
        task=message.task,
        labels=tuple(message.labels),
        source=message.source,
        text=message.text,
        example_id=message.example_id,
    )


def feedback_to_wire(feedback: Feedback, *, with_text: bool = True) -> feedback_pb2.Feedback:
    """A stored correction for the wire."""
    return feedback_pb2.Feedback(
        id=feedback.id,
        key=feedback.key,
        task=feedback.task,
        text=feedback.text if with_text else "",
        example_id=feedback.example_id,
        labels=feedback.labels,
        source=feedback.source,
        state=_STATES[feedback.state],
        create_time=time_to_wire(feedback.created_us),
        update_time=time_to_wire(feedback.updated_us),
    )


def feedback_from_wire(message: feedback_pb2.Feedback) -> Feedback:
    """A stored correction off the wire; the tenant, and how it can be undone, stay with the service."""
    state = state_from_wire(message.state)
    if state is None:
        raise InvalidField("the service knows more states than this client: renew the client", field="state")
    return Feedback(
        id=message.id,
        tenant="",
        key=message.key,
        task=message.task,
        text=message.text,
        example_id=message.example_id,
        labels=tuple(message.labels),
        source=message.source,
        state=state,
        created_us=time_from_wire(message.create_time),
        updated_us=time_from_wire(message.update_time),
    )


def state_to_wire(state: FeedbackState | None) -> "feedback_pb2.FeedbackState.ValueType":
    """A state for the wire; None for all."""
    return _STATES[state] if state else feedback_pb2.FEEDBACK_STATE_UNSPECIFIED


def state_from_wire(value: "feedback_pb2.FeedbackState.ValueType") -> FeedbackState | None:
    """A state off the wire; None for all.

    Raises:
        InvalidField: There is no such state.
    """
    if value == feedback_pb2.FEEDBACK_STATE_UNSPECIFIED:
        return None
    if value not in _STATE_OF:
        raise InvalidField("there is no such state", field="state")
    return _STATE_OF[value]


def selection_to_wire(selection: Selection) -> feedback_pb2.FeedbackSelection:
    """A selection for the wire."""
    return feedback_pb2.FeedbackSelection(
        task=selection.task,
        ids=selection.ids,
        source=selection.source,
        from_time=time_to_wire(selection.from_us) if selection.from_us else None,
        until_time=time_to_wire(selection.until_us) if selection.until_us else None,
    )


def selection_from_wire(message: feedback_pb2.FeedbackSelection) -> Selection:
    """A selection off the wire."""
    return Selection(
        task=message.task,
        ids=tuple(message.ids),
        source=message.source,
        from_us=time_from_wire(message.from_time),
        until_us=time_from_wire(message.until_time),
    )


def refusals_to_wire(refused: Mapping[str, NearvoteError]) -> list[feedback_pb2.FeedbackRefusal]:
    """What was refused, in the order of ids."""
    return [feedback_pb2.FeedbackRefusal(id=id_, error=error_to_wire(error)) for id_, error in sorted(refused.items())]


def flip_to_wire(flip: Flip) -> feedback_pb2.LabelFlip:
    """A flip for the wire."""
    return feedback_pb2.LabelFlip(
        example_id=flip.example_id, labels=flip.labels, before=flip.before, after=flip.after, text=flip.text
    )


def flip_from_wire(message: feedback_pb2.LabelFlip) -> Flip:
    """A flip off the wire."""
    return Flip(message.example_id, tuple(message.labels), tuple(message.before), tuple(message.after), message.text)
