"""What a store of examples can do. Reading and writing are apart, so that classification can't write."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nearvote.examples.example import Example
from nearvote.text.surface import SparseVector
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import Slot
from nearvote.voting.neighbor import Neighbor, View

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """Which vectors may be compared.

    Attributes:
        key: Equal for vectors that may be compared.
        dimension: Their length.
        model: The model's name, for people.
    """

    key: str
    dimension: int
    model: str


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A question for the nearest examples.

    Attributes:
        tenant: Whose examples.
        task: Of which task.
        vector: The view's: float32 of length 1, (dimension,) or one for each of the message's windows, (windows,
            dimension), 1 or more; or a sparse one.
        limit: How many, 1 or more.
        label: Only examples with this label; all when empty.
        view: The view to search.
        slot: The slot of the learned metric to search instead of the plain vectors; meaning only.
    """

    tenant: str
    task: str
    vector: Vectors | SparseVector
    limit: int
    label: str = ""
    view: View = View.MEANING
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedExample:
    """An example and its views.

    Attributes:
        example: The example.
        vectors: (windows, dimension) float32, rows of length 1, one row or more.
        surface: Its text's n-grams.
        projected: The vectors in learned metrics, by slot, each of the shape of `vectors`.
    """

    example: Example
    vectors: Vectors
    surface: SparseVector
    projected: Mapping[Slot, Vectors] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Some examples, and the id to go on from; None when these are the last."""

    examples: list[Example]
    next_id: str | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a tenant's examples are meant: those that are all of what is set.

    Attributes:
        task: Their task; of all tasks when empty.
        source: Where they come from.
        subject: Who they are about or from.
        expired_us: They have ended by this time, in microseconds since 1970-01-01 UTC.
    """

    task: str = ""
    source: str = ""
    subject: str = ""
    expired_us: int | None = None


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """One window of an example as it is stored.

    Attributes:
        point_id: Of the window itself.
        example_id: Of its example.
        window: Which of the example's windows it is, from 0.
        labels: The example's labels, sorted.
        example_weight: How much its vote counts.
        source: Where it comes from; may be empty.
        fingerprint: SimHash of its text.
        text: The example's text, with its first window; empty with the others.
        vector: (dimension,) float32, of length 1.
        surface: The text's n-grams, with its first window; None with the others.
    """

    point_id: str
    example_id: str
    window: int
    labels: tuple[str, ...]
    example_weight: float
    source: str
    fingerprint: int
    text: str
    vector: Vectors
    surface: SparseVector | None


class ExampleReader(Protocol):
    """Finds examples, but those that have ended. All methods raise StoreUnavailable when the store does not answer."""

    async def search(self, queries: Sequence[SearchQuery], *, with_text: bool = False) -> list[list[Neighbor]]:
        """The examples nearest to each query, nearest first, each example once, texts only where asked for."""
        ...

    async def get(self, tenant: str, task: str, ids: Sequence[str]) -> dict[str, Example]:
        """The examples of these ids, by id; those that the task does not have are left out."""
        ...

    async def same(self, tenant: str, ids: Sequence[str], *, with_text: bool = False) -> dict[str, Neighbor]:
        """The examples of these ids, of whatever task, by id, as neighbours of a message of the same text."""
        ...

    async def list_page(
        self, tenant: str, task: str, *, label: str = "", source: str = "", limit: int = 100, from_id: str | None = None
    ) -> Page:
        """Up to `limit` examples in the order of their ids, beginning with `from_id`."""
        ...

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        """How many examples the task has, and how many of them have each label."""
        ...

    async def next_end(self, tenant: str, task: str) -> int | None:
        """When the next of the task's examples ends, in microseconds since 1970-01-01 UTC; None when none will."""
        ...

    def windows(self, tenant: str, task: str) -> AsyncIterator[list[StoredWindow]]:
        """All windows of a task's examples, page by page, in the order of their point ids."""
        ...


class ExampleStore(ExampleReader, Protocol):
    """Keeps examples. A write that returned is durable, and seen by the next read."""

    async def put(self, examples: Sequence[EmbeddedExample]) -> None:
        """Adds examples, replacing those of the same id: of the same text, so with as many windows as before.

        Cut short, an example is there whole or unknown to `get`, and adding it again makes it whole.
        """
        ...

    async def project(self, slot: Slot, vectors: Mapping[str, Vectors]) -> None:
        """Sets the vectors of stored windows in a learned metric, by point id; (dimension,) float32, of length 1.

        Windows that are gone are passed over.
        """
        ...

    async def annotate(self, examples: Sequence[Example]) -> None:
        """Replaces all that is stored of examples but their texts and vectors, which stay."""
        ...

    async def delete(self, tenant: str, task: str, example_id: str) -> bool:
        """Deletes an example with all its windows. Returns whether there was one."""
        ...

    def select(self, tenant: str, selection: Selection) -> AsyncIterator[list[Example]]:
        """The examples of a selection, page by page, those that have ended as well."""
        ...

    async def delete_selected(self, tenant: str, selection: Selection, ids: Sequence[str]) -> None:
        """Deletes those examples of a selection that have these ids, with all windows: all of them or none."""
        ...

    async def ended(self, now_us: int) -> dict[str, int]:
        """The tenants who have examples that have ended by then, with how many windows these have."""
        ...

    async def delete_task(self, tenant: str, task: str) -> int:
        """Deletes all examples of a task. Returns how many there were."""
        ...
