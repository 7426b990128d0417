"""Folders for what appears in a cache whole or not at all."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "scratch-"
_LEFT_SECONDS = 3600.0  # what is so old nobody works on any more


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """A folder for a draft, on the same file system as what it is to become.

    Args:
        folder: Where; made when it is not there.

    Yields:
        The new folder, which goes with all that is still in it.

    Raises:
        OSError: The folder can't be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as scratch:
        yield Path(scratch)


def clear_scratch(folder: Path) -> None:
    """Deletes what processes that were killed have left, an hour ago or earlier; nothing happens where it can't be."""
    for scratch in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(scratch, ignore_errors=True)
