"""Tries policies on live messages, behind the answers: what they would say is compared and counted, and not told."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

import structlog

from nearvote.classify import Answered, Classifier, Options
from nearvote.deadline import no_deadline
from nearvote.tasks.shadows import Shadow, Shadows
from nearvote.tasks.task import Task
from nearvote.voting.prediction import Prediction

# Calls that wait to be tried, at most: their vectors are some kilobytes a message.
MAX_WAITING = 256

_log = structlog.get_logger(__name__)


class Outcome(Enum):
    """What came of a message that a policy was to be tried on."""

    AGREE = "agree"
    DIFFER = "differ"
    DROPPED = "dropped"
    FAILED = "failed"


class Counts(Protocol):
    """Is told what trials come to."""

    def shadowed(self, tenant: str, task: str, outcome: str, count: int) -> None:
        """So many messages had an outcome."""
        ...

    def shadow_changed(self, tenant: str, task: str, of: str, before: str, after: str) -> None:
        """A message would get another label or action, as `of` says."""
        ...


@dataclass(frozen=True, slots=True)
class _Trial:
    """Messages of one call, and the policy to try on them."""

    answered: Answered
    task: Task
    shadow: Shadow
    places: Sequence[int]  # of the messages that are drawn


class Shadowing:
    """Is told of answers, and tries on a share of them what is to be tried, one call after the other.

    Args:
        classifier: Votes.
        shadows: Knows what is tried.
        counts: Is told what it comes to.
    """

    def __init__(self, classifier: Classifier, shadows: Shadows, counts: Counts) -> None:
        self._classifier = classifier
        self._shadows = shadows
        self._counts = counts
        self._waiting: deque[_Trial] = deque()
        self._working: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def answered(self, answered: Answered) -> None:
        """Lays aside what is to be tried. Neither waits nor fails, and drops what there is no room for."""
        tenant, ids = answered.tenant, answered.options.request_ids
        if self._shadows.is_old(tenant) and (self._reading is None or self._reading.done()):
            self._reading = _beside(self._read(tenant))
        known = self._shadows.known(tenant)
        for task in answered.tasks if known else ():
            shadow = known.get(task.name)
            if shadow is None or not shadow.is_of(task):
                continue
            places = [place for place, id_ in enumerate(ids) if is_drawn(id_, shadow.share)]
            if places and len(self._waiting) >= MAX_WAITING:
                self._counts.shadowed(tenant, task.name, Outcome.DROPPED.value, len(places))
            elif places:
                self._waiting.append(_Trial(answered, task, shadow, places))
        if self._waiting and (self._working is None or self._working.done()):
            self._working = _beside(self._work())

    async def settle(self) -> None:
        """Returns when all that waits is tried."""
        under_way = [task for task in (self._working, self._reading) if task is not None]
        await asyncio.gather(*under_way)

    async def _read(self, tenant: str) -> None:
        try:
            await self._shadows.read(tenant)
        except Exception as error:  # noqa: BLE001 - what was read before holds until the next try
            _log.warning("shadows_not_read", exc_info=error)

    async def _work(self) -> None:
        while self._waiting:
            trial = self._waiting.popleft()
            tenant, name = trial.answered.tenant, trial.task.name
            try:
                tried = await self._try(trial)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next ones are to be tried
                self._counts.shadowed(tenant, name, Outcome.FAILED.value, len(trial.places))
                _log.warning("not_shadowed", task=name, exc_info=error)
                continue
            served = trial.answered.tasks.index(trial.task)
            for place, prediction in zip(trial.places, tried, strict=True):
                self._count(tenant, name, trial.answered.predictions[place][served], prediction)

    async def _try(self, trial: _Trial) -> list[Prediction]:
        answered, places = trial.answered, trial.places
        some = replace(
            answered.embedded,
            windows=[answered.embedded.windows[place] for place in places],
            surfaces=[answered.embedded.surfaces[place] for place in places],
        )
        candidate = replace(trial.task, policy=trial.shadow.policy)
        texts = [answered.texts[place] for place in places]
        options = Options(neighbor_limit=0, k=answered.options.k)  # what the caller has overruled is so for both
        judged = await self._classifier.judge(answered.tenant, texts, some, [candidate], options)
        return [prediction for (prediction,) in judged]

    def _count(self, tenant: str, task: str, served: Prediction, tried: Prediction) -> None:
        same = (set(served.labels), served.abstention_reason, served.action) == (
            set(tried.labels),
            tried.abstention_reason,
            tried.action,
        )
        self._counts.shadowed(tenant, task, (Outcome.AGREE if same else Outcome.DIFFER).value, 1)
        for of, say in (("label", _said), ("action", _done)):
            if say(served) != say(tried):
                self._counts.shadow_changed(tenant, task, of, say(served), say(tried))


def is_drawn(request_id: str, share: float) -> bool:
    """Whether an answer belongs to a share of all. The same id always does, on every replica, or never does."""
    drawn = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest())
    return bool(request_id) and drawn < share * 2**64


def _said(prediction: Prediction) -> str:
    """The best label, or why there is none."""
    return prediction.abstention_reason.value if prediction.abstention_reason else prediction.labels[0]


def _done(prediction: Prediction) -> str:
    return prediction.action.value if prediction.action else "none"


def _beside(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    with no_deadline():  # that of the call which is answered is not its own
        return asyncio.create_task(work)
