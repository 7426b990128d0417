"""Which gRPC status each error becomes. The only place that knows."""

import grpc
import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from nearvote import errors
from nearvote.startup_errors import StartupError
from nearvote.v1 import error_pb2

DOMAIN = "nearvote"

INTERNAL = grpc.StatusCode.INTERNAL
INTERNAL_MESSAGE = "internal error; its cause is in the service's log"

# A status travels in HTTP/2 headers, 8 KiB of them as a rule, and a message stands in it three times.
_MAX_MESSAGE = 400
_MAX_FIELD = 100

_log = structlog.get_logger(__name__)

# By class; a class that is not here has the code of its base.
_CODES: dict[type[errors.NearvoteError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.TaskExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FeedbackKeyReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.FeedbackRateReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StateConflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.TaskChanged: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Draining: grpc.StatusCode.UNAVAILABLE,
    errors.SpaceSwitching: grpc.StatusCode.UNAVAILABLE,
    errors.Interrupted: grpc.StatusCode.UNAVAILABLE,
    errors.AccessDenied: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.TooManyAttempts: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InvalidBackup: grpc.StatusCode.DATA_LOSS,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StoreTooSlow: grpc.StatusCode.DEADLINE_EXCEEDED,
    # Trying again at once does not help: somebody has to make room, or to mend the disk.
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreReadOnly: grpc.StatusCode.FAILED_PRECONDITION,
    StartupError: grpc.StatusCode.FAILED_PRECONDITION,
}


def code_of(error: errors.NearvoteError) -> grpc.StatusCode:
    """The gRPC code of an error: that of its class, or of the nearest base that has one."""
    for class_ in type(error).__mro__:
        if class_ in _CODES:
            return _CODES[class_]
    return grpc.StatusCode.INTERNAL


def status_of(error: errors.NearvoteError) -> grpc.Status:
    """A status with `google.rpc.ErrorInfo`, and `BadRequest` or `RetryInfo` where a field or the load is at fault."""
    text, field = _cut(error.message, _MAX_MESSAGE), _cut(error.field, _MAX_FIELD)
    details = [_packed(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))]
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text, reason=error.reason)
        details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_seconds is not None:
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_seconds))))
    code = code_of(error)
    message = f"{field}: {text}" if field else text
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=details))


def error_to_wire(error: errors.NearvoteError) -> error_pb2.Error:
    """An error that concerns one item of a stream."""
    return error_pb2.Error(code=code_of(error).value[0], reason=error.reason, message=error.message, field=error.field)


def internal_to_wire() -> error_pb2.Error:
    """The error of one item whose cause is ours, and in the log."""
    return error_pb2.Error(code=INTERNAL.value[0], reason="INTERNAL", message=INTERNAL_MESSAGE)


def log_cause(error: errors.NearvoteError, method: str) -> None:
    """Writes what a driver said to the log, which is where the message of a store's failure points."""
    if isinstance(error, errors.StoreTooSlow):
        _log.info("deadline_too_short", method=method)
    elif isinstance(error, errors.StoreUnavailable):
        cause = error.__cause__
        _log.error(
            "store_unavailable",
            method=method,
            cause=cause_of(error),
            exc_info=None if cause is None or _is_driver(cause) else cause,
        )


def cause_of(error: BaseException) -> str:
    """What a driver said, for the log alone. An error that is none of a driver's is named only: it may hold a text."""
    if not isinstance(error, errors.NearvoteError):
        return type(error).__name__
    cause = error.__cause__
    if cause is None:
        return error.message
    if isinstance(cause, grpc.aio.AioRpcError):
        return f"{cause.code().name}: {cause.details()}"
    return repr(cause) if _is_driver(cause) else type(cause).__name__


def _is_driver(cause: BaseException | None) -> bool:
    # Edge raises Exception itself, with Qdrant's words, and where Rust panics an exception of its own.
    return isinstance(cause, OSError | grpc.aio.AioRpcError) or type(cause).__name__ in {"Exception", "PanicException"}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
