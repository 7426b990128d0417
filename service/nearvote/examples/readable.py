"""Where what a store has answered is read."""

from collections.abc import Iterator
from contextlib import contextmanager

from nearvote.errors import StoreUnavailable


@contextmanager
def readable() -> Iterator[None]:
    """What is read in here came from a store: where it can't be read the store has failed, and nobody else.

    Raises:
        StoreUnavailable: It can't be read: a field is missing, or is not what it should be.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreUnavailable(
            "what the store answered can't be read: try again, and where it stays so, check the store's data"
        ) from error
