import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearvote.embedding.rows import arrange

_lengths = st.lists(st.integers(1, 256), min_size=1, max_size=60)


def _filled(rows: list[list[int]], lengths: list[int]) -> list[int]:
    return [sum(lengths[place] for place in row) for row in rows]


@given(_lengths)
def test_each_window_lies_in_one_row(lengths: list[int]) -> None:
    """Every window lies in one row, and every row has one at least."""
    rows = arrange(lengths)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert all(rows)


@given(_lengths)
def test_rows_are_no_dearer_than_one(lengths: list[int]) -> None:
    """With what fills rows up there are at most so many tokens more as attention costs less."""
    rows, total = arrange(lengths), sum(lengths)
    longest = max(_filled(rows, lengths))
    assert len(rows) * longest * (512 + longest) <= total * (512 + total)


@pytest.mark.parametrize(
    ("lengths", "count"),
    [([250], 1), ([16] * 16, 16), ([10, 10], 2), ([200, 10, 10, 10], 1), ([64, 64, 32, 32, 32, 32], 4), ([12] * 21, 7)],
)
def test_short_windows_lie_in_short_rows(lengths: list[int], count: int) -> None:
    """Windows of one length fill rows alone or a few at a time; few short ones share the row of a long one."""
    assert len(arrange(lengths)) == count
