"""What can go wrong between a client and the service.

ClientError
├── ServiceUnreachable      no service answers at the address
└── ServiceError            the service refused or failed; it says why
"""

from typing import Any, Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from nearvote.v1 import error_pb2

# What gRPC says when a connection fails over who is at its other end.
_TLS_WORDS = ("handshake", "certificate", "ssl", "tls")


class FailedCall(Protocol):
    """What the errors of both kinds of channel can tell."""

    def code(self) -> grpc.StatusCode:
        """GRPC's code."""
        ...

    def details(self) -> str | None:
        """The status message."""
        ...

    def trailing_metadata(self) -> Any:
        """Pairs of key and value."""
        ...


class ClientError(Exception):
    """Base of what the clients raise."""


class ServiceUnreachable(ClientError):
    """No service answers at the address."""


class ServiceError(ClientError):
    """The service refused or failed.

    Attributes:
        code: gRPC's name of the status, such as `INVALID_ARGUMENT`.
        reason: The service's own name of the error, such as `TEXT_TOO_LONG`; empty when it gave none.
        message: What is wrong and what to do about it.
        field: The request's field at fault; empty when it is none in particular.
        retry_seconds: When to come again, where the service said so.
    """

    def __init__(
        self, code: str, reason: str, message: str, field: str = "", *, retry_seconds: float | None = None
    ) -> None:
        super().__init__(f"{message} ({reason or code})")
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_seconds = retry_seconds


def error_of_call(error: FailedCall, address: str, *, secure: bool) -> ClientError:
    """What a failed call means.

    Args:
        error: The failure.
        address: Where the service should be.
        secure: Whether the client speaks TLS.
    """
    code = error.code()
    details = error.details() or ""
    status = _status(error)
    if status is None and code is grpc.StatusCode.UNAVAILABLE:
        trust = (
            "check the authority (--tls-ca), the name in the service's certificate, and the client's own certificate"
        )
        if any(word in details.lower() for word in _TLS_WORDS):
            return ServiceUnreachable(f"the service at {address} and this client do not trust one another: {trust}")
        if secure:  # a server that wants a certificate may just hang up
            return ServiceUnreachable(
                f"no nearvote service answers at {address}, or it and this client do not trust one another: {trust}"
            )
        return ServiceUnreachable(
            f"no nearvote service answers at {address}: start one with `nearvote serve`; one with TLS takes --tls-ca"
        )
    reason = field = ""
    retry_seconds = None
    for packed in status.details if status else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif packed.Unpack(retry):
            retry_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return ServiceError(code.name, reason, details, field, retry_seconds=retry_seconds)


def error_of_item(error: error_pb2.Error) -> ServiceError:
    """What an error of one item of a stream means."""
    code = next((code.name for code in grpc.StatusCode if code.value[0] == error.code), "UNKNOWN")
    message = f"{error.field}: {error.message}" if error.field else error.message
    return ServiceError(code, error.reason, message, error.field)


def _status(error: FailedCall) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return None
