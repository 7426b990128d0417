"""Pages: as much as clients take in one answer, and tokens that tell where a list goes on, tied to its query."""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from nearvote.errors import InvalidPageToken

_MAX_TOKEN = 512  # ours are shorter
MESSAGE_BYTES = 3 * 2**20  # a gRPC client takes answers of 4 MiB, unless it says otherwise


class _Sized(Protocol):
    def ByteSize(self) -> int:
        """How long it is on the wire."""
        ...


class _Listed(_Sized, Protocol):
    """A message of a list in the order of ids."""

    id: str


_S = TypeVar("_S", bound=_Sized)
_L = TypeVar("_L", bound=_Listed)


def answers(found: Sequence[_S]) -> Iterator[Sequence[_S]]:
    """Parts of what was found, each as much as clients take in one answer, one item at least."""
    start = size = 0
    for place, one in enumerate(found):
        own = one.ByteSize()
        if place > start and size + own > MESSAGE_BYTES:
            yield found[start:place]
            start, size = place, 0
        size += own
    if start < len(found):
        yield found[start:]


def bounded_page(listed: Sequence[_L], next_id: str | None) -> tuple[Sequence[_L], str | None]:
    """As much of a page as clients take in one answer, one item at least; and the id to go on from."""
    first: Sequence[_L] = next(answers(listed), listed)
    return first, next_id if len(first) == len(listed) else listed[len(first)].id


def page_token(query: tuple[str, ...], start: str | None) -> str:
    """The token of the page that begins at `start`; empty when there is none."""
    if start is None:
        return ""
    return base64.urlsafe_b64encode(json.dumps([_digest(query), start]).encode()).decode()


def page_start(query: tuple[str, ...], token: str) -> str | None:
    """Where the page of a token begins; None for the first page.

    Raises:
        InvalidPageToken: The token is not of this query.
    """
    if not token:
        return None
    try:
        digest, start = json.loads(base64.urlsafe_b64decode(token[:_MAX_TOKEN].encode()))
    except (ValueError, TypeError, binascii.Error):
        digest, start = None, None
    if digest != _digest(query) or not isinstance(start, str):
        raise InvalidPageToken(
            "this token is not of this query: repeat the query unchanged, or begin anew without a token",
            field="page_token",
        )
    return start


def _digest(query: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(query).encode()).hexdigest()[:16]
