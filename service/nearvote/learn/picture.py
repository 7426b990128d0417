"""What is on a map."""

from dataclasses import dataclass

from nearvote.learn.layout import Places


@dataclass(frozen=True, slots=True)
class MapMessage:
    """A message on a map.

    Attributes:
        text: On one line.
        answer: Its labels, or why it has none.
        neighbors: The points that voted, by their place, with the share of each.
    """

    text: str
    answer: str
    neighbors: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class MapPanel:
    """The points under one encoder.

    Attributes:
        title: The encoder.
        silhouette: How well labels part the vectors; None where that is not defined.
        points: (n, 2), where the examples are.
        messages: (messages, 2), where the messages are; NaN for one that is nowhere.
        named: Whether labels are named and filled; of no use where they lie all over one another.
    """

    title: str
    silhouette: float | None
    points: Places
    messages: Places
    named: bool = True


@dataclass(frozen=True, slots=True)
class MapPicture:
    """All of a picture.

    Attributes:
        heading: What stands above it.
        labels: The task's labels, in their order.
        quiet: Those drawn in grey: benign, out of scope.
        of_points: The label of each example.
        messages: Messages, in the order of their numbers.
        panels: One, or several to be compared.
    """

    heading: str
    labels: tuple[str, ...]
    quiet: frozenset[str]
    of_points: tuple[str, ...]
    messages: tuple[MapMessage, ...]
    panels: tuple[MapPanel, ...]


def score_text(silhouette: float | None) -> str:
    """A silhouette for people."""
    # Adding nothing makes of minus nought nought.
    return "silhouette undefined" if silhouette is None else f"silhouette {round(silhouette, 2) + 0.0:.2f}"
