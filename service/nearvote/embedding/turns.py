"""Whose window goes to the encoder next, and which others with it."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from nearvote.embedding.encoder import Encoder, Matrix, Tokens

# How much of the queue is looked at for windows of like length, in windows; more where a batch holds more.
LOOKAHEAD = 256
_SHORTEST = 16  # tokens of a short message


@dataclass(frozen=True, slots=True)
class Encoded:
    """A window's vector, (dimension,), and when the encoder began and ended with it, by `time.perf_counter`."""

    vector: Matrix
    started: float
    finished: float


@dataclass(slots=True, eq=False)
class Waiting:
    """A window that waits for the encoder.

    Attributes:
        window: Its tokens.
        is_long: Whether it is of those that others may pass.
        done: Has its vector in the end; done before that where nobody waits for it any more.
        request: The same for all windows of a request.
        is_first: Whether it is its request's first.
        since: When it came, by `time.perf_counter`.
    """

    window: Tokens
    is_long: bool
    done: asyncio.Future[Encoded]
    request: object
    is_first: bool
    since: float = field(default_factory=time.perf_counter)


class Turns:
    """Windows that wait, by client and request. One thread at a time may call it.

    Clients take turns, and each one's requests among themselves. Short windows may pass long ones, in turns of their
    own: to be passed costs nobody a turn.

    Args:
        encoder: Tells what a batch costs it.
        max_batch_tokens: What a batch costs (`EncoderSpec.cost`), at most, special tokens included where windows are
            packed; a window above it goes alone.
    """

    def __init__(self, encoder: Encoder, max_batch_tokens: int) -> None:
        self._max_batch_tokens = max_batch_tokens
        self._lookahead = max(LOOKAHEAD, max_batch_tokens // _SHORTEST)
        self._packs = encoder.spec.packs
        self._framing_tokens = encoder.spec.max_tokens - encoder.window_tokens  # special ones around each window
        self._flows: dict[str, deque[deque[Waiting]]] = {}  # requests by flow, those whose turn it is first
        self._tick = itertools.count()
        self._passing_since: dict[str, int] = {}  # the flow with the least has the next turn to pass
        self._depths = {False: 0, True: 0}  # windows that wait, by whether they are long

    @property
    def depth(self) -> int:
        """Windows that wait."""
        return sum(self._depths.values())

    def has(self, *, long: bool) -> bool:
        """Whether long windows wait, or others."""
        return self._depths[long] > 0

    def each(self) -> Iterator[Waiting]:
        """All that wait."""
        return chain.from_iterable(self._each_request())

    def add(self, flow: str, windows: Sequence[Waiting]) -> None:
        """Adds a client's request."""
        if flow not in self._flows:
            self._flows[flow] = deque()
            self._passing_since[flow] = next(self._tick)
        self._flows[flow].append(deque(windows))
        for item in windows:
            self._depths[item.is_long] += 1

    def take(self) -> list[Waiting]:
        """Takes a window of the request whose turn it is, and of those that wait behind it what the budget allows.

        A batch is of long windows or of others. None when nothing waits.
        """
        self.drop_gone()
        if not self._flows:
            return []
        flow, requests = next(iter(self._flows.items()))
        batch = self._with_it(requests, requests[0])
        self._flows[flow] = self._flows.pop(flow)  # the next flow's turn
        return self._taken(batch)

    def take_short(self) -> list[Waiting]:
        """The same, of those alone that are not long: the turn is that of the client who passed longest ago."""
        self.drop_gone()
        passing = {
            flow: request
            for flow, requests in self._flows.items()
            if (request := next((request for request in requests if not request[0].is_long), None)) is not None
        }
        if not passing:
            return []
        flow = min(passing, key=self._passing_since.__getitem__)
        self._passing_since[flow] = next(self._tick)
        return self._taken(self._with_it(self._flows[flow], passing[flow]))

    def _with_it(self, requests: deque[deque[Waiting]], served: deque[Waiting]) -> list[Waiting]:
        """A request's next window, and those that go with it; the next turn is another request's."""
        own = served[0]
        each = max(1, self._lookahead // sum(map(len, self._flows.values())))
        alike = (
            item for request in self._each_request() for item in islice(request, each) if item.is_long == own.is_long
        )
        ahead = list(islice(alike, self._lookahead))
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
            if item is own or cost > self._max_batch_tokens:
                continue
            longest, packed = max(longest, length), packed + framed
            batch.append(item)
        requests.remove(served)
        requests.append(served)
        return batch

    def _taken(self, batch: list[Waiting]) -> list[Waiting]:
        taken = {id(item) for item in batch}
        self.keep(lambda item: id(item) not in taken)
        return batch

    def drop_gone(self) -> None:
        """Leaves out windows that nobody waits for any more."""
        self.keep(lambda item: not item.done.done())

    def keep(self, wanted: Callable[[Waiting], bool]) -> None:
        """Leaves out all other windows."""
        flows: dict[str, deque[deque[Waiting]]] = {}
        for flow, requests in self._flows.items():
            flows[flow] = deque()
            for request in requests:
                kept = deque(filter(wanted, request))
                if kept:
                    flows[flow].append(kept)
                if len(kept) < len(request):
                    for item in itertools.filterfalse(wanted, request):
                        self._depths[item.is_long] -= 1
        self._flows = {flow: requests for flow, requests in flows.items() if requests}
        self._passing_since = {flow: self._passing_since[flow] for flow in self._flows}

    def _each_request(self) -> Iterator[deque[Waiting]]:
        return chain.from_iterable(self._flows.values())
