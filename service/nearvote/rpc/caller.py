"""Who calls."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import grpc

# Quoted: the class takes no parameters while the program runs, only in its stubs.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
