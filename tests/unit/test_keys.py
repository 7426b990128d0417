"""API keys, and the file that has their hashes."""

import stat
import threading
from pathlib import Path

import pytest

from nearvote.access.caller import Role
from nearvote.access.key_file import change_keys, read_keys
from nearvote.access.keys import Entry, KeyRing, id_of, new_key
from nearvote.startup_errors import InvalidSetting

_HASH = "a" * 64


def test_a_key_is_known_by_its_whole() -> None:
    """A key is its owner's; one with another secret, without its last character, or with one more is nobody's."""
    key, entry = new_key("ops", Role.ADMIN, "acme")
    other, _ = new_key("ops", Role.ADMIN, "acme")
    ring = KeyRing([entry])
    assert ring.of_key(key) == entry
    start = key[: len("nearvote_12345678_")]
    for wrong in (
        start + other[len(start) :],
        key[:-1],
        key + "0",
        key + "0" * 500,
        key.upper(),
        other,
        "",
        "é",
        start,
    ):
        assert ring.of_key(wrong) is None, wrong


def test_a_key_has_256_bits_and_a_readable_beginning() -> None:
    """A key begins with the name of the service and its id; its entry has neither it nor its secret."""
    key, entry = new_key("ops", Role.ADMIN, "acme")
    name, id_, secret = key.split("_")
    assert (name, id_, len(bytes.fromhex(secret))) == ("nearvote", entry.id, 32)
    assert id_of(key) == entry.id
    assert secret not in repr(entry)
    assert len({new_key("ops", Role.ADMIN, "acme")[0] for _ in range(100)}) == 100


def test_a_certificate_is_known_by_its_name() -> None:
    """A common name is its entry's, and never a key's; no name is nobody's."""
    mail = Entry("mail", Role.CLASSIFY, "acme", certificate="mail.example")
    ring = KeyRing([mail, new_key("ops", Role.ADMIN, "globex")[1]])
    assert ring.of_certificate("mail.example") == mail
    assert ring.of_certificate("ops") is None
    assert ring.of_certificate("") is None
    assert ring.tenants == {"acme", "globex"}


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", "a\nb", "-a", "a" * 65, "ä", "a b", "a\n"])
def test_tenants_names_are_checked(tenant: str) -> None:
    """A tenant's name is of few characters, so that it can't run into what stands beside it."""
    with pytest.raises(InvalidSetting, match="tenant"):
        Entry("ops", Role.ADMIN, tenant, "12345678", _HASH).check()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Entries come back as they were, in their order; the file is its owner's alone, and has no key in it."""
    path = tmp_path / "keys.toml"
    key, first = new_key("ops", Role.ADMIN, "acme")
    second = Entry("mail", Role.CLASSIFY, certificate='a "quoted\\ name', created="2026-11-21")
    change_keys(path, lambda present: (*present, first))
    change_keys(path, lambda present: (*present, second))
    assert read_keys(path).entries == (first, second)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.split("_")[2] not in path.read_text()
    change_keys(path, lambda present: present[1:])
    assert read_keys(path).entries == (second,)


def test_who_could_read_the_file_still_can(tmp_path: Path) -> None:
    """A change keeps the file's permissions: a service of another user goes on reading it."""
    path = tmp_path / "keys.toml"
    change_keys(path, lambda _: [])
    path.chmod(0o640)
    change_keys(path, lambda _: [new_key("ops", Role.ADMIN, "acme")[1]])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    """When an entry can't be right, the file stays as it was, and nothing else is left in the folder."""
    path = tmp_path / "keys.toml"
    _, entry = new_key("ops", Role.ADMIN, "acme")
    change_keys(path, lambda _: [entry])
    before = path.read_bytes()
    for wrong in ([entry, entry], [Entry("", Role.ADMIN)]):
        with pytest.raises(InvalidSetting):
            change_keys(path, lambda _, wrong=wrong: wrong)  # type: ignore[misc]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_changes_at_once_all_count(tmp_path: Path) -> None:
    """Keys that are created at the same time are all in the file afterwards."""
    path = tmp_path / "keys.toml"
    entries = [new_key(f"caller-{i}", Role.CLASSIFY, "acme")[1] for i in range(16)]
    threads = [
        threading.Thread(target=change_keys, args=(path, lambda present, entry=entry: (*present, entry)))
        for entry in entries
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read_keys(path).entries) == set(entries)


def test_a_link_stays_one(tmp_path: Path) -> None:
    """A file that is reached by a link is written where it is."""
    path, link = tmp_path / "real" / "keys.toml", tmp_path / "keys.toml"
    path.parent.mkdir()
    link.symlink_to(path)
    change_keys(link, lambda _: [new_key("ops", Role.ADMIN, "acme")[1]])
    assert link.is_symlink()
    assert len(read_keys(path).entries) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[[key]", "not TOML"),
        (b"\xff", "not TOML"),
        (b"a = " + b"[" * 5_000, "not TOML"),
        (b"key = 1", r"\[\[key\]\]"),
        (b"[[keys]]\nname = 'a'", r"\[\[key\]\]"),
        (b"[[key]]\nname = 'a'\nrole = 'boss'", "entry 1: it needs"),
        (b"[[key]]\nrole = 'admin'", "entry 1: it needs"),
        (b"[[key]]\nname = 'a'\nrole = 'admin'", "entry 1: a key has"),
        (b"[[key]]\nname = 'a'\nrole = 'admin'\nid = '12345678'\nsha256 = 'short'", "entry 1: a key has"),
        (b"[[key]]\nname = 'a'\nrole = 'admin'\nsecret = 'x'", "no field 'secret'"),
        (b"[[key]]\nname = 1\nrole = 'admin'", "a string"),
        (b"[[key]]\nname = 'a'\nrole = 'admin'\ncertificate = 'c'\nid = '12345678'", "not of both"),
        (b"[[key]]\nname = 'a'\nrole = 'admin'\ncertificate = 'c'\ntenant = 'A'", "tenant"),
        (
            b"".join(b"[[key]]\nname = '%b'\nrole = 'admin'\ncertificate = 'c'\n" % name for name in (b"a", b"b")),
            "two entries",
        ),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that can't be right is refused whole, by its path and what is wrong in it."""
    path = tmp_path / "keys.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidSetting, match=said) as caught:
        read_keys(path)
    assert str(path) in caught.value.message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """Where there is no file, the refusal names the command that makes one."""
    with pytest.raises(InvalidSetting, match="nearvote keys create"):
        read_keys(tmp_path / "keys.toml")
    with pytest.raises(InvalidSetting, match="can't be written"):
        change_keys(tmp_path / "nowhere" / "keys.toml", lambda present: present)
