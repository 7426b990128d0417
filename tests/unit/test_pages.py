"""Page tokens."""

import pytest

from nearvote.errors import InvalidPageToken
from nearvote.rpc.pages import bounded_page, page_start, page_token
from nearvote.v1.example_pb2 import Example

QUERY = ("examples", "default", "spam", "", "")


def test_a_token_goes_on_where_the_page_ended() -> None:
    """A token tells where to go on; none tells to begin, and no further page has none."""
    assert page_start(QUERY, page_token(QUERY, "where")) == "where"
    assert page_start(QUERY, "") is None
    assert page_token(QUERY, None) == ""


def test_a_page_is_bounded_in_bytes() -> None:
    """What is too long for one answer is left for the next page, in which it is the first; one item always comes."""
    short = [Example(id=str(i), text="a" * 1_000) for i in range(10)]
    assert bounded_page(short, "next") == (short, "next")
    assert bounded_page([], None) == ([], None)
    long = [Example(id=str(i), text="a" * 2**20) for i in range(4)]
    assert bounded_page(long, None) == (long[:2], "2")
    assert bounded_page(long[2:], None) == (long[2:], None)
    huge = [Example(id=str(i), text="a" * 2**22) for i in range(2)]
    assert bounded_page(huge, "next") == (huge[:1], "1")


@pytest.mark.parametrize(
    "token", ["x", "bm9uc2Vuc2U=", "W10=", "bnVsbA==", "WyJhIiwgMV0=", "é", page_token(("other",), "where")]
)
def test_a_token_of_nobody_is_refused(token: str) -> None:
    """What is not a token, or one of another query, is refused."""
    with pytest.raises(InvalidPageToken):
        page_start(QUERY, token)
