"""Who calls."""

from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nearvote.access.caller import Caller

if TYPE_CHECKING:
    import grpc

# Quoted: the class takes no parameters while the program runs, only in its stubs.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Of the call that is being handled: what the interceptor set, seen by all tasks that the call starts.
CALLER: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039 - it is frozen


def caller(context: Context) -> Caller:
    """Who calls, with the address that the call came from."""
    known = CALLER.get()
    return known if known.address else replace(known, address=context.peer())


def tenant() -> str:
    """The tenant of the call that is being handled."""
    return CALLER.get().tenant
