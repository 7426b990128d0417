"""Who is let in, and how failed attempts are counted."""

from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from nearvote.access.attempts import _MAX_ADDRESSES, Attempts, host_of
from nearvote.access.caller import DEFAULT_TENANT, Caller, Role
from nearvote.access.exposure import check_exposure, is_local
from nearvote.access.gate import Credentials, Gate
from nearvote.access.keys import Entry, KeyRing, new_key
from nearvote.access.watched import Watched
from nearvote.errors import CredentialsMissing, CredentialsUnknown, PermissionDenied, TooManyAttempts
from nearvote.startup_errors import InvalidSetting
from tests.conftest import FakeClock

KEY, ENTRY = new_key("desk", Role.CURATE, "acme")
MAIL = Entry("mail", Role.CLASSIFY, "globex", certificate="mail.example")
HERE = "ipv4:192.0.2.1:50123"


class Watcher:
    """A gate, and what it was told."""

    def __init__(self, clock: FakeClock, ring: KeyRing | None, *, certificates: bool = False) -> None:
        self.denied: Counter[str] = Counter()
        self.gate = Gate(
            (lambda: ring) if ring else None,
            certificates=certificates,
            attempts=Attempts(clock.monotonic),
            denied=lambda reason: self.denied.update([reason]),
        )

    def admit(self, *authorization: str, name: str = "", needed: Role | None = Role.CLASSIFY, at: str = HERE) -> Caller:
        return self.gate.admit(Credentials(authorization, name, at), needed, "Classify")


@pytest.fixture
def keyed(clock: FakeClock) -> Watcher:
    """A gate that knows a key and a certificate."""
    return Watcher(clock, KeyRing([ENTRY, MAIL]), certificates=True)


def test_where_nothing_is_asked_everybody_is_the_owner(clock: FakeClock) -> None:
    """Without keys and certificates a caller may do everything, for the default tenant."""
    assert Watcher(clock, None).admit(needed=Role.ADMIN) == Caller(DEFAULT_TENANT, Role.ADMIN, "", HERE)


def test_a_key_says_who_calls(keyed: Watcher) -> None:
    """A key leads to its entry's name, role and tenant, also when a certificate is shown with it."""
    expected = Caller("acme", Role.CURATE, "desk", HERE)
    assert keyed.admit(f"Bearer {KEY}") == keyed.admit(f"bearer {KEY} ", name="mail.example") == expected


def test_a_certificate_says_who_calls(keyed: Watcher) -> None:
    """Where no key is sent, the certificate's common name leads to its entry."""
    assert keyed.admit(name="mail.example") == Caller("globex", Role.CLASSIFY, "mail", HERE)
    with pytest.raises(CredentialsUnknown, match="nearvote keys create --certificate"):
        keyed.admit(name="nobody.example")


def test_a_certificate_alone_may_classify(clock: FakeClock) -> None:
    """Without a file of keys, a certificate's authority vouches for who calls, and the role is the least."""
    alone = Watcher(clock, None, certificates=True)
    assert alone.admit(name="mail.example") == Caller(DEFAULT_TENANT, Role.CLASSIFY, "mail.example", HERE)
    with pytest.raises(PermissionDenied):
        alone.admit(name="mail.example", needed=Role.CURATE)
    with pytest.raises(CredentialsUnknown):
        alone.admit(name="")


@pytest.mark.parametrize(
    "shown", [("Bearer wrong",), (KEY,), (f"Basic {KEY}",), (f"Bearer {KEY}", f"Bearer {KEY}"), ("",), ("Bearer",)]
)
def test_a_wrong_key_is_not_passed_over(keyed: Watcher, shown: tuple[str, ...]) -> None:
    """What is sent as a key and is none is refused, whatever certificate comes with it."""
    with pytest.raises(CredentialsUnknown):
        keyed.admit(*shown, name="mail.example")


def test_roles(keyed: Watcher) -> None:
    """Each role may do what those before it may; what has no rule nobody may."""
    keyed.admit(f"Bearer {KEY}", needed=Role.CURATE)
    with pytest.raises(PermissionDenied, match="role admin, and the caller's is curate"):
        keyed.admit(f"Bearer {KEY}", needed=Role.ADMIN)
    with pytest.raises(PermissionDenied, match="no rule"):
        keyed.admit(f"Bearer {KEY}", needed=None)


def test_failed_attempts_are_limited_by_address(keyed: Watcher, clock: FakeClock) -> None:
    """After ten failures an address is told to wait; others are not, nor who comes from there with a right key."""
    for _ in range(10):
        with pytest.raises(CredentialsUnknown):
            keyed.admit("Bearer wrong")
    with pytest.raises(TooManyAttempts, match="try again in 6 s") as caught:
        keyed.admit("Bearer wrong", at="ipv4:192.0.2.1:50999")
    assert caught.value.retry_seconds == 6
    with pytest.raises(TooManyAttempts):
        keyed.admit()
    with pytest.raises(CredentialsMissing):
        keyed.admit(at="ipv4:192.0.2.2:50123")
    assert keyed.admit(f"Bearer {KEY}").name == "desk"
    clock.advance(6)
    with pytest.raises(CredentialsUnknown):
        keyed.admit("Bearer wrong")
    with pytest.raises(TooManyAttempts):
        keyed.admit("Bearer wrong")


def test_refusals_are_counted_and_logged_without_the_key(keyed: Watcher) -> None:
    """Each refusal is counted by its reason; the log has the key's readable part, and no more than the limit."""
    wrong, _ = new_key("x", Role.ADMIN, "acme")
    with capture_logs() as logs:
        for _ in range(50):
            with pytest.raises((CredentialsUnknown, TooManyAttempts)):
                keyed.admit(f"Bearer {wrong}")
        with pytest.raises(PermissionDenied):
            keyed.admit(f"Bearer {KEY}", needed=Role.ADMIN)
    assert keyed.denied == {"CREDENTIALS_UNKNOWN": 10, "TOO_MANY_ATTEMPTS": 40, "PERMISSION_DENIED": 1}
    assert [log["reason"] for log in logs] == ["CREDENTIALS_UNKNOWN"] * 10 + ["PERMISSION_DENIED"]
    assert logs[0]["key_id"] == wrong.split("_")[1]
    assert wrong.split("_")[2] not in str(logs)
    assert KEY.split("_")[2] not in str(logs)


def test_memory_of_attempts_is_bounded(clock: FakeClock) -> None:
    """However many addresses fail, so many are remembered; who has waited long enough is forgotten."""
    attempts = Attempts(clock.monotonic)
    for i in range(3 * _MAX_ADDRESSES):
        attempts.failed(f"host-{i}")
    assert len(attempts._full_at) == _MAX_ADDRESSES
    clock.advance(7)
    attempts.failed("one more")
    assert list(attempts._full_at) == ["one more"]


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:192.0.2.1:50123", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50123", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:50123", "192.0.2.1"),
        ("unix:/run/nearvote.sock", "unix"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_a_host_is_a_peer_without_its_port(peer: str, host: str) -> None:
    """The port changes with each connection and does not count; an IPv6 network is one host."""
    assert host_of(peer) == host


LOCAL = ["127.0.0.1:1", "127.8.9.10:1", "localhost:1", "[::1]:1", "unix:/run/nearvote.sock"]
OTHER = ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "nearvote.example:1", "localhost.example:1", "127.1:1", "*:1"]


@pytest.mark.parametrize("address", LOCAL)
def test_this_machine_may_call_without_a_word(address: str) -> None:
    """On loopback and on a socket in the file system nothing needs to be asked."""
    assert is_local(address)
    check_exposure(address, keys=False, tls=False, certificates=False)
    check_exposure(address, keys=True, tls=False, certificates=False)


@pytest.mark.parametrize("address", OTHER)
def test_other_machines_are_asked_who_they_are(address: str) -> None:
    """Elsewhere it takes keys that nobody can read on the way, or certificates; an unknown name counts as elsewhere."""
    for tls in (False, True):
        with pytest.raises(InvalidSetting, match="anybody could call"):
            check_exposure(address, keys=False, tls=tls, certificates=False)
    with pytest.raises(InvalidSetting, match="in the clear"):
        check_exposure(address, keys=True, tls=False, certificates=False)
    check_exposure(address, keys=True, tls=True, certificates=False)
    check_exposure(address, keys=False, tls=True, certificates=True)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        raise InvalidSetting("no number") from None


def test_files_are_read_when_they_change(tmp_path: Path) -> None:
    """What is in a file counts from the next look on; while it is broken or gone, what was in it before does."""
    path = tmp_path / "number"
    path.write_text("1")
    reads = []
    watched = Watched("number", [path], lambda: reads.append(1) or _number(path))  # type: ignore[func-returns-value]
    assert [watched(), watched()] == [1, 1]
    assert len(reads) == 1
    path.write_text("22")
    assert watched() == 22
    with capture_logs() as logs:
        path.write_text("broken")
        assert [watched(), watched()] == [22, 22]
        path.unlink()
        assert [watched(), watched()] == [22, 22]
        path.write_text("333")
        assert watched() == 333
    assert [log["event"] for log in logs] == ["not_reloaded", "not_reloaded", "reloaded"]


def test_broken_files_are_refused_at_first(tmp_path: Path) -> None:
    """At the start there is no former state to keep."""
    with pytest.raises(InvalidSetting):
        Watched("number", [tmp_path / "number"], lambda: _number(tmp_path / "number"))
