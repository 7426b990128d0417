"""Fair shares of a bounded place."""

from hypothesis import given
from hypothesis import strategies as st

from nearvote.access.flow import Shares


def _fill(shares: Shares, key: str, size: int = 1) -> int:
    """How many pieces a flow gets in until it is refused."""
    count = 0
    while shares.take(key, size) and count < 10_000:
        count += 1
    return count


def test_one_alone_has_half() -> None:
    """A flow alone gets half of the place, so that there is room for whoever comes."""
    shares = Shares(100)
    assert _fill(shares, "a") == 50
    assert shares.taken == 50


def test_newcomers_have_room() -> None:
    """However many have what they want, another one still gets something, and more than a token."""
    shares = Shares(120)
    assert [_fill(shares, key) for key in "abcd"] == [60, 40, 30, 24]
    assert not shares.take("a", 1), "who has more than a share now gives back first"


def test_what_is_given_back_can_be_taken() -> None:
    """A flow that is done makes room for the others, and leaves nothing behind."""
    shares = Shares(10)
    assert _fill(shares, "a") == 5
    assert not shares.take("a", 1)
    shares.give("a", 1)
    assert shares.take("a", 1)
    for _ in range(5):
        shares.give("a", 1)
    assert shares.taken == 0
    assert _fill(shares, "b") == 5


def test_one_large_piece_shuts_nobody_out() -> None:
    """A piece above the whole place is taken from one who has nothing there; others keep their shares."""
    shares = Shares(100)
    assert shares.take("large", 10_000)
    assert not shares.take("large", 1)
    assert _fill(shares, "other") == 33


def test_no_more_flows_than_places() -> None:
    """Where every place has a flow of its own, the next one is refused."""
    shares = Shares(3)
    assert [shares.take(key, 1) for key in "abcd"] == [True, True, True, False]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 30), st.booleans()), max_size=60))
def test_small_pieces_never_exceed_the_place(moves: list[tuple[str, int, bool]]) -> None:
    """Taking and giving back keep the books: pieces within their share never add up to more than twice the place."""
    shares, had = Shares(100), dict.fromkeys("abcde", 0)
    for key, size, back in moves:
        if back and had[key]:
            shares.give(key, had[key])
            had[key] = 0
        elif shares.take(key, size):
            had[key] += size
        assert shares.taken == sum(had.values())
        assert sum(had.values()) <= 100 + 30 * len(had)
