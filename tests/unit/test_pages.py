"""Page tokens."""

import pytest

from nearvote.errors import InvalidPageToken
from nearvote.rpc.pages import answers, bounded_page, page_start, page_token
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


def test_what_was_found_comes_in_parts_that_clients_take() -> None:
    """All of it comes once and in order, and no part is too long unless it is a single item."""
    sizes = (10, 2**20, 2**20, 2**20, 2**22, 2**21, 5)
    found = [Example(id=str(i), text="a" * size) for i, size in enumerate(sizes)]
    parts = list(answers(found))
    assert [[one.id for one in part] for part in parts] == [["0", "1", "2"], ["3"], ["4"], ["5", "6"]]
    assert list(answers([])) == []


@pytest.mark.parametrize(
    "token", ["x", "bm9uc2Vuc2U=", "W10=", "bnVsbA==", "WyJhIiwgMV0=", "é", page_token(("other",), "where")]
)
def test_a_token_of_nobody_is_refused(token: str) -> None:
    """What is not a token, or one of another query, is refused."""
    with pytest.raises(InvalidPageToken):
        page_start(QUERY, token)
