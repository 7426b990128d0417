"""How long whoever asked will wait: set where a call comes in, read where something is waited for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# In seconds of time.monotonic; None for nobody who waits.
_DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)

# An answer that says what went wrong is to arrive before the caller gives up.
_SHARE = 0.8


def set_deadline(seconds: float | None) -> None:
    """From here on, and in all tasks started from here, somebody waits for so many seconds; None for without end."""
    _DEADLINE.set(None if seconds is None else time.monotonic() + seconds)


@contextmanager
def no_deadline() -> Iterator[None]:
    """Tasks started in here go on when the caller has given up."""
    token = _DEADLINE.set(None)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def within_deadline(seconds: float) -> float:
    """So many seconds, or fewer: what leaves the caller's answer a fifth of the time that remains. Never below 0."""
    deadline = _DEADLINE.get()
    return seconds if deadline is None else max(0.0, min(seconds, _SHARE * (deadline - time.monotonic())))
