"""What holds of keys, certificates and addresses, whatever comes."""

import base64
import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearvote.access.attempts import host_of
from nearvote.access.caller import Role
from nearvote.access.key_file import change_keys, read_keys
from nearvote.access.keys import Entry, KeyRing, id_of, new_key
from nearvote.access.validity import not_after
from nearvote.startup_errors import InvalidSetting

KEY, ENTRY = new_key("ops", Role.ADMIN, "acme")
RING = KeyRing([ENTRY])

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
TENANTS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True)
COMMON_NAMES = st.text(min_size=1, max_size=64).filter(str.isprintable)


@given(st.one_of(st.text(), st.text(alphabet="nearvot_0123456789abcdef"), st.from_regex(r"nearvote_[0-9a-f]{8}_.*")))
def test_no_other_text_is_a_key(text: str) -> None:
    """Whatever is sent as a key is nobody's, unless it is one; nothing is raised."""
    assert (RING.of_key(text) is not None) == (text == KEY)
    assert id_of(text) == "" or id_of(text) in text


@given(st.binary())
def test_a_broken_file_is_refused_in_words(content: bytes) -> None:
    """Whatever bytes are in the file, it is read, or refused as a setting that can't be right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.toml"
        path.write_bytes(content)
        with contextlib.suppress(InvalidSetting):
            read_keys(path)


@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(Role), TENANTS, COMMON_NAMES), max_size=5))
def test_what_is_written_is_read(callers: dict[str, tuple[Role, str, str]]) -> None:
    """Any entries that can be right come back as they were; others are refused before they are written."""
    entries = [
        Entry(name, role, tenant, certificate=common_name) for name, (role, tenant, common_name) in callers.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.toml"
        if len({entry.certificate for entry in entries}) < len(entries):
            with pytest.raises(InvalidSetting):
                change_keys(path, lambda _: entries)
            assert not path.exists()
        else:
            change_keys(path, lambda _: entries)
            assert list(read_keys(path).entries) == entries


@given(st.text())
def test_any_peer_has_a_host(peer: str) -> None:
    """Whatever gRPC calls a peer, it is one host, and nothing is raised."""
    assert host_of(peer) == host_of(peer)


@given(st.ip_addresses(v=4), st.integers(0, 65_535), st.integers(0, 65_535))
def test_ports_do_not_count(address: object, one: int, other: int) -> None:
    """An address is the same host from whichever port."""
    assert host_of(f"ipv4:{address}:{one}") == host_of(f"ipv4:{address}:{other}") == str(address)


@given(st.binary())
def test_a_certificate_of_any_bytes_is_read_or_refused(encoded: bytes) -> None:
    """Whatever stands where a certificate should, it has an end, or is refused as a wrong value."""
    body = base64.b64encode(encoded)
    with contextlib.suppress(ValueError):
        not_after(b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n")
