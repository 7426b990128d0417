"""Whose window goes to the encoder next."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from nearvote.embedding.encoder import EncoderSpec, Matrix, Tokens
from nearvote.embedding.turns import Turns, Waiting


class Measures:
    """An encoder that is asked for nothing but what batches cost it."""

    spec = EncoderSpec("measures", "0" * 64, 1, "first", 256, "f", "fake")
    window_tokens = 256

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        raise NotImplementedError


@pytest.fixture
async def turns() -> Turns:
    """Turns of one window each."""
    return Turns(Measures(), max_batch_tokens=1)


def _add(turns: Turns, flow: str, *tokens: int, long: bool = False) -> list[Waiting]:
    future = asyncio.get_running_loop().create_future
    request = object()
    windows = [Waiting(np.array([token], np.int32), long, future(), request, i == 0) for i, token in enumerate(tokens)]
    turns.add(flow, windows)
    return windows


def _token(batch: list[Waiting]) -> int:
    (item,) = batch
    return int(item.window[0])


async def test_to_be_passed_costs_no_turn(turns: Turns) -> None:
    """A client whose short windows pass keeps its place among those with long ones."""
    _add(turns, "both", 1, long=True)
    for flow in ("b", "c"):
        _add(turns, flow, 2, 3, 4, 5, long=True)
    for token in (6, 7):
        _add(turns, "both", token)
        assert _token(turns.take_short()) == token
    assert _token(turns.take()) == 1


async def test_clients_take_turns_to_pass(turns: Turns) -> None:
    """Who passed longest ago is next; who comes anew waits behind those that were there."""
    _add(turns, "many", 1, 2, 3)
    _add(turns, "few", 4)
    taken = [_token(turns.take_short()) for _ in range(2)]
    _add(turns, "new", 5)
    taken += [_token(turns.take_short()) for _ in range(3)]
    assert taken == [1, 4, 2, 5, 3]
    assert turns.take_short() == []


async def test_only_heads_of_requests_pass(turns: Turns) -> None:
    """A short window behind a long one of its request waits for that; one of another request does not."""
    _add(turns, "a", 1, long=True)
    assert turns.take_short() == []
    _add(turns, "a", 2)
    assert _token(turns.take_short()) == 2


async def test_what_waits_is_counted_by_its_length(turns: Turns) -> None:
    """Long windows and others are counted apart, as they come, are taken, and are not wanted any more."""
    long = _add(turns, "a", 1, 2, long=True)
    _add(turns, "a", 3)
    assert (turns.depth, turns.has(long=True), turns.has(long=False)) == (3, True, True)
    turns.take_short()
    assert (turns.depth, turns.has(long=True), turns.has(long=False)) == (2, True, False)
    for item in long:
        item.done.cancel()
    turns.drop_gone()
    assert (turns.depth, turns.has(long=True), turns.has(long=False)) == (0, False, False)
    assert turns.take() == []
