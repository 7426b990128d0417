"""Who may vote: the nearest, but not all of one source or of one campaign."""

from collections.abc import Sequence

from nearvote.voting.neighbor import Neighbor

# Fingerprints of texts that share n-grams up to a cosine of .88 differ in about 10 of 64 bits; those of unrelated
# texts in 26, give or take 4.
NEAR_DUPLICATE_BITS = 10

# So many times k neighbours are looked at, so that there are others to take the seats that a crowd is refused; and so
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
    limit = seat_limit(k, max_group_share)
    if limit >= k or len(neighbors) <= limit:
        return list(neighbors[:k])
    seated, refused = _seated(neighbors, k, limit)
    seated += refused[: k - len(seated)]
    return [neighbors[i] for i in sorted(seated)]


def _seated(neighbors: Sequence[Neighbor], k: int, limit: int) -> tuple[list[int], list[int]]:
    """Who takes a seat, and who is refused one, by their places."""
    seated: list[int] = []
    refused: list[int] = []
    by_source: dict[str, int] = {}
    for i, neighbor in enumerate(neighbors):
        if len(seated) == k:
            break
        alike = sum(is_near_duplicate(neighbors[j].fingerprint, neighbor.fingerprint) for j in seated)
        of_source = by_source.get(neighbor.source, 0) if neighbor.source else 0
        if max(alike, of_source) >= limit:
            refused.append(i)
            continue
        seated.append(i)
        by_source[neighbor.source] = of_source + 1
    return seated, refused


def is_crowded(neighbors: Sequence[Neighbor], k: int, max_group_share: float) -> bool:
    """Whether fewer than k of the neighbours may take a seat before the refused ones are let in."""
    limit = seat_limit(k, max_group_share)
    return limit < k <= len(neighbors) and len(_seated(neighbors, k, limit)[0]) < k


def is_near_duplicate(one: int, other: int) -> bool:
    """Whether two texts are nearly the same, by their fingerprints; 0 stands for a text that has none."""
    return one != 0 and other != 0 and ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count() <= NEAR_DUPLICATE_BITS
