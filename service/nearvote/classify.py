"""The one use: from messages to predictions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.errors import InvalidField, KOutOfRange, TaskNotFound
from nearvote.examples.store import ExampleReader, SearchQuery
from nearvote.limits import Limits, check_batch, check_k, check_text
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Task
from nearvote.voting.ballot import ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor, merge_windows
from nearvote.voting.prediction import AbstentionReason, Prediction, abstain, decide


@dataclass(frozen=True, slots=True)
class StageTimings:
    """Where the time of a call went, in seconds. Messages of one call share them."""

    clean: float = 0.0
    queue: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    vote: float = 0.0


@dataclass(frozen=True, slots=True)
class Classification:
    """Everything that is said of one message.

    Attributes:
        predictions: One for each task asked, in the order asked.
        window_count: How many windows its text was cut into; 0 when there was nothing to read.
        encoder_revision: SHA-256 of the encoder's weights.
        timings: Where the time went.
        encoder_key: Equal for encoders whose vectors may be compared.
    """

    predictions: tuple[Prediction, ...]
    window_count: int
    encoder_revision: str
    timings: StageTimings
    encoder_key: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What to answer with, and what to overrule.

    Attributes:
        with_texts: Return the neighbours' texts.
        neighbor_limit: Return so many neighbours at most, 0 to `max_k`; all voters when None.
        k: Neighbours that vote, 1 to `max_k`; the policy's when None.
    """

    with_texts: bool = False
    neighbor_limit: int | None = None
    k: int | None = None


class Classifies(Protocol):
    """What labels messages. The classifier does, and so do its wrappers."""

    async def classify(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[str], options: Options
    ) -> list[Classification]:
        """Labels messages for tasks."""
        ...


class Classifier:
    """Labels messages by the vote of their nearest examples.

    Args:
        embedder: Turns texts into vectors.
        examples: Finds neighbours.
        tasks: Knows the tasks.
        limits: What a call may ask.
    """

    def __init__(self, embedder: Embedder, examples: ExampleReader, tasks: TaskRegistry, limits: Limits) -> None:
        self._embedder = embedder
        self._examples = examples
        self._tasks = tasks
        self._limits = limits

    async def classify(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[str], options: Options
    ) -> list[Classification]:
        """Labels messages. Each is embedded once, however many tasks are asked.

        Args:
            tenant: Whose examples vote.
            texts: The messages, 1 to `max_batch_texts`.
            tasks: Names of tasks, each once; all of the tenant's when empty.
            options: What to answer with.

        Returns:
            One classification for each text, in their order.

        Raises:
            InvalidInput: A text is too long, there are too many, or an option is out of range.
            TaskNotFound: There is no task of this name.
            StoreUnavailable: The store did not answer.
        """
        self._check(texts, tasks, options)
        asked = await self._asked(tenant, tasks)
        embedded = await self._embedder.embed(texts)

        began = time.perf_counter()
        # Read first: a prediction may have seen more than its version says, never less.
        versions = {task.name: await self._tasks.examples_version(tenant, task.name) for task in asked}
        sizes = {
            task.name: await self._tasks.class_sizes(tenant, task.name)
            for task in asked
            if task.policy.class_size_exponent
        }
        found = await self._search(tenant, embedded.windows, asked, options)
        searched = time.perf_counter()

        predictions = [
            tuple(
                replace(
                    _predict(task, neighbors, sizes.get(task.name, ClassSizes()), options),
                    examples_version=versions[task.name],
                )
                for task, neighbors in zip(asked, by_task, strict=True)
            )
            for by_task in found
        ]
        timings = StageTimings(
            clean=embedded.clean_seconds,
            queue=embedded.queue_seconds,
            embed=embedded.embed_seconds,
            search=searched - began,
            vote=time.perf_counter() - searched,
        )
        spec = self._embedder.spec
        return [
            Classification(by_task, len(windows), spec.revision, timings, spec.key)
            for by_task, windows in zip(predictions, embedded.windows, strict=True)
        ]

    def _check(self, texts: Sequence[str], tasks: Sequence[str], options: Options) -> None:
        limits = self._limits
        check_batch(texts, limits, field="texts")
        for i, text in enumerate(texts):
            check_text(text, limits, field=f"texts[{i}]")
        if len(set(tasks)) != len(tasks):
            raise InvalidField("a task is asked twice; name each once", field="tasks")
        check_k(options.k, limits, field="options.k")
        if options.neighbor_limit is not None and not 0 <= options.neighbor_limit <= limits.max_k:
            raise KOutOfRange(f"neighbor_limit is 0 to {limits.max_k}", field="options.neighbor_limit")

    async def _asked(self, tenant: str, names: Sequence[str]) -> list[Task]:
        if not names:
            return await self._tasks.list_all(tenant)
        asked = []
        for i, name in enumerate(names):
            try:
                asked.append(await self._tasks.get(tenant, name))
            except TaskNotFound as error:
                error.field = f"tasks[{i}]"
                raise
        return asked

    def _k(self, task: Task, options: Options) -> int:
        # A policy may be older than the limit.
        return options.k or min(task.policy.k, self._limits.max_k)

    async def _search(
        self, tenant: str, texts: Sequence[Matrix], tasks: Sequence[Task], options: Options
    ) -> list[list[list[Neighbor] | None]]:
        """For each text and task its neighbours; None where there was no text to search for."""
        queries = [
            SearchQuery(tenant, task.name, vector, self._k(task, options), window=window)
            for windows in texts
            for task in tasks
            for window, vector in enumerate(windows)
        ]
        results = iter(await self._examples.search(queries, with_text=options.with_texts) if queries else ())
        return [
            [
                merge_windows(list(islice(results, len(windows))), self._k(task, options)) if len(windows) else None
                for task in tasks
            ]
            for windows in texts
        ]


def _predict(task: Task, neighbors: list[Neighbor] | None, sizes: ClassSizes, options: Options) -> Prediction:
    if neighbors is None:
        prediction = abstain(task.name, task.rules, AbstentionReason.NO_TEXT)
    else:
        prediction = decide(task.name, task.rules, count_votes(neighbors, task.rules, sizes))
    return replace(
        prediction,
        neighbors=prediction.neighbors[: options.neighbor_limit],
        policy_version=task.policy_version,
    )
