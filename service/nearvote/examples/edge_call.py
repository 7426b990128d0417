"""Calls of Qdrant Edge, whose failures come as one error of ours."""

from collections.abc import Callable
from typing import TypeVar

from nearvote.errors import StoreUnavailable

_T = TypeVar("_T")


def call_edge(operation: Callable[..., _T], *arguments: object) -> _T:
    """What an operation of Edge returns.

    Raises:
        StoreUnavailable: It failed.
    """
    try:
        return operation(*arguments)
    except BaseException as error:
        if not is_failure(error):
            raise
        raise StoreUnavailable("the embedded store failed; its own words are in the service's log") from error


def is_failure(error: BaseException) -> bool:
    """Whether an exception says that something failed, and not that this process is to end."""
    # Edge raises plain Exception, and where Rust panics an exception that is not even one.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
