"""A labelled example near a message."""

from dataclasses import dataclass
from enum import Enum
from operator import attrgetter


class View(Enum):
    """One way of looking at a text."""

    MEANING = "meaning"
    SURFACE = "surface"

    __hash__ = object.__hash__  # an Enum's own is not in C, and every message asks for a hundred


@dataclass(slots=True)  # not frozen: every message makes dozens, and a frozen one takes four times as long
class Neighbor:
    """A labelled example that was found near a message.

    Attributes:
        example_id: The example's id, a UUID.
        labels: Its labels, sorted.
        similarity: In the meaning view the cosine, in [-1, 1]. In the surface view the n-grams shared, weighed by how
            rare they are: 0 or more, the greater the nearer, to be compared within one message only.
        example_weight: How much its vote counts, 0.001 to 100.
        view: Where it was found.
        window: Which of the message's windows it is near to, from 0.
        source: Where the example came from; may be empty.
        text: Its text; empty when it was not asked for.
        share: Its part of all votes cast, in [0, 1]; 0 until votes are counted.
        fingerprint: SimHash of its text, 64 bits: near-duplicates differ in few of them.
        updated_us: When it was last changed, in microseconds since 1970-01-01 UTC.
    """

    example_id: str
    labels: tuple[str, ...]
    similarity: float
    example_weight: float = 1.0
    view: View = View.MEANING
    window: int = 0
    source: str = ""
    text: str = ""
    share: float = 0.0
    fingerprint: int = 0
    updated_us: int = 0

    def with_share(self, share: float) -> "Neighbor":
        """The same, its votes counted."""
        # Not by `replace`, which takes six times as long: every message has dozens.
        return Neighbor(
            self.example_id,
            self.labels,
            self.similarity,
            self.example_weight,
            self.view,
            self.window,
            self.source,
            self.text,
            share,
            self.fingerprint,
            self.updated_us,
        )


# In C, and called for each of a message's dozens of neighbours.
_ID = attrgetter("example_id")
_SIMILARITY = attrgetter("similarity")
_SHARE = attrgetter("share")


def nearest_first(neighbors: list[Neighbor]) -> list[Neighbor]:
    """Sorts by similarity; equally near ones by id, so that their order never depends on the store's."""
    by_id = sorted(neighbors, key=_ID)
    by_id.sort(key=_SIMILARITY, reverse=True)  # stable: equally near ones stay as they are
    return by_id


def weightiest_first(neighbors: list[Neighbor]) -> list[Neighbor]:
    """Sorts by share; those of equal shares as `nearest_first` does."""
    weightiest = nearest_first(neighbors)
    weightiest.sort(key=_SHARE, reverse=True)  # stable, as above
    return weightiest


def merge_windows(by_window: list[list[Neighbor]], k: int) -> list[Neighbor]:
    """The k examples nearest to any window of a message, each once, at the window it is nearest to.

    Args:
        by_window: For each window, the examples found near it.
        k: How many to keep, 1 or more.

    Returns:
        Up to k neighbours, nearest first.
    """
    best: dict[str, Neighbor] = {}
    for neighbors in by_window:
        for neighbor in neighbors:
            known = best.get(neighbor.example_id)
            # Strictly nearer: of equally near windows the first one stays.
            if known is None or neighbor.similarity > known.similarity:
                best[neighbor.example_id] = neighbor
    return nearest_first(list(best.values()))[:k]
