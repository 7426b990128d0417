"""What the registry asks before and after a write: whether its store is the one that is served."""

from typing import Protocol


class Standing(Protocol):
    """Tells whether the store is what is served, and takes writes."""

    async def wait(self) -> None:
        """Returns where it is and does; waits for a moment where another store comes to be served.

        Raises:
            SpaceSwitching: Another is served, or it takes longer than a moment.
        """
        ...

    async def check(self) -> None:
        """Returns where what was written by now is, or will be, in what is served.

        Raises:
            SpaceSwitching: It may not be.
        """
        ...
