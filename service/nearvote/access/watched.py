"""What is read from files, and read again whenever they have changed."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from nearvote.errors import NearvoteError

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Watched(Generic[_T]):
    """What is in files now. While they can't be read, what was in them before. Safe to share between threads.

    Args:
        what: What it is, for the log.
        paths: The files.
        read: Reads them.

    Raises:
        NearvoteError: `read` did: at first there is no former state to keep.
    """

    def __init__(self, what: str, paths: Sequence[Path], read: Callable[[], _T]) -> None:
        self._what = what
        self._paths = paths
        self._read = read
        self._lock = threading.Lock()
        self._stamp = self._present_stamp()
        self._value = read()

    def __call__(self) -> _T:
        """The present state. Looks at the files' times, and reads them only when these have changed."""
        with self._lock:
            stamp = self._present_stamp()
            if stamp != self._stamp:
                self._stamp = stamp  # first: what changes while it is read is read once more
                try:
                    self._value = self._read()
                    _log.info("reloaded", what=self._what)
                except NearvoteError as error:
                    _log.error("not_reloaded", what=self._what, error=error.message, serving="the former ones")
            return self._value

    def _present_stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp_of, self._paths))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
