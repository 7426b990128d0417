"""Whether a disk can be written to: asked before each write, since the embedded engine can't be told to fail gently.

Its files are mapped into memory and have holes. Where the operating system has no room to fill one it sends SIGBUS,
which ends the process in the middle of whatever it was doing.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearvote.errors import StoreFull, StoreReadOnly, StoreUnavailable

_MIB = 2**20
_UNTIL_MENDED = "nothing is stored until that is mended; predictions go on"
_OPENING_SHARE = 4  # opening writes less than serving may


class Disk:
    """The disk that a folder is on.

    Args:
        folder: The folder.
        lock: An open file in it, in which the process writes its id. It is written again each time, since a disk that
            the system has stopped writing to after an error need not say that it is read-only.
        min_free_bytes: Room that a write leaves alone. More than any one write takes, and than others are likely to
            take while one is made.
    """

    def __init__(self, folder: Path, lock: int, min_free_bytes: int) -> None:
        self._folder = folder
        self._lock = lock
        self._min_free_bytes = min_free_bytes

    def check_writing(self) -> None:
        """Raises when nothing should be written. Takes some microseconds.

        Raises:
            StoreFull: There is too little room.
            StoreReadOnly: It can't be written to any more.
        """
        self._check(self._min_free_bytes, _UNTIL_MENDED)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Where files are moved or deleted: what the system says to it is told as `check_writing` tells it.

        Raises:
            StoreFull, StoreReadOnly: It could not be done.
        """
        try:
            yield
        except OSError as error:
            raise self._refused(error, _UNTIL_MENDED) from error

    def check_opening(self) -> None:
        """Raises when the folder should not even be opened.

        Raises:
            StoreFull: There is too little room.
            StoreReadOnly: It can't be written to.
        """
        self._check(self._min_free_bytes // _OPENING_SHARE, "mend that, and start again")

    def _check(self, least_bytes: int, next_: str) -> None:
        try:
            found = os.statvfs(self._folder)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise self._refused(error, next_) from error
        free = found.f_bavail * found.f_frsize
        if free < least_bytes:
            raise StoreFull(
                f"{self._folder} has {free // _MIB} MiB of room, and {least_bytes // _MIB} are kept free "
                f"(min_free_disk_mib): {next_}"
            )

    def _refused(self, error: OSError, next_: str) -> StoreUnavailable:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreFull(f"{self._folder} has no room at all: {next_}")
        return StoreReadOnly(
            f"{self._folder} can't be written to ({error.strerror}): look into the system's log for why; {next_}"
        )
