"""Who may vote: the nearest, but not all of one source or of one campaign."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nearvote.voting.neighbor import Neighbor

# Fingerprints of texts that share n-grams up to a cosine of .88 differ in about 10 of 64 bits; those of unrelated
# texts in 26, give or take 4.
NEAR_DUPLICATE_BITS = 10

# So many times k neighbours are looked at when a crowd is refused seats, so that there are others to take them; and so
# many when they are not enough.
OVERSAMPLING = 2
DEEP = 16


def seat_limit(k: int, max_group_share: float) -> int:
    """How many of k seats one group may take: 1 or more."""
    return max(1, int(k * max_group_share))


def take_seats(neighbors: Sequence[Neighbor], k: int, max_group_share: float) -> list[Neighbor]:
    """The k nearest neighbours of which no group is more than its share.

    A group is all neighbours of one source, and all near-duplicates of one text. Seats that would stay empty go to
    those who were refused, nearest first: a ballot is never smaller for it.

    Args:
        neighbors: Candidates, nearest first.
        k: Seats, 1 or more.
        max_group_share: Part of the seats that a group may take, in [0, 1]; one seat it may always take.

    Returns:
        Up to k of them, nearest first.
    """
    return seats_and_vacancies(neighbors, k, max_group_share)[0]


def seats_and_vacancies(neighbors: Sequence[Neighbor], k: int, max_group_share: float) -> tuple[list[Neighbor], bool]:
    """Who votes, as `take_seats` has it, and whether some of them were refused at first: others might be behind them.

    Args:
        neighbors: Candidates, nearest first.
        k: Seats, 1 or more.
        max_group_share: Part of the seats that a group may take, in [0, 1]; one seat it may always take.

    Returns:
        Up to k neighbours, nearest first; and whether fewer than k of k or more sat before the refused were let in.
    """
    limit = seat_limit(k, max_group_share)
    if limit >= k or len(neighbors) <= limit:
        return list(neighbors[:k]), False
    seated, refused = _seated(neighbors, k, limit)
    vacant = len(seated) < k <= len(neighbors)
    seated += refused[: k - len(seated)]
    return [neighbors[i] for i in sorted(seated)], vacant


def _seated(neighbors: Sequence[Neighbor], k: int, limit: int) -> tuple[list[int], list[int]]:
    """Who takes a seat, and who is refused one, by their places."""
    alike = _alike(neighbors)
    sources = Counter(neighbor.source for neighbor in neighbors if neighbor.source)
    if max(int(alike.sum(axis=1).max(initial=0)), *sources.values(), 0) <= limit:  # nearly always
        return list(range(min(k, len(neighbors)))), []
    seated: list[int] = []
    refused: list[int] = []
    by_source: dict[str, int] = {}
    for i, neighbor in enumerate(neighbors):
        if len(seated) == k:
            break
        of_source = by_source.get(neighbor.source, 0) if neighbor.source else 0
        # As long as fewer sit than one group may be, none is too many.
        if len(seated) >= limit and max(of_source, int(alike[i, seated].sum())) >= limit:
            refused.append(i)
            continue
        seated.append(i)
        by_source[neighbor.source] = of_source + 1
    return seated, refused


def _alike(neighbors: Sequence[Neighbor]) -> npt.NDArray[np.bool_]:
    """Which neighbours are nearly the same text. (neighbors, neighbors)."""
    prints = np.array([neighbor.fingerprint for neighbor in neighbors], np.int64)
    differing = np.bitwise_count((prints[:, np.newaxis] ^ prints).view(np.uint64))
    printed = prints != 0
    return np.asarray((differing <= NEAR_DUPLICATE_BITS) & printed & printed[:, np.newaxis], np.bool_)


def is_near_duplicate(one: int, other: int) -> bool:
    """Whether two texts are nearly the same, by their fingerprints; 0 stands for a text that has none."""
    return one != 0 and other != 0 and ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count() <= NEAR_DUPLICATE_BITS
