import pytest

from nearvote.text.windows import window_spans


@pytest.mark.parametrize(
    ("token_count", "expected"),
    [
        (0, []),
        (1, [(0, 1)]),
        (10, [(0, 10)]),
        (11, [(0, 10), (1, 11)]),
        (18, [(0, 10), (8, 18)]),
        (19, [(0, 10), (4, 14), (9, 19)]),
        (26, [(0, 10), (8, 18), (16, 26)]),
    ],
)
def test_spans(token_count: int, expected: list[tuple[int, int]]) -> None:
    """Windows of ten tokens that share two are full, and as few as it takes."""
    assert expected == window_spans(token_count, 10, 2)


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (4, 4), (4, 5), (4, -1)])
def test_impossible_windows_are_refused(size: int, overlap: int) -> None:
    """A window has room for a token that its neighbour does not have."""
    with pytest.raises(ValueError, match="make no windows"):
        window_spans(100, size, overlap)
