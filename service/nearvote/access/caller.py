"""Who calls, and for whom."""

from dataclasses import dataclass
from enum import IntEnum

DEFAULT_TENANT = "default"  # whose everything is while keys name no tenant


class Role(IntEnum):
    """What a caller may do; each role may do what those before it may."""

    CLASSIFY = 1
    CURATE = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        tenant: Whose tasks and examples are read and written.
        role: What the caller may do.
        name: What the caller's key or certificate is called; empty where neither is asked for.
        address: Where the call comes from, as gRPC writes it; empty where it is not known.
    """

    tenant: str = DEFAULT_TENANT
    role: Role = Role.ADMIN
    name: str = ""
    address: str = ""
