"""Tries policies, fits and encoders on live messages, behind the answers: what they would say is counted, not told."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol, TypeAlias

import structlog

from nearvote.access.flow import held_back
from nearvote.classify import Answered, Classifier, Options
from nearvote.deadline import no_deadline
from nearvote.tasks.shadow import Shadow, TriedEncoder
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.task import Task
from nearvote.voting.prediction import Prediction

# Calls that wait to be tried, at most: their vectors are some kilobytes a message.
MAX_WAITING = 256
# The same of those that another encoder is to embed, which takes longer.
MAX_EMBEDDING = 32

_log = structlog.get_logger(__name__)


class Outcome(Enum):
    """What came of a message that something was to be tried on."""

    AGREE = "agree"
    DIFFER = "differ"
    DROPPED = "dropped"
    FAILED = "failed"
    NOT_LOADED = "not_loaded"  # the encoder, in this process


class Counts(Protocol):
    """Is told what trials come to."""

    def shadowed(self, tenant: str, task: str, outcome: str, count: int) -> None:
        """So many messages had an outcome."""
        ...

    def shadow_changed(self, tenant: str, task: str, of: str, before: str, after: str) -> None:
        """A message would get another label or action, as `of` says."""
        ...


class Beside(Protocol):
    """Knows the encoder that is to serve, where this process has it."""

    def has(self, encoder: TriedEncoder) -> bool:
        """Whether an encoder is loaded here."""
        ...

    async def judge(
        self, encoder: TriedEncoder, tenant: str, texts: Sequence[str], tasks: Sequence[Task], options: Options
    ) -> list[tuple[Prediction, ...]] | None:
        """For each text what tasks that serve would say with an encoder; None where it is not, or no longer, here."""
        ...


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Messages of one call that something is tried on."""

    task: Task
    shadow: Shadow
    places: Sequence[int]  # of the messages


@dataclass(frozen=True, slots=True)
class _Trial:
    """One call: a policy or a fit to try on it, or an encoder for as many tasks as ask for it."""

    answered: Answered
    drawn: Sequence[_Drawn]


class Shadowing:
    """Is told of answers, and tries on a share of them what is to be tried, one call after the other.

    Args:
        classifier: Votes.
        shadows: Knows what is tried.
        counts: Is told what it comes to.
        beside: Knows the encoder that is to serve; None where there never is one.
    """

    def __init__(self, classifier: Classifier, shadows: Shadows, counts: Counts, beside: Beside | None = None) -> None:
        self._classifier = classifier
        self._shadows = shadows
        self._counts = counts
        self._beside = beside
        # Each its own: policies and fits are tried in a millisecond, and are not to wait for an encoder.
        self._voting = _Line(MAX_WAITING, lambda trial: self._make(trial, self._by_vectors))
        self._embedding = _Line(MAX_EMBEDDING, lambda trial: self._make(trial, self._by_encoder))
        self._reading: asyncio.Task[None] | None = None

    def answered(self, answered: Answered) -> None:
        """Lays aside what is to be tried. Neither waits nor fails, and drops what there is no room for."""
        tenant, ids = answered.tenant, answered.options.request_ids
        if self._shadows.is_old(tenant) and (self._reading is None or self._reading.done()):
            self._reading = _beside(self._read(tenant))
        known = self._shadows.known(tenant)
        embedded_once: list[_Drawn] = []
        for task in answered.tasks if known else ():
            shadow = known.get(task.name)
            if shadow is None or self._shadows.is_outdated(shadow, task):
                continue
            drawn = _Drawn(task, shadow, [place for place, id_ in enumerate(ids) if is_drawn(id_, shadow.share)])
            if not drawn.places:
                continue
            if shadow.encoder is None:
                self._lay_aside(self._voting, _Trial(answered, [drawn]))
            elif self._beside is None or not self._beside.has(shadow.encoder):
                self._count_all(_Trial(answered, [drawn]), Outcome.NOT_LOADED)
            else:
                embedded_once.append(drawn)
        if embedded_once:
            self._lay_aside(self._embedding, _Trial(answered, embedded_once))

    async def settle(self) -> None:
        """Returns when all that waits is tried."""
        await asyncio.gather(self._voting.settle(), self._embedding.settle())
        if self._reading is not None:
            await self._reading

    async def _read(self, tenant: str) -> None:
        try:
            await self._shadows.read(tenant)
        except Exception as error:  # noqa: BLE001 - what was read before holds until the next try
            _log.warning("shadows_not_read", exc_info=error)

    def _lay_aside(self, line: "_Line", trial: _Trial) -> None:
        if not line.take(trial):
            self._count_all(trial, Outcome.DROPPED)

    async def _make(self, trial: _Trial, judged: "_Judged") -> None:
        tenant = trial.answered.tenant
        try:
            on = [drawn for drawn in trial.drawn if await self._shadows.is_on(tenant, drawn.shadow)]
            trial = replace(trial, drawn=on)
            tried = await judged(trial) if on else []
        except Exception as error:  # noqa: BLE001 - whatever it is, the next ones are to be tried
            self._count_all(trial, Outcome.FAILED)
            _log.warning("not_shadowed", tasks=[drawn.task.name for drawn in trial.drawn], exc_info=error)
            return
        if tried is None:
            self._count_all(trial, Outcome.NOT_LOADED)
            return
        answered = trial.answered
        for drawn, predictions in zip(trial.drawn, tried, strict=True):
            served = answered.tasks.index(drawn.task)
            for place, prediction in zip(drawn.places, predictions, strict=True):
                self._count(tenant, drawn.task.name, answered.predictions[place][served], prediction)

    async def _by_vectors(self, trial: _Trial) -> list[list[Prediction]]:
        answered, (drawn,) = trial.answered, trial.drawn
        some = replace(
            answered.embedded,
            windows=[answered.embedded.windows[place] for place in drawn.places],
            surfaces=[answered.embedded.surfaces[place] for place in drawn.places],
        )
        candidate = drawn.shadow.candidate(drawn.task)
        texts = [answered.texts[place] for place in drawn.places]
        judged = await self._classifier.judge(answered.tenant, texts, some, [candidate], _options(answered))
        return [[prediction for (prediction,) in judged]]

    async def _by_encoder(self, trial: _Trial) -> list[list[Prediction]] | None:
        answered, encoder = trial.answered, trial.drawn[0].shadow.encoder
        if self._beside is None or encoder is None:
            return None
        # A larger share has all of a smaller one: what one task asks for more is judged for the others as well.
        places = max((drawn.places for drawn in trial.drawn), key=len)
        texts, tasks = [answered.texts[place] for place in places], [drawn.task for drawn in trial.drawn]
        judged = await self._beside.judge(encoder, answered.tenant, texts, tasks, _options(answered))
        if judged is None:
            return None
        by_place = dict(zip(places, judged, strict=True))
        return [[by_place[place][i] for place in drawn.places] for i, drawn in enumerate(trial.drawn)]

    def _count_all(self, trial: _Trial, outcome: Outcome) -> None:
        for drawn in trial.drawn:
            self._counts.shadowed(trial.answered.tenant, drawn.task.name, outcome.value, len(drawn.places))

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


_Judged: TypeAlias = Callable[[_Trial], Awaitable[list[list[Prediction]] | None]]  # by task and message; None: not here


class _Line:
    """Trials that wait, and are made one after the other.

    Args:
        most: How many may wait.
        make: Makes one.
    """

    def __init__(self, most: int, make: Callable[[_Trial], Awaitable[None]]) -> None:
        self._most = most
        self._make = make
        self._waiting: deque[_Trial] = deque()
        self._working: asyncio.Task[None] | None = None

    def take(self, trial: _Trial) -> bool:
        """Lays a trial aside, and has it made. Returns whether there was room."""
        if len(self._waiting) >= self._most:
            return False
        self._waiting.append(trial)
        if self._working is None or self._working.done():
            self._working = _beside(self._work())
        return True

    async def settle(self) -> None:
        """Returns when all that waits is made."""
        if self._working is not None:
            await self._working

    async def _work(self) -> None:
        while self._waiting:
            await self._make(self._waiting.popleft())


def is_drawn(request_id: str, share: float) -> bool:
    """Whether an answer belongs to a share of all. The same id always does, on every replica, or never does."""
    drawn = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest())
    return bool(request_id) and drawn < share * 2**64


def _options(answered: Answered) -> Options:
    return Options(neighbor_limit=0, k=answered.options.k)  # what the caller has overruled is so for both


def _said(prediction: Prediction) -> str:
    """The best label, or why there is none."""
    return prediction.abstention_reason.value if prediction.abstention_reason else prediction.labels[0]


def _done(prediction: Prediction) -> str:
    return prediction.action.value if prediction.action else "none"


def _beside(work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    with no_deadline(), held_back():  # those of the call which is answered are not its own
        return asyncio.create_task(work)
