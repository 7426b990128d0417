"""Answers that can be explained later."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from pydantic import TypeAdapter

from nearvote.classify import Classification, Classifies, Options, check_options
from nearvote.clock import system_us
from nearvote.deadline import no_deadline
from nearvote.errors import ExplanationNotFound
from nearvote.examples.explanation_store import StoredExplanation
from nearvote.limits import Limits

# Answers that wait to be written, at most; some kilobytes each.
MAX_WAITING = 2_000
# Written at a time: a few milliseconds, in which the embedded store lets nobody else run.
_ANSWERS_A_WRITE = 16
_HOUR_US = 3_600 * 1_000_000
_ANSWER = TypeAdapter(Classification)
# Neither what examples say nor what comes from it; where they came from stands in the record of changes.
_LEFT_OUT: Any = {
    "predictions": {"__all__": {"neighbors": {"__all__": {"text", "source", "fingerprint", "updated_us"}}}}
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an answer was made of.

    Attributes:
        time_us: When it was given, in microseconds since 1970-01-01 UTC.
        expires_us: When this is forgotten, in the same.
        classification: The answer, with all that voted, without texts and sources.
    """

    time_us: int
    expires_us: int
    classification: Classification


@dataclass(frozen=True, slots=True)
class _Given:
    """An answer that was given, to whom and when."""

    tenant: str
    time_us: int
    answer: Classification


class ExplanationStore(Protocol):
    """Keeps explanations. All methods raise StoreUnavailable when the store does not answer."""

    async def put(self, explanations: Sequence[StoredExplanation]) -> None:
        """Adds explanations, replacing those of the same id."""
        ...

    async def get(self, tenant: str, request_id: str) -> StoredExplanation | None:
        """One explanation; None when there is none."""
        ...

    async def prune(self, now_us: int) -> None:
        """Deletes what has ended by then."""
        ...


class Explainer:
    """A classifier that remembers what its answers were made of. They are written behind the answers.

    Args:
        classifier: Labels messages.
        store: Keeps what they were made of; None where nothing was ever kept.
        keep_hours: How long; 0 to keep nothing more.
        limits: What a call may ask.
        dropped: Told how many answers could not be kept.
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        classifier: Classifies,
        store: ExplanationStore | None,
        keep_hours: float,
        limits: Limits,
        dropped: Callable[[int], None],
        now_us: Callable[[], int] = system_us,
    ) -> None:
        self._classifier = classifier
        self._store = store
        self._keep_us = round(keep_hours * _HOUR_US)
        self._limits = limits
        self._dropped = dropped
        self._now_us = now_us
        self._waiting: deque[_Given] = deque()
        self._part: list[_Given] = []  # what is being written
        self._writing: asyncio.Task[None] | None = None

    async def classify(
        self, tenant: str, texts: Sequence[str], tasks: Sequence[str], options: Options
    ) -> list[Classification]:
        """Labels messages, and lays aside what came of them."""
        if not self._keep_us or not options.request_ids:
            return await self._classifier.classify(tenant, texts, tasks, options)
        check_options(options, self._limits)
        # All that voted, also where the caller wants to see fewer.
        whole = await self._classifier.classify(tenant, texts, tasks, replace(options, neighbor_limit=None))
        room = max(0, MAX_WAITING - len(self._waiting) - len(self._part))
        now = self._now_us()
        kept = map(_without_texts, whole[:room]) if options.with_texts else whole[:room]
        self._waiting.extend(_Given(tenant, now, one) for one in kept)
        if len(whole) > room:
            self._dropped(len(whole) - room)
        if self._writing is None or self._writing.done():
            with no_deadline():  # that of the call which is answered is not its own
                self._writing = asyncio.create_task(self._write())
        return [_cut(one, options.neighbor_limit) for one in whole]

    async def get(self, tenant: str, request_id: str) -> Explanation:
        """What an answer was made of.

        Args:
            tenant: Whose it is.
            request_id: What it is known by.

        Raises:
            ExplanationNotFound: It is not known, or not any more.
            StoreUnavailable: The store did not answer.
        """
        stored = await self._store.get(tenant, request_id) if self._store else None
        for one in (*self._part, *self._waiting):  # it may still be on its way
            if (one.tenant, one.answer.request_id) == (tenant, request_id):
                stored = self._stored(one)
        if stored is None or stored.expires_us <= self._now_us():
            hours = self._keep_us / _HOUR_US
            raise ExplanationNotFound(
                f"nothing is known of this request; answers are kept for {hours:g} hours, which `explain_hours` sets",
                field="request_id",
            )
        return Explanation(stored.time_us, stored.expires_us, _ANSWER.validate_json(stored.body))

    async def prune(self) -> None:
        """Forgets what was kept long enough.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        if self._store:
            await self._store.prune(self._now_us())

    async def settle(self) -> None:
        """Returns when all that waits is written, or dropped."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        while self._waiting and self._store:
            self._part = [self._waiting.popleft() for _ in range(min(_ANSWERS_A_WRITE, len(self._waiting)))]
            try:
                await self._store.put([self._stored(one) for one in self._part])
            except Exception as error:  # noqa: BLE001 - whatever it is, the next ones are to be kept
                self._dropped(len(self._part))
                _log.warning("explanations_not_kept", count=len(self._part), exc_info=error)
            finally:
                self._part = []

    def _stored(self, given: _Given) -> StoredExplanation:
        body = _ANSWER.dump_json(given.answer, exclude=_LEFT_OUT).decode()
        end_us = given.time_us + self._keep_us
        return StoredExplanation(given.tenant, given.answer.request_id, given.time_us, end_us, body)


def _without_texts(answer: Classification) -> Classification:
    """What waits is to be small, and is kept without texts anyhow."""
    bare = tuple(
        replace(one, neighbors=tuple(replace(neighbor, text="") for neighbor in one.neighbors))
        for one in answer.predictions
    )
    return replace(answer, predictions=bare)


def _cut(answer: Classification, limit: int | None) -> Classification:
    if limit is None:
        return answer
    fewer = tuple(replace(one, neighbors=one.neighbors[:limit]) for one in answer.predictions)
    return replace(answer, predictions=fewer)
