"""nearvote labels messages by the vote of their nearest neighbours."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearvote.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    # On demand: the parts of the service are imported without gRPC, and the clients without the service.
    if name in __all__:
        from nearvote import client  # noqa: PLC0415

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
