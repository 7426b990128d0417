"""Short windows pass long ones in the encoder."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from nearvote.access.flow import FLOW, Flow
from nearvote.deadline import set_deadline
from nearvote.embedding.batcher import Batcher, EncodedWindows
from nearvote.embedding.encoder import EncoderSpec, Matrix, Tokens
from nearvote.errors import Overloaded
from nearvote.priority import ENCODING, ENCODING_SHORT

_PATIENCE_SECONDS = 5.0  # never waited for by a test that passes
_GRACE_SECONDS = 0.05  # in which what must not happen would
LONG, SHORT = 200, 12  # tokens

Task = asyncio.Task[EncodedWindows]


@dataclass
class Run:
    """A batch in the encoder, which stays there until it is let go."""

    firsts: list[int]
    alone: bool
    niceness: int
    gate: threading.Event = field(default_factory=threading.Event)


class Stage:
    """An encoder that holds each batch until the test lets it go."""

    def __init__(self) -> None:
        self.spec = EncoderSpec("stage", "0" * 64, 1, "first", 256, "f", "fake")
        self.window_tokens = 256
        self.runs: dict[int, Run] = {}  # by each window's token
        self.order: list[int] = []  # first tokens of batches, as they came
        self._came = asyncio.Condition()
        self._loop = asyncio.get_running_loop()

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        firsts = [int(window[0]) for window in windows]
        run = Run(firsts, alone, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        asyncio.run_coroutine_threadsafe(self._note(run), self._loop)
        assert run.gate.wait(_PATIENCE_SECONDS), "nobody let it go"
        return np.array([[window[0]] for window in windows], np.float32)

    async def _note(self, run: Run) -> None:
        async with self._came:
            self.order.append(run.firsts[0])
            self.runs.update(dict.fromkeys(run.firsts, run))
            self._came.notify_all()

    async def at(self, token: int) -> Run:
        """The batch with this window, once it is in the encoder."""
        async with asyncio.timeout(_PATIENCE_SECONDS), self._came:
            await self._came.wait_for(lambda: token in self.runs)
        return self.runs[token]

    async def let_go(self, *tokens: int) -> None:
        for token in tokens:
            (await self.at(token)).gate.set()


@pytest.fixture
async def stage() -> Stage:
    """An encoder in the test's hands."""
    return Stage()


@pytest.fixture
async def batcher(stage: Stage) -> AsyncIterator[Batcher]:
    """Two workers, and one for short windows, each window a batch."""
    batcher = Batcher(stage, max_batch_tokens=1, workers=2, express=True)
    yield batcher
    closing = asyncio.create_task(batcher.close())
    while not closing.done():
        for run in [*stage.runs.values()]:
            run.gate.set()
        await asyncio.sleep(0.001)


async def _asked(batcher: Batcher, *windows: tuple[int, int], key: str = "one", seconds: float | None = None) -> Task:
    """A request of windows, each a token and its length, that is in the queue or refused."""

    async def ask() -> EncodedWindows:
        FLOW.set(Flow(key, waits=False))
        set_deadline(seconds)
        return await batcher.encode([np.full(length, token, np.int32) for token, length in windows])

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    return task


async def test_who_comes_while_all_are_at_long_windows_passes(stage: Stage, batcher: Batcher) -> None:
    """A short window is encoded at once, more urgently; the long ones that came before it keep their turn."""
    first = os.getpriority(os.PRIO_PROCESS, os.getpid())
    tasks = [await _asked(batcher, (token, LONG)) for token in (1, 2, 3)]
    long = await stage.at(1), await stage.at(2)
    tasks.append(await _asked(batcher, (4, SHORT)))
    short = await stage.at(4)
    assert {run.niceness for run in long} == {min(first + ENCODING, 19)}
    assert short.niceness == min(first + ENCODING_SHORT, 19)
    assert not short.alone
    await stage.let_go(4, 1, 3, 2)
    vectors = [(await task).vectors.tolist() for task in tasks]
    assert vectors == [[[1]], [[2]], [[3]], [[4]]]


async def test_who_waits_when_the_last_worker_takes_a_long_one_passes(stage: Stage, batcher: Batcher) -> None:
    """A short window that waits behind a long one passes it when that has got the last worker."""
    tasks = [await _asked(batcher, (1, LONG)), await _asked(batcher, (2, SHORT))]
    await stage.at(1)
    await stage.at(2)
    tasks += [await _asked(batcher, (3, LONG)), await _asked(batcher, (4, SHORT))]
    await stage.let_go(2)
    await stage.at(3)
    await stage.let_go(4, 3, 1)
    await asyncio.gather(*tasks)


async def test_nobody_passes_a_worker_at_short_windows(stage: Stage, batcher: Batcher) -> None:
    """It is soon there for the next short one: a thread more would only take a core from it."""
    task = await _asked(batcher, (1, LONG), (2, SHORT), (3, SHORT))
    await stage.at(1)
    await stage.at(2)
    await asyncio.sleep(_GRACE_SECONDS)
    assert 3 not in stage.runs
    await stage.let_go(1, 2, 3)
    await task


async def test_after_long_windows_workers_take_short_ones(stage: Stage, batcher: Batcher) -> None:
    """Once the long ones are done a short one is a worker's again, and alone has all cores."""
    first = os.getpriority(os.PRIO_PROCESS, os.getpid())
    for round_ in (0, 10):
        long = [await _asked(batcher, (round_ + token, LONG)) for token in (1, 2)]
        await stage.let_go(round_ + 1, round_ + 2)
        await asyncio.gather(*long)
        short = await _asked(batcher, (round_ + 3, SHORT))
        run = await stage.at(round_ + 3)
        assert (run.alone, run.niceness) == (True, min(first + ENCODING, 19))
        await stage.let_go(round_ + 3)
        await short


@pytest.mark.parametrize(("express", "together"), [(True, [2]), (False, [2, 3])])
async def test_long_and_short_windows_are_apart(stage: Stage, express: bool, together: list[int]) -> None:  # noqa: FBT001 - a parameter of the test
    """Where short windows pass long ones, none waits within a long one's batch."""
    batcher = Batcher(stage, max_batch_tokens=400, express=express)
    tasks = [await _asked(batcher, (1, SHORT))]
    await stage.at(1)
    tasks += [await _asked(batcher, (2, LONG)), await _asked(batcher, (3, 100))]
    await stage.let_go(1)
    assert (await stage.at(2)).firsts == together
    await stage.let_go(2, 3)
    await asyncio.gather(*tasks)
    await batcher.close()


async def test_a_deadline_is_held_against_windows_of_like_length(stage: Stage, batcher: Batcher) -> None:
    """Long windows that wait refuse a long one that is in a hurry, and no short one, which need not wait for them."""
    short = [await _asked(batcher, (token, SHORT)) for token in (1, 2, 3)]
    await stage.at(1)
    await stage.at(2)
    await asyncio.sleep(_GRACE_SECONDS)  # so that short ones have waited before
    await stage.let_go(1, 2, 3)
    await asyncio.gather(*short)
    tasks = [await _asked(batcher, (token, LONG)) for token in (4, 5, 6)]
    await stage.at(4)
    await stage.at(5)
    await asyncio.sleep(_GRACE_SECONDS)
    await stage.let_go(4)
    await stage.at(6)
    tasks.append(await _asked(batcher, (7, LONG)))
    tasks.append(await _asked(batcher, (8, SHORT), seconds=_GRACE_SECONDS / 2))
    await stage.at(8)
    with pytest.raises(Overloaded, match="of such length waits"):
        await (await _asked(batcher, (9, LONG), seconds=_GRACE_SECONDS / 2))
    await stage.let_go(5, 6, 7, 8)
    await asyncio.gather(*tasks)


async def test_short_batches_hide_no_stall(stage: Stage, batcher: Batcher) -> None:
    """Workers that hang are told of, though short windows go by."""
    tasks = [await _asked(batcher, (token, LONG)) for token in (1, 2)]
    await stage.at(1)
    await stage.at(2)
    await asyncio.sleep(_GRACE_SECONDS)
    for token in (3, 4):
        short = await _asked(batcher, (token, SHORT))
        await stage.at(token)
        assert batcher.stalled_seconds >= _GRACE_SECONDS
        await stage.let_go(token)
        await short
    await stage.let_go(1, 2)
    await asyncio.gather(*tasks)
