"""What a store of examples can do. Reading and writing are apart, so that classification can't write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nearvote.examples.example import Example
from nearvote.voting.ballot import ClassSizes
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
        vector: (dimension,) float32, of length 1.
        limit: How many, 1 or more.
        label: Only examples with this label; all when empty.
        view: The view to search.
        window: Which of the message's windows asks; goes into the neighbours found.
    """

    tenant: str
    task: str
    vector: Vectors
    limit: int
    label: str = ""
    view: View = View.MEANING
    window: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddedExample:
    """An example and its vectors, (windows, dimension) float32, rows of length 1, one row or more."""

    example: Example
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Page:
    """Some examples, and the id to go on from; None when these are the last."""

    examples: list[Example]
    next_id: str | None


class ExampleReader(Protocol):
    """Finds examples. All methods raise StoreUnavailable when the store does not answer."""

    async def search(self, queries: Sequence[SearchQuery], *, with_text: bool = False) -> list[list[Neighbor]]:
        """The examples nearest to each query, nearest first, each example once, texts only where asked for."""
        ...

    async def get(self, tenant: str, task: str, ids: Sequence[str]) -> dict[str, Example]:
        """The examples of these ids, by id; those that the task does not have are left out."""
        ...

    async def list_page(
        self, tenant: str, task: str, *, label: str = "", source: str = "", limit: int = 100, from_id: str | None = None
    ) -> Page:
        """Up to `limit` examples in the order of their ids, beginning with `from_id`."""
        ...

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        """How many examples the task has, and how many of them have each label."""
        ...


class ExampleStore(ExampleReader, Protocol):
    """Keeps examples. A write that returned is durable, and seen by the next read."""

    async def put(self, examples: Sequence[EmbeddedExample]) -> None:
        """Adds examples, replacing those of the same id: of the same text, so with as many windows as before.

        Cut short, an example is there whole or unknown to `get`, and adding it again makes it whole.
        """
        ...

    async def annotate(self, examples: Sequence[Example]) -> None:
        """Replaces labels, weight, source and times of stored examples; their texts and vectors stay."""
        ...

    async def delete(self, tenant: str, task: str, example_id: str) -> bool:
        """Deletes an example with all its windows. Returns whether there was one."""
        ...

    async def delete_task(self, tenant: str, task: str) -> int:
        """Deletes all examples of a task. Returns how many there were."""
        ...
