"""Page tokens."""

import pytest

from nearvote.errors import InvalidPageToken
from nearvote.rpc.pages import page_start, page_token

QUERY = ("examples", "default", "spam", "", "")


def test_a_token_goes_on_where_the_page_ended() -> None:
    """A token tells where to go on; none tells to begin, and no further page has none."""
    assert page_start(QUERY, page_token(QUERY, "where")) == "where"
    assert page_start(QUERY, "") is None
    assert page_token(QUERY, None) == ""


@pytest.mark.parametrize(
    "token", ["x", "bm9uc2Vuc2U=", "W10=", "bnVsbA==", "WyJhIiwgMV0=", "é", page_token(("other",), "where")]
)
def test_a_token_of_nobody_is_refused(token: str) -> None:
    """What is not a token, or one of another query, is refused."""
    with pytest.raises(InvalidPageToken):
        page_start(QUERY, token)
