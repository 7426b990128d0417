"""Where the service may listen, by what it asks of callers."""

import ipaddress

from nearvote.startup_errors import InvalidSetting


def check_exposure(address: str, *, keys: bool, tls: bool, certificates: bool) -> None:
    """Checks that other machines are asked who calls, and that their keys are not read on the way.

    Args:
        address: Where the service is to listen: host:port, or unix:path.
        keys: Whether it asks for keys.
        tls: Whether it speaks TLS.
        certificates: Whether it asks for client certificates.

    Raises:
        InvalidSetting: Anybody could call, or read keys.
    """
    if is_local(address) or certificates or (keys and tls):
        return
    problem = (
        "keys would travel in the clear: set tls_cert and tls_key"
        if keys
        else "anybody could call there: set api_keys, or tls_client_ca, or listen on 127.0.0.1"
    )
    raise InvalidSetting(
        f"{address} can be reached from other machines, and {problem}; allow_insecure=true where something before the "
        "service sees to that",
        field="address",
    )


def is_local(address: str) -> bool:
    """Whether an address can only be reached from this machine. A name other than `localhost` could be any address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
