"""Micro-batching: what is waiting goes to the encoder together; what comes to an idle encoder goes at once."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from nearvote.embedding.encoder import Encoder, Matrix, Tokens

# Padded tokens a batch. On two cores such a batch takes some 20 ms; with four times as many the encoder does a sixth
# less, as what it works on no longer stays in the processor's caches.
MAX_BATCH_TOKENS = 256
# A GPU is not full with less.
CUDA_BATCH_TOKENS = 32_768
# How much of the queue is looked at for windows of like length, in windows; more where a batch holds more.
LOOKAHEAD = 256
_SHORTEST = 16  # tokens of a short message


@dataclass(slots=True)
class _Waiting:
    window: Tokens
    done: asyncio.Future["_Encoded"]
    since: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class _Encoded:
    vector: Matrix  # (dimension,)
    started: float
    finished: float


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

    Requests take turns: the oldest window of the one whose turn it is always goes next, so a short message waits for
    as many batches as there are requests, not for all windows of a long mail before it. Windows of like length go with
    it, since a batch costs as much as its longest window times their number.

    Args:
        encoder: Runs in a thread of its own.
        max_batch_tokens: Windows times longest window of a batch, at most; a window above it goes alone.
    """

    def __init__(self, encoder: Encoder, max_batch_tokens: int = MAX_BATCH_TOKENS) -> None:
        self._encoder = encoder
        self._max_batch_tokens = max_batch_tokens
        self._lookahead = max(LOOKAHEAD, max_batch_tokens // _SHORTEST)
        self._requests: deque[deque[_Waiting]] = deque()  # the one whose turn it is first
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self._loop: asyncio.Task[None] | None = None
        self._closed = False
        self._moved = time.perf_counter()  # when a batch last ended, or began to be waited for
        self._busy = False
        # A number of its own: the metrics' thread reads it while the event loop changes the queue.
        self._depth = 0

    @property
    def stalled_seconds(self) -> float:
        """For how long windows have waited without any batch coming to its end; 0 while nothing waits."""
        return time.perf_counter() - self._moved if self._busy else 0.0

    @property
    def depth(self) -> int:
        """Windows that wait. May be read from any thread."""
        return self._depth

    async def encode(self, windows: Sequence[Tokens]) -> EncodedWindows:
        """Encodes windows together with whatever else waits.

        Args:
            windows: Token ids, 1 to the encoder's `window_tokens` each.

        Returns:
            Their vectors, in the order given.

        Raises:
            RuntimeError: The batcher is closed.
        """
        if self._closed:
            raise RuntimeError("the batcher is closed")
        if not windows:
            return EncodedWindows(np.empty((0, self._encoder.spec.dimension), dtype=np.float32), 0.0, 0.0)
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name="batcher")
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(window, loop.create_future()) for window in windows]
        self._requests.append(deque(waiting))
        self._depth += len(waiting)
        self._arrived.set()
        try:
            encoded = await asyncio.gather(*(item.done for item in waiting))
        except BaseException:
            for item in waiting:  # whoever is gone is not encoded
                item.done.cancel()
            self._drop_gone()
            raise
        started = min(item.started for item in encoded)
        return EncodedWindows(
            np.stack([item.vector for item in encoded]),
            started - waiting[0].since,
            max(item.finished for item in encoded) - started,
        )

    async def close(self) -> None:
        """Stops; whoever waits is cancelled."""
        self._closed = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        for item in chain.from_iterable(self._requests):
            item.done.cancel()
        self._drop_gone()
        await asyncio.to_thread(self._thread.shutdown)  # the batch under way can't be called back

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            self._moved = started = time.perf_counter()
            self._busy = bool(batch)
            if not batch:
                self._arrived.clear()
                continue
            try:
                vectors = await loop.run_in_executor(
                    self._thread, self._encoder.encode, [item.window for item in batch]
                )
                encoded = [
                    (item, _Encoded(vector, started, time.perf_counter()))
                    for item, vector in zip(batch, vectors, strict=True)
                ]
            except asyncio.CancelledError:
                for item in batch:
                    item.done.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked, not to the loop
                for item in batch:
                    if not item.done.done():
                        item.done.set_exception(error)
                continue
            for item, result in encoded:
                if not item.done.done():
                    item.done.set_result(result)

    def _take(self) -> list[_Waiting]:
        """Takes a window of the request whose turn it is, and those nearest to it in length that the budget allows."""
        self._drop_gone()
        if not self._requests:
            return []
        own = self._requests[0][0]
        each = max(1, self._lookahead // len(self._requests))
        ahead = [item for request in self._requests for item in islice(request, each)][: self._lookahead]
        ahead.sort(key=lambda item: abs(len(item.window) - len(own.window)))  # stable: the earlier of equals first
        batch: list[_Waiting] = []
        longest = 0
        for item in ahead:
            grown = max(longest, len(item.window))
            if batch and grown * (len(batch) + 1) > self._max_batch_tokens:
                break
            longest = grown
            batch.append(item)
        taken = {id(item) for item in batch}
        for request in self._requests:
            for _ in range(len(request)):  # once around, in order
                item = request.popleft()
                if id(item) not in taken:
                    request.append(item)
        self._requests.rotate(-1)  # the next one's turn
        self._depth -= len(batch)
        return batch

    def _drop_gone(self) -> None:
        """Leaves out windows that nobody waits for any more."""
        pending = (deque(item for item in request if not item.done.done()) for request in self._requests)
        self._requests = deque(request for request in pending if request)
        self._depth = sum(map(len, self._requests))
