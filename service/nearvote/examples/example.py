"""A text with its label or labels in one task."""

import uuid
from dataclasses import dataclass

from nearvote.errors import InvalidExample, NearvoteError

# Random, made once for this project: ids of other things never collide with those of examples.
_NAMESPACE = uuid.UUID("6f0c8a52-3f3f-4f0b-9d8e-0d5a4b3f7c11")

MIN_WEIGHT = 0.001
MAX_WEIGHT = 100.0
MAX_SOURCE_BYTES = 256


def example_id(tenant: str, task: str, text: str) -> str:
    """The id of a text in a task: a UUID of version 5, so that the same text added twice is one example."""
    # Lengths first, so that no two triples run together into the same name.
    return str(uuid.uuid5(_NAMESPACE, f"{len(tenant)},{len(task)}:{tenant}{task}{text}"))


def point_id(example: str, window: int) -> str:
    """The id of the point that holds one window of an example; the first window's is the example's own."""
    return example if window == 0 else str(uuid.uuid5(uuid.UUID(example), str(window)))


@dataclass(frozen=True, slots=True)
class Draft:
    """An example as somebody gives it.

    Attributes:
        task: Its task.
        text: Its text, not blank.
        labels: Its labels.
        weight: How much its vote counts, 0.001 to 100.
        source: Where it comes from; may be empty.
    """

    task: str
    text: str
    labels: tuple[str, ...]
    weight: float = 1.0
    source: str = ""

    def check(self) -> None:
        """Checks what can be checked without knowing the task.

        Raises:
            InvalidExample: The text is blank, or weight or source are out of range.
        """
        if not self.text.strip():
            raise InvalidExample("an example needs a text", field="text")
        if not MIN_WEIGHT <= self.weight <= MAX_WEIGHT:
            raise InvalidExample(f"a weight is {MIN_WEIGHT:g} to {MAX_WEIGHT:g}", field="weight")
        if len(self.source.encode(errors="replace")) > MAX_SOURCE_BYTES:
            raise InvalidExample(f"a source has at most {MAX_SOURCE_BYTES} bytes", field="source")


@dataclass(frozen=True, slots=True)
class Example:
    """An example as it is stored.

    Attributes:
        id: Derived from tenant, task and text.
        tenant: Whose it is.
        task: Its task.
        text: Its text, as it was given.
        labels: Its labels, sorted.
        weight: How much its vote counts.
        source: Where it comes from; may be empty.
        created_us: When it was first added, in microseconds since 1970-01-01 UTC.
        updated_us: When it was last changed, in the same.
    """

    id: str
    tenant: str
    task: str
    text: str
    labels: tuple[str, ...]
    weight: float
    source: str
    created_us: int
    updated_us: int


@dataclass(frozen=True, slots=True)
class Saved:
    """An example as it is stored, and whether its text was new to the task."""

    example: Example
    created: bool


@dataclass(frozen=True, slots=True)
class SearchedExample:
    """An example, and its cosine similarity to what was searched, in [-1, 1]."""

    example: Example
    similarity: float


@dataclass(frozen=True, slots=True)
class ImportedChunk:
    """What became of a chunk of an import: what was saved, and what was refused, by its place in the chunk."""

    saved: list[Saved]
    rejected: dict[int, NearvoteError]
