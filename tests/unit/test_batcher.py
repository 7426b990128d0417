import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest

from nearvote.access.flow import FLOW, Flow
from nearvote.deadline import set_deadline
from nearvote.embedding.batcher import Batcher, EncodedWindows
from nearvote.embedding.encoder import EncoderSpec, Matrix, Tokens
from nearvote.embedding.turns import LOOKAHEAD
from nearvote.errors import Overloaded

_T = TypeVar("_T")
_PATIENCE_SECONDS = 5.0  # never waited for by a test that passes


class Gated:
    """An encoder that notes its batches, and encodes only while its gate is open."""

    def __init__(self) -> None:
        self.spec = EncoderSpec("gated", "0" * 64, 2, "first", 64, "f", "fake")
        self.window_tokens = 64
        self.gate = threading.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.batches: list[list[list[int]]] = []
        self.alone: list[bool] = []
        self.niceness: list[int] = []
        self.failure: Exception | None = None
        self.left_out = 0
        self._loop = asyncio.get_running_loop()

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        self.batches.append([window.tolist() for window in windows])
        self.alone.append(alone)
        self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.gate.wait(_PATIENCE_SECONDS), "nobody opened the gate"
        if self.failure:
            raise self.failure
        return np.array([self.vector(int(window[0])) for window in windows[self.left_out :]])

    @staticmethod
    def vector(token: int) -> Matrix:
        """(2,): what a window that begins with this token becomes."""
        return np.array([np.cos(token), np.sin(token)], dtype=np.float32)


def _window(token: int, length: int = 1) -> Tokens:
    return np.full(length, token, dtype=np.int32)


def _firsts(batch: list[list[int]]) -> list[int]:
    return [window[0] for window in batch]


async def _soon(awaited: Awaitable[_T]) -> _T:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return await awaited


async def _all(*tasks: asyncio.Task[EncodedWindows]) -> None:
    """Waits until all are done, however they end."""
    _, pending = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
    assert pending == set()


@pytest.fixture
async def gated() -> Gated:
    """An encoder that waits to be let through; open at first."""
    return Gated()


@pytest.fixture
async def batcher(gated: Gated) -> AsyncIterator[Batcher]:
    """A batcher of small batches, closed after the test."""
    batcher = Batcher(gated, max_batch_tokens=12)
    yield batcher
    gated.gate.set()
    await batcher.close()


@pytest.fixture
async def busy(gated: Gated, batcher: Batcher) -> asyncio.Task[EncodedWindows]:
    """Keeps the encoder busy with the window 0 until the gate is opened."""
    gated.gate.clear()
    task = asyncio.create_task(batcher.encode([_window(0)]))
    await gated.entered.wait()
    return task


async def _queued(batcher: Batcher, *requests: Sequence[Tokens]) -> list[asyncio.Task[EncodedWindows]]:
    tasks = [asyncio.create_task(batcher.encode(windows)) for windows in requests]
    await asyncio.sleep(0)  # lets them join the queue
    assert sum(map(len, requests)) <= batcher.depth
    return tasks


async def test_what_comes_to_an_idle_encoder_goes_at_once(
    gated: Gated, batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes to an idle encoder goes at once: alone, and without a timer having been set."""
    timers: list[object] = []
    call_at: Callable[..., asyncio.TimerHandle] = asyncio.get_running_loop().call_at

    def watched(*args: object, **kwargs: object) -> asyncio.TimerHandle:
        timers.append(args)
        return call_at(*args, **kwargs)

    async with asyncio.timeout(_PATIENCE_SECONDS):
        monkeypatch.setattr(asyncio.get_running_loop(), "call_at", watched)
        await batcher.encode([_window(1)])
        await batcher.encode([_window(2)])
    assert gated.batches == [[[1]], [[2]]]
    assert timers == []


async def test_calls_go_before_encoding(gated: Gated, batcher: Batcher) -> None:
    """What encodes is less urgent than what takes calls, and refuses them where they are too many."""
    await _soon(batcher.encode([_window(1)]))
    assert gated.niceness > [os.getpriority(os.PRIO_PROCESS, os.getpid())]


@pytest.mark.usefixtures("busy")
async def test_what_waits_goes_together(gated: Gated, batcher: Batcher) -> None:
    """Windows of several requests that wait for the encoder go to it together."""
    tasks = await _queued(batcher, [_window(1)], [_window(2), _window(3)], [_window(4)])
    gated.gate.set()
    await _all(*tasks)
    assert gated.batches == [[[0]], [[1], [2], [3], [4]]]


@pytest.mark.usefixtures("busy")
async def test_results_are_in_the_order_asked(gated: Gated, batcher: Batcher) -> None:
    """Everybody gets the vectors of his own windows in his order, however they were batched."""
    requests = [[_window(10 * r + i, 1 + (5 * i + r) % 7) for i in range(5)] for r in range(4)]
    tasks = await _queued(batcher, *requests)
    gated.gate.set()
    await _all(*tasks)
    for request, task in zip(requests, tasks, strict=True):
        expected = np.stack([gated.vector(int(window[0])) for window in request])
        np.testing.assert_array_equal(expected, task.result().vectors)


@pytest.mark.usefixtures("busy")
async def test_the_budget_of_padded_tokens(gated: Gated, batcher: Batcher) -> None:
    """No batch has more padded tokens than the budget, but for a window that is above it alone."""
    lengths = [4, 1, 7, 4, 2, 12, 3, 1, 20, 6, 5, 1, 4]
    tasks = await _queued(batcher, *([_window(i + 1, length)] for i, length in enumerate(lengths)))
    gated.gate.set()
    await _all(*tasks)
    sizes = [max(map(len, batch)) * len(batch) for batch in gated.batches]
    assert [size for size in sizes if size > 12] == [20]
    assert max(map(len, gated.batches)) > 1
    assert sorted(range(len(lengths) + 1)) == sorted(first for batch in gated.batches for first in _firsts(batch))


@pytest.mark.usefixtures("busy")
async def test_windows_of_like_length_go_together(gated: Gated, batcher: Batcher) -> None:
    """Of the windows that wait behind the oldest, those nearest to it in length go with it."""
    tasks = await _queued(batcher, *([_window(i, n)] for i, n in ((1, 4), (2, 1), (3, 4), (4, 1), (5, 3))))
    gated.gate.set()
    await _all(*tasks)
    assert [_firsts(batch) for batch in gated.batches] == [[0], [1, 3, 5], [2, 4]]


async def test_windows_that_are_packed_go_in_order(gated: Gated) -> None:
    """Where nothing is filled up, a batch has as many tokens as the budget allows, of whoever waits longest."""
    gated.spec = replace(gated.spec, packs=True)
    batcher = Batcher(gated, max_batch_tokens=12)
    gated.gate.clear()
    first = asyncio.create_task(batcher.encode([_window(0)]))
    await gated.entered.wait()
    tasks = await _queued(batcher, *[[_window(i, length)] for i, length in enumerate((1, 8, 5, 2, 9), 1)])
    gated.gate.set()
    await _all(first, *tasks)
    await batcher.close()
    assert [_firsts(batch) for batch in gated.batches] == [[0], [1, 2, 4], [3], [5]]


async def test_packed_windows_cost_their_special_tokens(gated: Gated) -> None:
    """Tiny windows that are packed count with what the model wants around each: else hundreds would be one batch."""
    gated.spec, gated.window_tokens = replace(gated.spec, packs=True), 62  # two special ones in 64
    batcher = Batcher(gated, max_batch_tokens=11)
    await batcher.encode([_window(i) for i in range(6)])
    await batcher.close()
    assert [len(batch) for batch in gated.batches] == [3, 3]


@pytest.mark.usefixtures("busy")
async def test_the_oldest_is_never_left_behind(gated: Gated, batcher: Batcher) -> None:
    """Every batch has the oldest window that waits, however many others fit each other better."""
    lengths = [8, *[1] * 20, 7, *[2] * LOOKAHEAD, 6]
    tasks = await _queued(batcher, *([_window(i + 1, length)] for i, length in enumerate(lengths)))
    gated.gate.set()
    await _all(*tasks)
    waiting = list(range(len(lengths) + 1))
    for batch in gated.batches:
        assert waiting[0] in _firsts(batch)
        waiting = [i for i in waiting if i not in _firsts(batch)]
    assert waiting == []


@pytest.mark.usefixtures("busy")
async def test_requests_take_turns(gated: Gated, batcher: Batcher) -> None:
    """A short message behind two long mails waits for a batch of each, not for all of their windows."""
    mails = [[_window(100 * mail + i, 12) for i in range(1, 21)] for mail in (1, 2)]
    tasks = await _queued(batcher, *mails, [_window(7)])
    gated.gate.set()
    await _all(*tasks)
    assert [_firsts(batch) for batch in gated.batches[:5]] == [[0], [101], [201], [7], [102]]


@pytest.mark.usefixtures("busy")
async def test_a_cancelled_request_is_not_encoded(gated: Gated, batcher: Batcher) -> None:
    """Windows of a request that was cancelled while it waited never reach the encoder."""
    first, gone, last = await _queued(batcher, [_window(1)], [_window(2), _window(3)], [_window(4)])
    gone.cancel()
    await _all(gone)
    gated.gate.set()
    await _all(first, last)
    assert [_firsts(batch) for batch in gated.batches] == [[0], [1, 4]]
    assert batcher.depth == 0


async def test_a_request_cancelled_in_the_encoder_harms_nobody(
    gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]
) -> None:
    """A request that is cancelled while it is encoded takes no other along."""
    (waiting,) = await _queued(batcher, [_window(1)])
    busy.cancel()
    gated.gate.set()
    np.testing.assert_array_equal([gated.vector(1)], (await _soon(waiting)).vectors)
    assert busy.cancelled()


async def test_a_failing_encoder(gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]) -> None:
    """A failure goes to those whose windows were in the batch, and the batcher goes on."""
    gated.failure = ArithmeticError("broken")
    one, other = await _queued(batcher, [_window(1, 12)], [_window(2, 12), _window(3)])
    gated.gate.set()
    await _all(busy, one, other)
    assert [task.exception() for task in (busy, one, other)] == [gated.failure] * 3
    gated.failure = None
    np.testing.assert_array_equal([gated.vector(5)], (await _soon(batcher.encode([_window(5)]))).vectors)


async def test_an_encoder_that_leaves_out_vectors(
    gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]
) -> None:
    """Too few vectors are a failure like any other: nobody gets another's, and the batcher goes on."""
    gated.left_out = 1
    tasks = [busy, *await _queued(batcher, [_window(1)], [_window(2)])]
    gated.gate.set()
    await _all(*tasks)
    assert [task.exception() is None for task in tasks] == [False] * 3
    gated.left_out = 0
    np.testing.assert_array_equal([gated.vector(5)], (await _soon(batcher.encode([_window(5)]))).vectors)


async def test_the_rest_of_a_failed_request(gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]) -> None:
    """When some windows of a request have failed, the encoder is not kept busy with all the others."""
    gated.failure = ArithmeticError("broken")
    (failing,) = await _queued(batcher, [_window(i, 12) for i in range(1, 9)])
    gated.gate.set()
    await _all(busy, failing)
    assert failing.exception() is gated.failure
    gated.failure = None
    await _soon(batcher.encode([_window(9)]))
    assert [8] not in [_firsts(batch) for batch in gated.batches]


async def test_no_windows_need_no_encoder(gated: Gated, batcher: Batcher) -> None:
    """A request without windows gets no vectors, of the right dimension, and wakes nobody."""
    encoded = await batcher.encode([])
    assert encoded.vectors.shape == (0, 2)
    assert (encoded.queue_seconds, encoded.embed_seconds) == (0.0, 0.0)
    assert gated.batches == []


async def test_times_are_of_the_request(gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]) -> None:
    """Time before the encoder took a request is the queue's, time after that the encoder's."""
    (waiting,) = await _queued(batcher, [_window(1)])
    queued = time.perf_counter()
    held = time.perf_counter() - queued
    gated.gate.set()
    await _all(busy, waiting)
    first, second = busy.result(), waiting.result()
    assert first.embed_seconds >= held
    assert second.queue_seconds >= held
    assert min(held, first.queue_seconds, second.embed_seconds) > 0


async def test_closing_cancels_who_waits(gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]) -> None:
    """Closing cancels what is encoded and what waits."""
    (waiting,) = await _queued(batcher, [_window(1)])
    gated.gate.set()
    await batcher.close()
    await _all(busy, waiting)
    assert (busy.cancelled(), waiting.cancelled()) == (True, True)
    assert batcher.depth == 0


@pytest.mark.parametrize("used", [False, True])
async def test_a_closed_batcher_refuses(batcher: Batcher, used: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A closed batcher takes no windows, whether or not it was ever used, and can be closed again."""
    if used:
        await _soon(batcher.encode([_window(1)]))
    await batcher.close()
    await batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        await batcher.encode([_window(1)])


async def test_a_stall_is_told(gated: Gated, batcher: Batcher, busy: asyncio.Task[EncodedWindows]) -> None:
    """While a batch is under way the batcher tells for how long; while there is nothing to do it tells 0."""
    assert batcher.stalled_seconds > 0
    gated.gate.set()
    await busy
    await asyncio.sleep(0)
    assert batcher.stalled_seconds == 0


@pytest.mark.usefixtures("busy")
async def test_depth_is_what_waits(gated: Gated, batcher: Batcher) -> None:
    """The depth is the number of windows that wait: not those under way, and not those that nobody waits for."""
    staying, going = await _queued(batcher, [_window(1), _window(2)], [_window(3), _window(4), _window(5)])
    assert batcher.depth == 5
    going.cancel()
    await _all(going)
    assert batcher.depth == 2
    gated.gate.set()
    await _all(staying)
    assert batcher.depth == 0


async def test_several_batches_at_a_time(gated: Gated) -> None:
    """Several workers encode a batch each at a time; everybody has the vectors of his own windows."""
    batcher = Batcher(gated, max_batch_tokens=12, workers=2)
    gated.gate.clear()
    tasks = [asyncio.create_task(batcher.encode([_window(i, 12)])) for i in range(1, 6)]
    for _ in range(100):
        await asyncio.sleep(0.005)
        if len(gated.batches) == 2:
            break
    await asyncio.sleep(0.05)
    assert (len(gated.batches), batcher.depth) == (2, 3), "the others wait for a worker"
    gated.gate.set()
    await _all(*tasks)
    for i, task in enumerate(tasks, start=1):
        np.testing.assert_array_equal([gated.vector(i)], task.result().vectors)
    await batcher.close()
    assert batcher.stalled_seconds == 0


async def test_who_is_alone_is_told(gated: Gated, batcher: Batcher) -> None:
    """A batch is alone when nothing else is encoded or waits; only then may it take all cores."""
    await _soon(batcher.encode([_window(1)]))
    await _soon(batcher.encode([_window(2, 12), _window(3, 12)]))
    assert gated.alone == [True, False, True]


def _as(key: str, *, waits: bool = False, seconds: float | None = None) -> None:
    """What is asked from here on is of this flow, which waits for so long."""
    FLOW.set(Flow(key, waits))
    set_deadline(seconds)


async def _asked(batcher: Batcher, key: str, *windows: Tokens, waits: bool = False) -> asyncio.Task[EncodedWindows]:
    """A request of a flow that has joined the queue, or was refused."""

    async def ask() -> EncodedWindows:
        _as(key, waits=waits)
        return await batcher.encode(windows)

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    return task


@pytest.mark.usefixtures("busy")
async def test_clients_take_turns(gated: Gated, batcher: Batcher) -> None:
    """One request of a client waits for one batch of another client, however many requests that one has."""
    many = [await _asked(batcher, "many", _window(i, 12)) for i in range(1, 21)]
    one = await _asked(batcher, "one", _window(77))
    gated.gate.set()
    await _all(one, *many)
    assert [_firsts(batch) for batch in gated.batches[:4]] == [[0], [1], [77], [2]]


async def test_a_full_queue_refuses(gated: Gated) -> None:
    """A client that has its share of the queue is refused at once and told when to come again; another one is not."""
    batcher = Batcher(gated, max_batch_tokens=12, max_queued_tokens=20)
    gated.gate.clear()
    first = await _asked(batcher, "a", _window(1, 6))
    await gated.entered.wait()
    second = await _asked(batcher, "a", _window(2, 4))
    refused = await _asked(batcher, "a", _window(3, 4))
    other = await _asked(batcher, "b", _window(4, 4))
    with pytest.raises(Overloaded) as told:
        await _soon(refused)
    assert told.value.retry_seconds > 0
    assert batcher.queued_tokens == 14
    gated.gate.set()
    await _all(first, second, other)
    assert batcher.queued_tokens == 0
    np.testing.assert_array_equal([gated.vector(5)], (await _soon(batcher.encode([_window(5, 6)]))).vectors)
    await batcher.close()


async def test_a_stream_is_held_back(gated: Gated) -> None:
    """What can wait is not refused, but asked for its tokens as soon as there is room, in order."""
    batcher = Batcher(gated, max_batch_tokens=12, max_queued_tokens=20)
    gated.gate.clear()
    tasks = [await _asked(batcher, "a", _window(i, 6), waits=True) for i in range(1, 6)]
    await gated.entered.wait()
    assert batcher.queued_tokens == 12, "the other three are not in the queue"
    gated.gate.set()
    await _all(*tasks)
    assert [task.exception() for task in tasks] == [None] * 5
    assert [first for batch in gated.batches for first in _firsts(batch)] == [1, 2, 3, 4, 5]
    await batcher.close()


async def test_what_is_held_back_ends_with_the_batcher(gated: Gated) -> None:
    """Closing cancels those who are held back, too."""
    batcher = Batcher(gated, max_batch_tokens=12, max_queued_tokens=10)
    gated.gate.clear()
    tasks = [await _asked(batcher, "a", _window(i, 6), waits=True) for i in range(1, 3)]
    await gated.entered.wait()
    gated.gate.set()
    await batcher.close()
    await _all(*tasks)
    assert tasks[1].cancelled()


@pytest.mark.usefixtures("busy")
async def test_what_cant_be_done_in_time_is_refused(gated: Gated, batcher: Batcher) -> None:
    """A request whose deadline comes before its turn is refused when it comes, and never encoded."""
    behind = await _queued(batcher, [_window(1, 12)], [_window(2, 12)])
    await asyncio.sleep(0.05)
    gated.gate.set()
    await _all(behind[0])
    gated.gate.clear()
    waiting = await _queued(batcher, [_window(3, 12)], [_window(4, 12)])
    _as("late", seconds=0.01)
    with pytest.raises(Overloaded, match="deadline"):
        await batcher.encode([_window(9)])
    _as("early", seconds=60)
    early = asyncio.create_task(batcher.encode([_window(8)]))
    gated.gate.set()
    await _all(*waiting, early, *behind)
    assert 9 not in {first for batch in gated.batches for first in _firsts(batch)}
    _as("late", seconds=0.04)
    await batcher.encode([_window(10)])  # for nothing waits any more
