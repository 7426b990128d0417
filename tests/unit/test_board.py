"""What answers follows what other replicas do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from nearvote import board as module
from nearvote.board import Board
from nearvote.errors import SpaceSwitching
from nearvote.examples.places import Place, Places, Source
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.store import VectorSpace
from nearvote.server import _check_encoder, _check_space
from nearvote.wiring import Parts

A, B = (Place(VectorSpace(key, 4, key), f"examples_{key}", f"state_{key}", Source(key)) for key in "ab")


@dataclass
class Other:
    """What another replica has made active, and how encoders are loaded here."""

    places: Places = field(default_factory=lambda: Places(A))
    may_load: asyncio.Event = field(default_factory=asyncio.Event)
    loaded: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    is_switching: bool = False
    has_encoder: bool = False

    async def prepare(self, source: Source) -> Any:
        self.loaded.append(source.model)
        await self.may_load.wait()

        async def close() -> None:
            self.closed.append(source.model)

        return SimpleNamespace(space=VectorSpace(source.model, 4, source.model), encoder=None, close=close)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Other:
    """Another replica, and what stands on a store without all that."""
    other = Other()

    async def stored_places(_engine: Any) -> Places:
        return other.places

    @contextlib.asynccontextmanager
    async def serving_of(_shared: Any, _encoder: Any, store: QdrantStore) -> AsyncIterator[Any]:
        yield SimpleNamespace(store=store, encoder=None, batcher=SimpleNamespace(stalled_seconds=1.0))  # at work

    monkeypatch.setattr(module, "stored_places", stored_places)
    monkeypatch.setattr(module, "serving_of", serving_of)
    monkeypatch.setattr(Board, "_tell", lambda _self, _serving: None)
    return other


@pytest.fixture
async def board(other: Other) -> AsyncIterator[Board]:
    """A board on which the first space answers."""

    async def rest() -> None:
        pass

    engine: Any = SimpleNamespace(kind="server")
    shared: Any = SimpleNamespace(
        engine=engine, settings=SimpleNamespace(drain_timeout_seconds=0.0), jobs=SimpleNamespace(close=rest)
    )
    board = Board(shared, other.prepare)
    encoder: Any = None
    await board.begin(encoder, QdrantStore(engine, A.examples, A.state))
    yield board
    await board.close()


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_switch_before_the_encoder_is_loaded(board: Board, other: Other) -> None:
    """A switch is seen while the encoder is still being loaded: nothing answers from what is kept up no more."""
    other.places = Places(A, building=B)
    await board.follow(other)
    await _turns()
    assert (other.loaded, board.now.store.collections["examples"]) == (["b"], A.examples)
    other.places = Places(B, former=A)
    following = asyncio.create_task(board.follow(other))
    await _turns()
    with pytest.raises(SpaceSwitching, match="serves elsewhere"):
        _ = board.now
    nothing: Any = None
    parts = Parts(nothing, board, nothing, nothing, nothing, nothing, nothing)
    with pytest.raises(SpaceSwitching):
        await _check_space(parts)
    await _check_encoder(parts)  # which liveness goes by: a restart would not help
    other.may_load.set()
    await following
    assert (other.loaded, board.now.store.collections["examples"]) == (["b"], B.examples)


async def test_encoders_that_are_not_needed(board: Board, other: Other) -> None:
    """An encoder is not loaded beside the one that this process embeds with, and let go of when that is cancelled."""
    other.may_load.set()
    other.places = Places(A, building=B)
    other.has_encoder = True
    await board.follow(other)
    await _turns()
    assert other.loaded == []
    other.has_encoder = False
    await board.follow(other)
    await _turns()
    assert (other.loaded, other.closed) == (["b"], [])
    other.places = replace(other.places, building=None)
    await board.follow(other)
    assert other.closed == ["b"]


async def test_what_is_loaded_ahead(board: Board, other: Other) -> None:
    """An encoder that is loaded ahead can be tried with where its vectors go, until it is cancelled or serves."""
    assert board.ahead is None
    other.places = Places(A, building=B)
    await board.follow(other)
    await _turns()
    assert board.ahead is None, "it is still being loaded"
    other.may_load.set()
    await _turns()
    ahead = board.ahead
    assert ahead is not None
    assert (ahead[0].space, ahead[1]) == (B.space, B)
    other.places = Places(A, building=replace(B, space=VectorSpace("c", 4, "c")))
    await board.follow(other)
    assert board.ahead is None, "something else is built by now"
    await _turns()
    other.places = Places(A)
    await board.follow(other)
    assert board.ahead is None
    other.places = Places(A, building=B)
    await board.follow(other)
    await _turns()
    assert board.ahead is not None
    other.places = Places(B, former=A)
    await board.follow(other)
    assert (board.ahead, board.now.store.collections["examples"]) == (None, B.examples)


async def test_what_was_read_before_a_switch(board: Board, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before this process itself has switched does not undo that."""
    stale = Places(A, building=B)

    async def slow(_engine: Any) -> Places:
        encoder: Any = None
        await board.begin(encoder, QdrantStore(_engine, B.examples, B.state))
        return stale

    monkeypatch.setattr(module, "stored_places", slow)
    await board.follow(other)
    await _turns()
    assert (other.loaded, board.now.store.collections["examples"]) == ([], B.examples)
