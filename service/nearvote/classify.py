"""The one use: from messages to predictions."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from nearvote.embedding.embedder import EmbeddedTexts, Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.errors import InvalidField, KOutOfRange, TaskNotFound
from nearvote.examples.example import example_id
from nearvote.examples.store import ExampleReader, SearchQuery
from nearvote.limits import Limits, check_batch, check_k, check_text
from nearvote.tasks.fit import Fit
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Task
from nearvote.text.surface import SparseVector
from nearvote.voting.ballot import ClassSizes, count_votes, settled_by
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.pool import Opinions
from nearvote.voting.prediction import AbstentionReason, Prediction, abstain, decide
from nearvote.voting.prototypes import Prototypes, mean_vector
from nearvote.voting.seats import DEEP, OVERSAMPLING, seats_and_vacancies


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
        request_id: What this answer is known by; empty for nothing.
    """

    predictions: tuple[Prediction, ...]
    window_count: int
    encoder_revision: str
    timings: StageTimings
    encoder_key: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """What to answer with, and what to overrule.

    Attributes:
        with_texts: Return the neighbours' texts.
        neighbor_limit: Return so many neighbours at most, 0 to `max_k`; all voters when None.
        k: Neighbours that vote, 1 to `max_k`; the policy's when None.
        request_ids: What the answers are to be known by, one for each text; empty for nothing.
    """

    with_texts: bool = False
    neighbor_limit: int | None = None
    k: int | None = None
    request_ids: tuple[str, ...] = ()


def check_options(options: Options, limits: Limits) -> None:
    """Checks what a call asks for.

    Raises:
        KOutOfRange: A number of neighbours is out of range.
    """
    check_k(options.k, limits, field="options.k")
    if options.neighbor_limit is not None and not 0 <= options.neighbor_limit <= limits.max_k:
        raise KOutOfRange(f"neighbor_limit is 0 to {limits.max_k}", field="options.neighbor_limit")


@dataclass(frozen=True, slots=True)
class _Ask:
    """A task that is asked, the fit that serves it, and how many neighbours vote."""

    task: Task
    fit: Fit | None
    k: int

    def in_metric(self, windows: Matrix) -> Matrix:
        """The message's vectors as the task's fit sees them."""
        return windows if self.fit is None or self.fit.metric is None else self.fit.metric.project(windows)

    def queries(self, tenant: str, windows: Matrix, surface: SparseVector) -> Iterator[SearchQuery]:
        """The searches of each view that has a say, meaning first."""
        task = self.task
        vectors = windows if task.slot is None else self.in_metric(windows)
        yield SearchQuery(tenant, task.name, vectors, self.k, slot=task.slot)
        if task.policy.asks_surface and len(surface):
            yield SearchQuery(tenant, task.name, surface.sample(), self.k, view=View.SURFACE)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was made, with what it takes to answer the same by other policies.

    Attributes:
        tenant: Whose examples voted.
        texts: The messages.
        embedded: Their vectors.
        tasks: The tasks that were asked, with the policies that served.
        predictions: What was said, by message and task.
        options: What was to be answered with.
    """

    tenant: str
    texts: Sequence[str]
    embedded: EmbeddedTexts
    tasks: tuple[Task, ...]
    predictions: Sequence[tuple[Prediction, ...]]
    options: Options


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

    Attributes:
        answered: Told of each answer; it is not waited for, and must not fail. None for nobody.
    """

    def __init__(self, embedder: Embedder, examples: ExampleReader, tasks: TaskRegistry, limits: Limits) -> None:
        self.answered: Callable[[Answered], None] | None = None
        self._embedder = embedder
        self._revision, self._encoder_key = embedder.spec.revision, embedder.spec.key
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
        embedded = await self._embedder.embed(texts, tenant)
        # Again, after what may have been a long wait: another fit's vectors come to a slot that has ceased to serve.
        asked = await self._asked(tenant, tasks)

        began = time.perf_counter()
        predictions, searched = await self._judge(tenant, texts, embedded, asked, options)
        timings = StageTimings(
            clean=embedded.clean_seconds,
            queue=embedded.queue_seconds,
            embed=embedded.embed_seconds,
            search=searched - began,
            vote=time.perf_counter() - searched,
        )
        if self.answered is not None:
            self.answered(Answered(tenant, texts, embedded, tuple(asked), predictions, options))
        return [
            Classification(by_task, len(windows), self._revision, timings, self._encoder_key, id_)
            for by_task, windows, id_ in zip(
                predictions, embedded.windows, options.request_ids or [""] * len(texts), strict=True
            )
        ]

    async def judge(
        self, tenant: str, texts: Sequence[str], embedded: EmbeddedTexts, tasks: Sequence[Task], options: Options
    ) -> list[tuple[Prediction, ...]]:
        """What tasks as they are given, whether they serve or not, say of messages that are embedded already.

        Returns:
            For each text one prediction a task.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        return (await self._judge(tenant, texts, embedded, tasks, options))[0]

    async def _judge(
        self, tenant: str, texts: Sequence[str], embedded: EmbeddedTexts, asked: Sequence[Task], options: Options
    ) -> tuple[list[tuple[Prediction, ...]], float]:
        """The predictions, and when their neighbours were found."""
        # Read first: a prediction may have seen more than its version says, never less.
        versions = {task.name: await self._tasks.examples_version(tenant, task.name) for task in asked}
        sizes = {
            task.name: await self._tasks.class_sizes(tenant, task.name)
            for task in asked
            if task.policy.class_size_exponent
        }
        asks = [_Ask(task, await self._tasks.fits.serving(tenant, task), self._k(task, options)) for task in asked]
        found, known = await asyncio.gather(
            self._search(tenant, embedded, asks, options), self._same_texts(tenant, texts, asked, options)
        )
        searched = time.perf_counter()

        predictions = [
            tuple(
                _predict(
                    ask,
                    voters,
                    sizes.get(ask.task.name, ClassSizes()),
                    windows,
                    surface,
                    same.get(text),
                    neighbor_limit=options.neighbor_limit,
                    examples_version=versions[ask.task.name],
                )
                for ask, voters, same in zip(asks, by_task, known, strict=True)
            )
            for text, windows, surface, by_task in zip(texts, embedded.windows, embedded.surfaces, found, strict=True)
        ]
        return predictions, searched

    def _check(self, texts: Sequence[str], tasks: Sequence[str], options: Options) -> None:
        limits = self._limits
        check_batch(texts, limits, field="texts")
        for i, text in enumerate(texts):
            check_text(text, limits, field=f"texts[{i}]")
        if len(set(tasks)) != len(tasks):
            raise InvalidField("a task is asked twice; name each once", field="tasks")
        check_options(options, limits)

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

    async def _same_texts(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[Task], options: Options
    ) -> list[dict[str, Neighbor]]:
        """For each task those of its examples that are one of the messages, word for word, by their text."""
        readable = [text for text in texts if _is_encodable(text)]
        ids = [[example_id(tenant, task.name, text) for text in readable] for task in tasks]
        found = await self._examples.same(tenant, [id_ for own in ids for id_ in own], with_text=options.with_texts)
        return [
            {
                text: found[id_]
                for text, id_ in zip(readable, own, strict=True)
                if id_ in found and not set(task.label_names).isdisjoint(found[id_].labels)
            }
            for task, own in zip(tasks, ids, strict=True)
        ]

    async def _search(
        self, tenant: str, embedded: EmbeddedTexts, asks: Sequence[_Ask], options: Options
    ) -> list[list[dict[View, list[Neighbor]] | None]]:
        """For each text and task its voters by view; None where there was no text to search for."""
        searches = [
            _Search(ask, query)
            for windows, surface in zip(embedded.windows, embedded.surfaces, strict=True)
            if len(windows)
            for ask in asks
            for query in ask.queries(tenant, windows, surface)
        ]
        crowded = searches
        # Where one campaign or source would take more than its places, there may be others behind it.
        for times in (1, OVERSAMPLING, DEEP):
            await self._find([search.looking(times) for search in crowded], options)
            crowded = [search for search in crowded if search.is_crowded]
        rest = iter(searches)
        return [
            [self._voters(rest, ask, surface) if len(windows) else None for ask in asks]
            for windows, surface in zip(embedded.windows, embedded.surfaces, strict=True)
        ]

    async def _find(self, searches: "Sequence[_Search]", options: Options) -> None:
        queries = [search.query for search in searches]
        found = await self._examples.search(queries, with_text=options.with_texts) if queries else []
        for search, neighbors in zip(searches, found, strict=True):
            search.seat(neighbors)

    @staticmethod
    def _voters(searches: "Iterator[_Search]", ask: _Ask, surface: SparseVector) -> dict[View, list[Neighbor]]:
        views = [View.MEANING, View.SURFACE] if ask.task.policy.asks_surface and len(surface) else [View.MEANING]
        return {view: next(searches).voters for view in views}


@dataclass(slots=True)
class _Search:
    """One view's search for a message in a task.

    Attributes:
        ask: The task.
        query: What is searched for next.
        voters: Who may vote of those found.
        is_crowded: Whether a crowd has been refused seats, and there may be others further away to take them.
    """

    ask: _Ask
    query: SearchQuery
    voters: list[Neighbor] = field(default_factory=list)
    is_crowded: bool = False

    def seat(self, found: Sequence[Neighbor]) -> None:
        """Takes note of what was found, nearest first."""
        self.voters, vacant = seats_and_vacancies(found, self.ask.k, self.ask.task.policy.max_group_share)
        self.is_crowded = vacant and len(found) >= self.query.limit

    def looking(self, times: int) -> "_Search":
        """Itself, to look at so many times as many candidates as may vote."""
        if self.query.limit != self.ask.k * times:
            self.query = replace(self.query, limit=self.ask.k * times)
        return self


def _is_encodable(text: str) -> bool:
    """Whether UTF-8 can carry a text; no example has one that it can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _opinions(prototypes: Prototypes, ask: _Ask, windows: Matrix, surface: SparseVector) -> Opinions:
    # A whole text is one vector before it is mapped, as it was when the prototypes were learned.
    whole = mean_vector(windows)[np.newaxis]
    return prototypes.opinions(whole, ask.in_metric(whole), surface)


def _predict(
    ask: _Ask,
    voters: dict[View, list[Neighbor]] | None,
    sizes: ClassSizes,
    windows: Matrix,
    surface: SparseVector,
    same_text: Neighbor | None,
    *,
    neighbor_limit: int | None,
    examples_version: int,
) -> Prediction:
    task, fit, rules = ask.task, ask.fit, ask.task.rules
    if voters is None:
        prediction = abstain(task.name, rules, AbstentionReason.NO_TEXT)
    elif same_text is not None:
        prediction = decide(task.name, rules, settled_by(same_text, rules))
    else:
        prototypes = _opinions(fit.prototypes, ask, windows, surface) if fit and fit.prototypes else None
        ballot = count_votes(voters, rules, sizes, prototypes=prototypes, learned_us=fit.created_us if fit else 0)
        prediction = decide(task.name, rules, ballot)
    return replace(
        prediction,
        neighbors=prediction.neighbors[:neighbor_limit],
        policy_version=task.policy_version,
        examples_version=examples_version,
    )
