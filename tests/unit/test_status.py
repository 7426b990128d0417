"""Errors and the statuses that they become."""

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from nearvote import errors, startup_errors
from nearvote.rpc.status import cause_of, code_of, error_to_wire, status_of

CLASSES = [
    class_
    for module in (errors, startup_errors)
    for _, class_ in inspect.getmembers(module, inspect.isclass)
    if issubclass(class_, errors.NearvoteError) and class_ is not errors.NearvoteError
]

EXPECTED = {
    errors.InvalidInput: "INVALID_ARGUMENT",
    errors.NotFound: "NOT_FOUND",
    errors.TaskExists: "ALREADY_EXISTS",
    errors.FeedbackKeyReused: "ALREADY_EXISTS",
    errors.FeedbackRateReached: "RESOURCE_EXHAUSTED",
    errors.TaskChanged: "ABORTED",
    errors.StateConflict: "FAILED_PRECONDITION",
    errors.Overloaded: "RESOURCE_EXHAUSTED",
    errors.Draining: "UNAVAILABLE",
    errors.SpaceSwitching: "UNAVAILABLE",
    errors.PermissionDenied: "PERMISSION_DENIED",
    errors.TooManyAttempts: "RESOURCE_EXHAUSTED",
    errors.AccessDenied: "UNAUTHENTICATED",
    errors.InvalidBackup: "DATA_LOSS",
    errors.StoreTooSlow: "DEADLINE_EXCEEDED",
    errors.StoreFull: "RESOURCE_EXHAUSTED",
    errors.StoreReadOnly: "FAILED_PRECONDITION",
    errors.StoreUnavailable: "UNAVAILABLE",
    errors.Interrupted: "UNAVAILABLE",
    startup_errors.StartupError: "FAILED_PRECONDITION",
}


@pytest.mark.parametrize("class_", CLASSES)
def test_every_error_has_a_code_and_a_reason(class_: type[errors.NearvoteError]) -> None:
    """Each class of error becomes the status of its kind, and none becomes INTERNAL."""
    kind = next(base for base in EXPECTED if issubclass(class_, base))
    assert code_of(class_("what to do")).name == EXPECTED[kind]
    assert class_.reason.isupper()


def test_reasons_are_unique() -> None:
    """No two errors share a reason, so that programs can tell them apart."""
    reasons = [class_.reason for class_ in CLASSES]
    assert len(set(reasons)) == len(reasons)


def test_the_docstring_draws_every_error() -> None:
    """The trees in the modules' docstrings have every class."""
    trees = f"{errors.__doc__}{startup_errors.__doc__}"
    drawn = {word for line in trees.splitlines() if "──" in line for word in line.split()}
    assert {class_.__name__ for class_ in CLASSES} <= drawn


def test_a_status_carries_reason_field_and_remedy() -> None:
    """A status has the error's reason, the field at fault, and the remedy in its details."""
    status = status_of(errors.TextTooLong("cut it", field="texts[3]"))
    assert (status.code, status.details) == (grpc.StatusCode.INVALID_ARGUMENT, "texts[3]: cut it")
    (packed,) = (value for key, value in status.trailing_metadata if key == "grpc-status-details-bin")
    details = status_pb2.Status.FromString(packed).details
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert details[0].Unpack(info)
    assert details[1].Unpack(bad_request)
    assert (info.reason, info.domain) == ("TEXT_TOO_LONG", "nearvote")
    assert bad_request.field_violations[0].field == "texts[3]"
    assert bad_request.field_violations[0].description == "cut it"


def test_an_item_of_a_stream_carries_the_same() -> None:
    """The error of one item says what a status would."""
    error = error_to_wire(errors.TaskNotFound("create it", field="tasks[0]"))
    assert (error.code, error.reason, error.message, error.field) == (5, "TASK_NOT_FOUND", "create it", "tasks[0]")


def test_a_field_is_seen_from_further_out() -> None:
    """A nested error names the whole path to its field."""
    assert errors.UnknownLabel("no", field="labels[0]").at("examples[2]").field == "examples[2].labels[0]"
    assert errors.UnknownLabel("no").at("examples[2]").field == "examples[2]"


def test_a_cause_is_told_where_it_is_a_drivers() -> None:
    """What Edge, gRPC and the system say is told to the log; of any other error, which may hold a text, its name."""

    def cause(error: Exception) -> str:
        failure = errors.StoreUnavailable("down")
        failure.__cause__ = error
        return cause_of(failure)

    metadata = grpc.aio.Metadata()
    assert cause(grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, metadata, metadata, "no room")) == "INTERNAL: no room"
    assert cause(OSError(28, "No space left on device")) == "OSError(28, 'No space left on device')"
    assert cause(Exception("Service runtime error")) == "Exception('Service runtime error')"
    assert cause(ValueError("a text")) == "ValueError"
    assert cause(KeyError("a text")) == "KeyError"
