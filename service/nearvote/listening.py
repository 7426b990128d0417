"""Where the service listens: for calls, and for who reads its metrics."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable

import grpc
from prometheus_client import CollectorRegistry, start_http_server

from nearvote.startup_errors import InvalidSetting

_CERTAIN = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}
_TAKEN = "it is taken, or not this machine's"


def check_free(address: str, metrics_address: str) -> None:
    """Says early what would be said else once an encoder is loaded, which may take minutes.

    Args:
        address: Where calls are to come: host:port, or unix:path, which only gRPC can tell of.
        metrics_address: Where metrics are to be read: host:port, or `off`.

    Raises:
        InvalidSetting: One of them is taken, or not this machine's, or both are the same.
    """
    with contextlib.ExitStack() as held:  # the first while the second is tried
        if not address.startswith("unix:") and (why := _why_not(address, held)):
            raise _not_for_calls(address, why)
        if metrics_address != "off" and (why := _why_not(metrics_address, held)):
            raise _not_for_metrics(metrics_address, why)


def listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    """Has a server listen.

    Raises:
        InvalidSetting: The address is taken, or not this machine's.
    """
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError:
        raise _not_for_calls(address, _TAKEN) from None


def serve_metrics(address: str, registry: CollectorRegistry) -> Callable[[], None]:
    """Serves metrics to Prometheus at host:port, or nowhere if `off`, until what is returned is called.

    Raises:
        InvalidSetting: The address is taken, or not this machine's.
    """
    stack = contextlib.ExitStack()
    if address == "off":
        return stack.close
    host, port = _split(address)
    try:
        http, _ = start_http_server(port, host, registry)
    except (OSError, UnicodeError):
        raise _not_for_metrics(address, _TAKEN) from None
    stack.callback(http.server_close)
    stack.callback(http.shutdown)
    return stack.close


def _why_not(address: str, held: contextlib.ExitStack) -> str:
    """Why nobody can listen there, if that is certain; else empty, and a socket may be held that does."""
    host, port = _split(address)
    why = ""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, where in found:  # one of a name's addresses is enough for gRPC
            try:
                both = family == socket.AF_INET6  # as gRPC does: [::] takes what comes by IPv4, too
                held.enter_context(socket.create_server(where, family=family, dualstack_ipv6=both))
            except OSError as error:
                if error.errno not in _CERTAIN:
                    return ""
                why = os.strerror(error.errno)
            else:
                return ""
    except (OSError, ValueError):  # no name of a machine, or no such family: who listens says so
        return ""
    return why


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _not_for_calls(address: str, why: str) -> InvalidSetting:
    return InvalidSetting(
        f"{address} can't be listened on ({why}): name another with --address",
        field="address",
    )


def _not_for_metrics(address: str, why: str) -> InvalidSetting:
    return InvalidSetting(
        f"{address} can't be listened on ({why}): name another with --metrics-address, or `off`",
        field="metrics_address",
    )
