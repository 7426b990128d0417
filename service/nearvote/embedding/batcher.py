"""Micro-batching: what is waiting goes to the encoder together; what comes to an idle encoder goes at once."""

import asyncio
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from nearvote.access.flow import FLOW, Flow, Shares
from nearvote.deadline import within_deadline
from nearvote.embedding.encoder import Encoder, Matrix, Tokens
from nearvote.errors import Overloaded
from nearvote.priority import ENCODING, ENCODING_SHORT, give_way

# What a batch costs at most (`EncoderSpec.cost`). On two cores such a batch takes some 20 ms; with four times as many
# tokens the encoder does no more, and who comes meanwhile waits for longer.
MAX_BATCH_TOKENS = 256
# A GPU is not full with less.
CUDA_BATCH_TOKENS = 32_768
# How much of the queue is looked at for windows of like length, in windows; more where a batch holds more.
LOOKAHEAD = 256
# Tokens of requests that are not done yet, of which one client alone has half: ten seconds' work for two cores.
MAX_QUEUED_TOKENS = 262_144
_SHORTEST = 16  # tokens of a short message
# A window of more tokens than this is long: on one core it takes longer than anybody wants to wait for a short one.
_LONG = 128
_SOONEST_RETRY = 0.1  # seconds


@dataclass(slots=True, eq=False)
class _Waiting:
    window: Tokens
    done: asyncio.Future["_Encoded"]
    request: object  # the same for all windows of a request
    is_first: bool  # of its request
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

    Clients take turns, and each one's requests among themselves: the oldest window of the one whose turn it is always
    goes next, so a short message waits for as many batches as there are requests, not for all windows of a long mail
    before it. The next ones go with it; those of like length where the encoder fills windows up to the longest, since a
    batch then costs as much as its longest window times their number.

    What would not fit into the queue, or not be done in time, is refused at once; a flow that can wait is held back.

    Threads of its own take the batches: they need not wait for an event loop that is at work on what came before. A
    batch that nothing is beside or behind has all cores; of several at a time each has one. With `express`, windows are
    long or short, and a batch is of one kind: while all workers are at long ones, another takes the short ones that
    come, and shares the cores with them as the more urgent.

    Args:
        encoder: Its `encode` is called by these threads.
        max_batch_tokens: What a batch costs (`EncoderSpec.cost`), at most, special tokens included where windows are
            packed; a window above it goes alone.
        workers: Batches that are encoded at a time.
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
        self._max_batch_tokens = max_batch_tokens
        self._lookahead = max(LOOKAHEAD, max_batch_tokens // _SHORTEST)
        self._packs = encoder.spec.packs
        self._framing_tokens = encoder.spec.max_tokens - encoder.window_tokens  # special ones around each window
        self._workers = workers
        self._express = express
        held = threading.RLock()  # while any of what follows is changed
        self._queue = threading.Condition(held)
        self._passing = threading.Condition(held)
        self._flows: dict[str, deque[deque[_Waiting]]] = {}  # requests by flow, those whose turn it is first
        self._depth = 0
        self._waited = 0.0  # how long the requests of the last batch had waited, in seconds
        self._room = Shares(max_queued_tokens)
        self._held_back: deque[asyncio.Future[None]] = deque()
        self._under_way: list[list[_Waiting]] = []
        self._long_under_way = 0
        self._moved = time.perf_counter()  # when a batch last began or ended
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def stalled_seconds(self) -> float:
        """For how long windows have waited without any batch coming to its end; 0 while nothing waits."""
        return time.perf_counter() - self._moved if self._under_way else 0.0

    @property
    def depth(self) -> int:
        """Windows that wait. May be read from any thread."""
        return self._depth

    @property
    def queued_tokens(self) -> int:
        """Tokens of requests that are not done yet. May be read from any thread."""
        return self._room.taken

    @property
    def wait_seconds(self) -> float:
        """How long a request would wait now: as long as those of the batch that was taken last."""
        return self._waited if self._depth else 0.0

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
        await self._make_room(flow, tokens)
        try:
            return await self._encode(flow.key, windows)
        finally:
            self._room.give(flow.key, tokens)
            while self._held_back:  # whoever is first takes what it needs
                held = self._held_back.popleft()
                if not held.done():
                    held.set_result(None)

    async def _make_room(self, flow: Flow, tokens: int) -> None:
        wait = self.wait_seconds
        if within_deadline(wait) < wait:
            raise Overloaded(
                f"a message waits for {wait:.1f} s now, and the call's deadline is before that: come again later",
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
        waiting = [_Waiting(window, loop.create_future(), request, i == 0) for i, window in enumerate(windows)]
        with self._queue:
            self._flows.setdefault(flow, deque()).append(deque(waiting))
            self._depth += len(waiting)
            self._tell()
        if not self._threads:
            self._start(loop)
        try:
            # To gather takes as long as all the rest, and nearly every message is one window.
            many = len(waiting) > 1
            encoded = await asyncio.gather(*(item.done for item in waiting)) if many else [await waiting[0].done]
        except BaseException:
            for item in waiting:  # whoever is gone is not encoded
                item.done.cancel()
            with self._queue:
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
        with self._queue:
            self._closed = True
            left = [*chain.from_iterable(self._each_request()), *chain.from_iterable(self._under_way)]
            self._queue.notify_all()
            self._passing.notify_all()
        for held in self._held_back:
            held.cancel()
        for item in left:
            item.done.cancel()
        with self._queue:
            self._drop_gone()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)  # the batch under way can't be called back

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        work = [functools.partial(self._work, loop, self._queue, self._take, ENCODING)] * self._workers
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
        take: "Callable[[], list[_Waiting]]",
        niceness: int,
    ) -> None:
        give_way(niceness)  # taking calls, and refusing what is too much, can't wait for a batch's end
        while True:
            with self._queue:
                while not self._closed and not (batch := take()):
                    called.wait()
                if self._closed:
                    return
                self._under_way.append(batch)
                is_long = _is_long(batch[0])
                self._long_under_way += is_long
                alone = len(self._under_way) == 1 and not self._depth
                self._moved = started = time.perf_counter()
                if new := [started - item.since for item in batch if item.is_first]:
                    self._waited = max(new)
                if self._depth:
                    self._tell()  # there is work for another
            try:
                vectors = self._encoder.encode([item.window for item in batch], alone=alone)
                finished = time.perf_counter()
                encoded = [
                    (item.done, _Encoded(vector, started, finished))
                    for item, vector in zip(batch, vectors, strict=True)
                ]
                tell = functools.partial(_set_results, encoded)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                tell = functools.partial(_set_error, batch, error)
                self._drop_requests_of(batch)
            with self._queue:
                self._long_under_way -= is_long
                self._under_way.remove(batch)
                self._moved = time.perf_counter()
            with contextlib.suppress(RuntimeError):  # the loop is gone, and all who waited with it
                loop.call_soon_threadsafe(tell)

    def _tell(self) -> None:
        """Wakes who may take what waits."""
        if self._long_under_way < self._workers:
            self._queue.notify()
        else:
            self._passing.notify()

    def _take_passing(self) -> list[_Waiting]:
        return self._take(short_ones=True) if self._long_under_way == self._workers else []

    def _take(self, *, short_ones: bool = False) -> list[_Waiting]:
        """Takes a window of the request whose turn it is, and of those that wait behind it what the budget allows.

        With `short_ones` the turn is that of the first request whose next window is short; there may be none. Those
        that are passed over keep their place.
        """
        self._drop_gone()
        requests_in_turn = ((flow, request) for flow, requests in self._flows.items() for request in requests)
        turn = next((one for one in requests_in_turn if not (short_ones and _is_long(one[1][0]))), None)
        if turn is None:
            return []
        flow, served = turn
        own = served[0]
        each = max(1, self._lookahead // sum(map(len, self._flows.values())))
        ahead = [item for request in self._each_request() for item in islice(request, each)][: self._lookahead]
        if not self._packs:
            ahead.sort(key=lambda item: abs(len(item.window) - len(own.window)))  # stable: the earlier of equals first
        batch = [own]
        longest = len(own.window)
        # Their frames are tokens, too: many tiny windows are not to come to much by them.
        packed = longest + self._framing_tokens
        for item in ahead:
            length = len(item.window)
            framed = length + self._framing_tokens
            cost = packed + framed if self._packs else max(longest, length) * (len(batch) + 1)
            other_kind = self._express and _is_long(item) != _is_long(own)
            if item is own or cost > self._max_batch_tokens or other_kind:
                continue
            longest, packed = max(longest, length), packed + framed
            batch.append(item)
        taken = {id(item) for item in batch}
        for request in self._each_request():
            for _ in range(len(request)):  # once around, in order
                item = request.popleft()
                if id(item) not in taken:
                    request.append(item)
        requests = self._flows.pop(flow)
        requests.remove(served)
        requests.append(served)  # the next one's turn
        self._flows[flow] = requests  # and the next flow's
        self._depth -= len(batch)
        return batch

    def _each_request(self) -> Iterator[deque[_Waiting]]:
        return chain.from_iterable(self._flows.values())

    def _drop_requests_of(self, batch: Sequence[_Waiting]) -> None:
        """Leaves out the other windows of requests that have failed."""
        failed = {id(item.request) for item in batch}
        with self._queue:
            self._keep(lambda item: id(item.request) not in failed)

    def _drop_gone(self) -> None:
        """Leaves out windows that nobody waits for any more."""
        self._keep(lambda item: not item.done.done())

    def _keep(self, wanted: Callable[[_Waiting], bool]) -> None:
        flows = {
            flow: deque(kept for request in requests if (kept := deque(filter(wanted, request))))
            for flow, requests in self._flows.items()
        }
        self._flows = {flow: requests for flow, requests in flows.items() if requests}
        self._depth = sum(map(len, self._each_request()))


def _is_long(item: _Waiting) -> bool:
    return len(item.window) > _LONG


def _set_results(encoded: "Sequence[tuple[asyncio.Future[_Encoded], _Encoded]]") -> None:
    for done, result in encoded:
        if not done.done():
            done.set_result(result)


def _set_error(batch: Sequence[_Waiting], error: Exception) -> None:
    for item in batch:
        if not item.done.done():
            item.done.set_exception(error)
