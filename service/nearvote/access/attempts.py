"""Failed attempts to call, by address: how many there were lately."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

_MAX_ADDRESSES = 10_000  # that are remembered: about 2 MB
_ALLOWED = 10  # at once
_SECONDS_EACH = 6.0  # until one more is allowed


class Attempts:
    """Counts failed attempts by address.

    Each address may fail a few times at once, and then once in a while. Addresses are forgotten when they may fail as
    often again as one that never did, or when too many others came after them.

    Args:
        monotonic: A clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when all is forgiven; the last to fail at the end

    def failed(self, host: str) -> float:
        """Notes a failed attempt.

        Args:
            host: Where it came from, as `host_of` gives it.

        Returns:
            0 while the address may fail; else how long it should wait, in seconds.
        """
        now = self._monotonic()
        full_at = max(self._full_at.pop(host, now), now) + _SECONDS_EACH
        wait_seconds = full_at - now - _ALLOWED * _SECONDS_EACH
        # Attempts beyond those allowed are not added up, so that nobody is shut out for longer than the others take.
        self._full_at[host] = full_at if wait_seconds <= 0 else full_at - _SECONDS_EACH
        while self._full_at and (len(self._full_at) > _MAX_ADDRESSES or next(iter(self._full_at.values())) <= now):
            self._full_at.popitem(last=False)
        return max(0.0, wait_seconds)


@lru_cache(_MAX_ADDRESSES)  # of each call it is asked, and a connection has many: reading an address takes longer
def host_of(peer: str) -> str:
    """The host of a peer as gRPC writes it, such as `ipv4:192.0.2.1:50123`; of IPv6 the network of 64 bits.

    One machine has 2**64 addresses in its IPv6 network. What is no IP address is one host.
    """
    kind, _, rest = peer.partition(":")
    try:
        address = ipaddress.ip_address(unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return kind
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
