"""Micro-batching: what is waiting goes to the encoder together; what comes to an idle encoder goes at once."""

import asyncio
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nearvote.access.flow import FLOW, Flow, Shares
from nearvote.deadline import within_deadline
from nearvote.embedding.encoder import Encoder, Matrix, Tokens
from nearvote.embedding.turns import Encoded, Turns, Waiting
from nearvote.errors import Overloaded
from nearvote.priority import ENCODING, ENCODING_SHORT, give_way

# What a batch costs at most (`EncoderSpec.cost`). On two cores such a batch takes some 20 ms; with four times as many
# tokens the encoder does no more, and who comes meanwhile waits for longer.
MAX_BATCH_TOKENS = 256
# A GPU is not full with less.
CUDA_BATCH_TOKENS = 32_768
# Tokens of requests that are not done yet, of which one client alone has half: ten seconds' work for two cores.
MAX_QUEUED_TOKENS = 262_144
# A window of more tokens than this is long: on one core it takes longer than anybody wants to wait for a short one.
_LONG = 128
_SOONEST_RETRY = 0.1  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    items: list[Waiting]  # all long, or none
    started: float

    @property
    def is_long(self) -> bool:
        return self.items[0].is_long


@dataclass(frozen=True, slots=True)
class EncodedWindows:
    """Vectors of windows, and what they waited for.

    Attributes:
        vectors: (n, dimension) float32, rows of length 1.
        queue_seconds: From the call until the encoder took the first of them.
        embed_seconds: From then until the last of them was done.
    """

    vectors: Matrix
    queue_seconds: float
    embed_seconds: float


class Batcher:
    """One queue before one encoder.

    Clients take turns, and each one's requests among themselves: the oldest window of the one whose turn it is always
    goes next, so a short message waits for as many batches as there are requests, not for all windows of a long mail
    before it. The next ones go with it; those of like length where the encoder fills windows up to the longest, since a
    batch then costs as much as its longest window times their number.

    What would not fit into the queue, or not be done in time, is refused at once; a flow that can wait is held back.

    Threads of its own take the batches: they need not wait for an event loop that is at work on what came before. A
    batch that nothing is beside or behind has all cores; of several at a time each has one. With `express`, windows are
    long or short, and a batch is of one kind: while all workers are at long ones, and only then, one thread more takes
    the short ones that come, a core for each batch, which the operating system takes from the long ones as the less
    urgent. Without it a short window waits for its turn, and may be in a batch with a long one.

    Args:
        encoder: Its `encode` is called by these threads.
        max_batch_tokens: What a batch costs (`EncoderSpec.cost`), at most, special tokens included where windows are
            packed; a window above it goes alone.
        workers: Batches that are encoded at a time, but for one of short windows with `express`.
        express: Whether short windows pass long ones in the encoder.
        max_queued_tokens: Tokens of requests that are not done yet, at most; clients share them (`Shares`).
    """

    def __init__(
        self,
        encoder: Encoder,
        max_batch_tokens: int = MAX_BATCH_TOKENS,
        *,
        workers: int = 1,
        express: bool = False,
        max_queued_tokens: int = MAX_QUEUED_TOKENS,
    ) -> None:
        self._encoder = encoder
        self._workers = workers
        self._express = express
        held = threading.RLock()  # while any of what follows is changed
        self._queue = threading.Condition(held)
        self._passing = threading.Condition(held)
        self._turns = Turns(encoder, max_batch_tokens)
        self._waited = {True: 0.0, False: 0.0}  # seconds that the last batch had waited, of long windows and of others
        self._room = Shares(max_queued_tokens)
        self._held_back: deque[asyncio.Future[None]] = deque()
        self._under_way: list[_Batch] = []
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def stalled_seconds(self) -> float:
        """For how long the encoder has been at the oldest of its batches; 0 when it has none."""
        begun = [batch.started for batch in [*self._under_way]]  # a copy: other threads change it
        return time.perf_counter() - min(begun) if begun else 0.0

    @property
    def depth(self) -> int:
        """Windows that wait. May be read from any thread."""
        return self._turns.depth

    @property
    def queued_tokens(self) -> int:
        """Tokens of requests that are not done yet. May be read from any thread."""
        return self._room.taken

    async def encode(self, windows: Sequence[Tokens]) -> EncodedWindows:
        """Encodes windows together with whatever else waits.

        Args:
            windows: Token ids, 1 to the encoder's `window_tokens` each.

        Returns:
            Their vectors, in the order given.

        Raises:
            Overloaded: There is no room in the queue, or no time until the caller's deadline.
            RuntimeError: The batcher is closed.
        """
        if self._closed:
            raise RuntimeError("the batcher is closed")
        if not windows:
            return EncodedWindows(np.empty((0, self._encoder.spec.dimension), dtype=np.float32), 0.0, 0.0)
        flow, tokens = FLOW.get(), sum(map(len, windows))
        await self._make_room(flow, tokens, self._wait_seconds(windows))
        try:
            return await self._encode(flow.key, windows)
        finally:
            self._room.give(flow.key, tokens)
            while self._held_back:  # whoever is first takes what it needs
                held = self._held_back.popleft()
                if not held.done():
                    held.set_result(None)

    def _is_long(self, window: Tokens) -> bool:
        return self._express and len(window) > _LONG

    def _wait_seconds(self, windows: Sequence[Tokens]) -> float:
        """How long a request would wait now: as long as those of the batch of its kind that was taken last."""
        long = any(map(self._is_long, windows))
        return self._waited[long] if self._turns.has(long=long) else 0.0

    async def _make_room(self, flow: Flow, tokens: int, wait: float) -> None:
        if within_deadline(wait) < wait:
            raise Overloaded(
                f"a message of such length waits for {wait:.1f} s now, and the call's deadline is before that: come "
                "again later",
                retry_seconds=max(_SOONEST_RETRY, wait),
            )
        while not self._room.take(flow.key, tokens):
            if not flow.waits:
                raise Overloaded(
                    "as much as one client may have in the queue waits already: come again later, or use a stream, "
                    "which is held back instead",
                    retry_seconds=max(_SOONEST_RETRY, wait),
                )
            held = asyncio.get_running_loop().create_future()
            self._held_back.append(held)
            await held

    async def _encode(self, flow: str, windows: Sequence[Tokens]) -> EncodedWindows:
        loop = asyncio.get_running_loop()
        request = object()
        waiting = [
            Waiting(window, self._is_long(window), loop.create_future(), request, i == 0)
            for i, window in enumerate(windows)
        ]
        with self._queue:
            self._turns.add(flow, waiting)
            self._tell()
        if not self._threads:
            self._start(loop)
        try:
            # Nearly every message is one window, and `gather` costs more than all else here.
            many = len(waiting) > 1
            encoded = await asyncio.gather(*(item.done for item in waiting)) if many else [await waiting[0].done]
        except BaseException:
            for item in waiting:  # whoever is gone is not encoded
                item.done.cancel()
            with self._queue:
                self._turns.drop_gone()
            raise
        started = min(item.started for item in encoded)
        return EncodedWindows(
            np.stack([item.vector for item in encoded]),
            started - waiting[0].since,
            max(item.finished for item in encoded) - started,
        )

    async def close(self) -> None:
        """Stops; whoever waits is cancelled."""
        with self._queue:
            self._closed = True
            left = [*self._turns.each(), *(item for batch in self._under_way for item in batch.items)]
            self._queue.notify_all()
            self._passing.notify_all()
        for held in self._held_back:
            held.cancel()
        for item in left:
            item.done.cancel()
        with self._queue:
            self._turns.drop_gone()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)  # the batch under way can't be called back

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        work = [functools.partial(self._work, loop, self._queue, self._turns.take, ENCODING)] * self._workers
        if self._express:
            work.append(functools.partial(self._work, loop, self._passing, self._take_passing, ENCODING_SHORT))
        for number, own in enumerate(work):
            thread = threading.Thread(target=own, name=f"encoder-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        called: threading.Condition,
        take: Callable[[], list[Waiting]],
        niceness: int,
    ) -> None:
        give_way(niceness)  # taking calls, and refusing what is too much, can't wait for a batch's end
        while True:
            with self._queue:
                while not self._closed and not (items := take()):
                    called.wait()
                if self._closed:
                    return
                batch = _Batch(items, time.perf_counter())
                self._under_way.append(batch)
                alone = len(self._under_way) == 1 and not self._turns.depth
                if new := [batch.started - item.since for item in items if item.is_first]:
                    self._waited[batch.is_long] = max(new)
                if self._turns.depth:
                    self._tell()  # there is work for another
            try:
                vectors = self._encoder.encode([item.window for item in items], alone=alone)
                finished = time.perf_counter()
                encoded = [
                    (item.done, Encoded(vector, batch.started, finished))
                    for item, vector in zip(items, vectors, strict=True)
                ]
                tell = functools.partial(_set_results, encoded)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                tell = functools.partial(_set_error, items, error)
                self._drop_requests_of(items)
            with self._queue:
                self._under_way.remove(batch)
            with contextlib.suppress(RuntimeError):  # the loop is gone, and all who waited with it
                loop.call_soon_threadsafe(tell)

    @property
    def _all_at_long(self) -> bool:
        return sum(batch.is_long for batch in self._under_way) == self._workers

    def _tell(self) -> None:
        """Wakes who may take what waits; whoever is at work looks for more before it waits."""
        (self._passing if self._all_at_long else self._queue).notify()

    def _take_passing(self) -> list[Waiting]:
        return self._turns.take_short() if self._all_at_long else []

    def _drop_requests_of(self, batch: Sequence[Waiting]) -> None:
        """Leaves out the other windows of requests that have failed."""
        failed = {id(item.request) for item in batch}
        with self._queue:
            self._turns.keep(lambda item: id(item.request) not in failed)


def _set_results(encoded: Sequence[tuple[asyncio.Future[Encoded], Encoded]]) -> None:
    for done, result in encoded:
        if not done.done():
            done.set_result(result)


def _set_error(batch: Sequence[Waiting], error: Exception) -> None:
    for item in batch:
        if not item.done.done():
            item.done.set_exception(error)
