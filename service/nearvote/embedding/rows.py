"""How windows lie end to end in rows: attention costs a row's length squared, and filling it up its rest."""

from collections.abc import Sequence

# Length of a row at which attention costs as much as all else does. Measured with all-MiniLM-L6-v2 on one core: 256
# tokens take 96 ms in one row and 68 ms in eight (`docs/performance.md` has the machine).
_DEAR_LENGTH = 512
_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)


def arrange(lengths: Sequence[int]) -> list[list[int]]:
    """Puts windows into rows.

    Each goes into the row that is shortest by then, the longest first (Graham's LPT rule, 1969), for several numbers of
    rows, of which the cheapest is taken.

    Args:
        lengths: Of the windows, one at least, special tokens included, each 1 or more.

    Returns:
        The windows' places in each row; no row is empty.
    """
    longest_first = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    longest, total = max(lengths), sum(lengths)
    best: list[list[int]] = []
    least = float("inf")
    for count in _COUNTS:
        if count > 1 and (count > len(lengths) or longest * (count - 1) >= total):
            break  # another row can't be shorter than the longest window
        rows: list[list[int]] = [[] for _ in range(count)]
        filled = [0] * count
        for place in longest_first:
            row = filled.index(min(filled))
            rows[row].append(place)
            filled[row] += lengths[place]
        if (cost := _cost(count, max(filled))) < least:
            best, least = rows, cost
    return best


def _cost(count: int, length: int) -> float:
    return count * length * (1 + length / _DEAR_LENGTH)
