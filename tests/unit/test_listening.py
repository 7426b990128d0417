"""Where the service may listen, told before it has loaded anything."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from nearvote.listening import check_free
from nearvote.startup_errors import InvalidSetting
from tests.integration.server import free_port


def listening(host: str, port: int = 0) -> socket.socket:
    """A socket that somebody else listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on, at 127.0.0.1."""
    with closing(listening("127.0.0.1")) as other:
        yield int(other.getsockname()[1])


def test_free_ports_are_let_go() -> None:
    """What is tried is free afterwards; what is not to be tried is not."""
    ports = free_port(), free_port()
    for _ in range(2):
        check_free(f"127.0.0.1:{ports[0]}", f"localhost:{ports[1]}")
    check_free("unix:/nowhere/at/all", "off")


def test_a_port_that_is_taken(taken: int) -> None:
    """Either address that is taken is named, with what to set instead."""
    free = f"127.0.0.1:{free_port()}"
    with pytest.raises(InvalidSetting, match=rf"127\.0\.0\.1:{taken} .*in use.* --address") as caught:
        check_free(f"127.0.0.1:{taken}", free)
    assert caught.value.field == "address"
    with pytest.raises(InvalidSetting, match=rf"127\.0\.0\.1:{taken} .*in use.* --metrics-address") as caught:
        check_free(free, f"127.0.0.1:{taken}")
    assert caught.value.field == "metrics_address"


def test_both_on_one_port() -> None:
    """Calls and metrics can't come to the same address."""
    same = f"127.0.0.1:{free_port()}"
    with pytest.raises(InvalidSetting, match="--metrics-address"):
        check_free(same, same)


def test_an_address_of_another_machine() -> None:
    """An address that no network card of this machine has is refused."""
    with pytest.raises(InvalidSetting, match="assign"):
        check_free("192.0.2.1:50051", "off")


def test_what_only_the_listener_can_tell() -> None:
    """A name that is nobody's, and one that can't be any, are left to who listens."""
    check_free("nobody.invalid:50051", f"{'a' * 80}.example:9464")


def test_all_addresses_by_ipv6(taken: int) -> None:
    """[::] is for IPv4, too, so a port that is taken there is not free; and one of a name's addresses is enough."""
    try:
        listening("::1").close()
    except OSError:
        pytest.skip("no IPv6 here")
    with pytest.raises(InvalidSetting, match="in use"):
        check_free(f"[::]:{taken}", "off")
    with closing(listening("::1")) as other:
        port = other.getsockname()[1]
        check_free(f"localhost:{port}", "off")
        with pytest.raises(InvalidSetting, match="in use"):
            check_free(f"[::1]:{port}", "off")
