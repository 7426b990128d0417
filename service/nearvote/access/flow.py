"""Whose turn it is: what shares a bounded place fairly between those who fill it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Flow:
    """The calls of one client.

    Attributes:
        key: Who it is: the name of its key, or the host that it calls from.
        waits: Whether it is held back where there is no room, as a stream can be, or else refused.
    """

    key: str = ""
    waits: bool = True


# Of the call that is being handled. What is done without a call waits for its turn.
FLOW: ContextVar[Flow] = ContextVar("flow", default=Flow())  # noqa: B039 - it is frozen


@contextmanager
def held_back() -> Iterator[None]:
    """Tasks started in here are held back where there is no room, whatever the call that they are of would be."""
    token = FLOW.set(replace(FLOW.get(), waits=True))
    try:
        yield
    finally:
        FLOW.reset(token)


class Shares:
    """A place of limited size, of which nobody gets so much that another gets nothing.

    A flow may have as much as is free: one alone half of the place, two a third each. So there is always room for
    one that comes anew, however much the others want. (Dynamic thresholds: Choudhury and Hahne, "Dynamic queue length
    thresholds for shared-memory packet switches", 1998, with their factor 1.) What has nothing there yet may bring a
    piece larger than its share; it counts for no more than that against the others.

    Args:
        limit: The place's size, above 0.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How much of the place is taken; for a while more than there is, where one had more before others came."""
        return sum(self._taken.values())

    def take(self, key: str, size: int) -> bool:
        """Takes a part of the place for a flow. Returns whether there was room."""
        own = self._taken[key]
        if not own and len(self._taken) >= self.limit:
            return False
        share = self.limit / (len(self._taken) + 1)
        free = self.limit - sum(min(taken, share) for taken in self._taken.values())
        if own and own + size > free:
            return False
        self._taken[key] = own + size
        return True

    def give(self, key: str, size: int) -> None:
        """Gives back what was taken."""
        self._taken[key] -= size
        if self._taken[key] <= 0:
            del self._taken[key]
