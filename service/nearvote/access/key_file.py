"""The file of API keys: TOML, with hashes in place of keys."""

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from nearvote.access.caller import Role
from nearvote.access.keys import Entry, KeyRing
from nearvote.startup_errors import InvalidSetting

_HEAD = "# Written by `nearvote keys`, which keeps no comments. Of each key there is only its hash.\n"
_FIELDS = tuple(field.name for field in fields(Entry))
ROLE_NAMES = tuple(role.name.lower() for role in Role)


def read_keys(path: Path) -> KeyRing:
    """Reads the file.

    Raises:
        InvalidSetting: It can't be read, is not TOML, or an entry can't be right.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSetting(
            f"{path} can't be read ({error.strerror}): make it with `nearvote keys create`", field="api_keys"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"{path} is not TOML: {error}", field="api_keys") from None
    found = document.get("key", [])
    if document.keys() - {"key"} or not isinstance(found, list):
        raise InvalidSetting(f"{path} has [[key]] tables and nothing else", field="api_keys")
    entries = [_entry(path, number, table) for number, table in enumerate(found, 1)]
    try:
        return KeyRing(entries)
    except InvalidSetting as error:
        raise InvalidSetting(f"{path}: {error.message}", field="api_keys") from None


def change_keys(path: Path, change: Callable[[tuple[Entry, ...]], Iterable[Entry]]) -> None:
    """Writes the file anew, with entries changed: all of them or, when something fails, none. Others wait meanwhile.

    Args:
        path: The file; it is made, for its owner alone, when there is none.
        change: Gets the present entries and returns those that are to be.

    Raises:
        InvalidSetting: The file can't be read or written, or an entry can't be right.
    """
    # The one that a link leads to; a link in its place would be lost.
    path = path.resolve()
    try:
        with _locked(path.parent):
            present = read_keys(path).entries if path.exists() else ()
            _replace(path, KeyRing(change(present)).entries)
    except OSError as error:
        raise InvalidSetting(f"{path} can't be written: {error.strerror}", field="api_keys") from None


def _entry(path: Path, number: int, table: Any) -> Entry:
    where = f"{path}, entry {number}"
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise InvalidSetting(f"{where}: every field is a string", field="api_keys")
    if unknown := table.keys() - set(_FIELDS):
        raise InvalidSetting(f"{where}: there is no field {min(unknown)!r}", field="api_keys")
    if table.get("role") not in ROLE_NAMES or "name" not in table:
        raise InvalidSetting(f"{where}: it needs a name, and a role of {', '.join(ROLE_NAMES)}", field="api_keys")
    entry = Entry(**{**table, "role": Role[table["role"].upper()]})
    try:
        entry.check()
    except InvalidSetting as error:
        raise InvalidSetting(f"{where}: {error.message}", field="api_keys") from None
    return entry


def _dumped(entry: Entry) -> str:
    values = {name: getattr(entry, name) for name in _FIELDS} | {"role": entry.role.name.lower()}
    # A JSON string of printable characters is a TOML string.
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value]
    return "\n".join(["", "[[key]]", *lines, ""])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)  # the new name of the file is kept too
    finally:
        os.close(handle)


def _replace(path: Path, entries: Iterable[Entry]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable by its owner alone
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():  # who could read it can still: a service that can't would go on with revoked keys
                former = path.stat()
                os.fchmod(file.fileno(), stat.S_IMODE(former.st_mode))
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), former.st_uid, former.st_gid)
            file.write(_HEAD + "".join(map(_dumped, entries)))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
