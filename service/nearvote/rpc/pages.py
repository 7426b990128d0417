"""Page tokens: where a list goes on, tied to the query that it belongs to."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Protocol, TypeVar

from nearvote.errors import InvalidPageToken

_MAX_TOKEN = 512  # ours are shorter
MESSAGE_BYTES = 3 * 2**20  # a gRPC client takes answers of 4 MiB, unless it says otherwise


class _Listed(Protocol):
    """A message of a list in the order of ids."""

    id: str

    def ByteSize(self) -> int:
        """How long it is on the wire."""
        ...


_L = TypeVar("_L", bound=_Listed)


def bounded_page(listed: Sequence[_L], next_id: str | None) -> tuple[Sequence[_L], str | None]:
    """As much of a page as clients take in one answer, one item at least; and the id to go on from."""
    size = 0
    for place, one in enumerate(listed):
        size += one.ByteSize()
        if place and size > MESSAGE_BYTES:
            return listed[:place], one.id
    return listed, next_id


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
