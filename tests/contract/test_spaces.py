"""Which vectors are in force: opening a store, and refusing another encoder's."""

from dataclasses import replace

import pytest

from nearvote.examples.engine import Engine
from nearvote.examples.places import Source
from nearvote.examples.spaces import open_store, stored_space
from nearvote.startup_errors import EncoderMismatch
from tests.contract.reindexed import NEW_SPACE, OLD, OLD_SPACE, active, everything, nearest, stored


async def test_creates_and_reopens(engine: Engine) -> None:
    """A store is created where nothing is stored yet, and opened again with what is in it."""
    assert await stored_space(engine) is None
    examples = await stored(engine, ["money for you", "see you later"])
    assert await stored_space(engine) == OLD_SPACE
    again = await open_store(engine, OLD_SPACE)
    assert await everything(again) == examples
    assert await nearest(again, OLD, "money for me") == "money for you"


async def test_the_key_decides(engine: Engine) -> None:
    """An encoder under another name, whose vectors may be compared, opens the store, which notes what loads it now."""
    examples = await stored(engine, ["money for you"])
    renamed = Source("/models/renamed", "a commit")
    assert await everything(await open_store(engine, replace(OLD_SPACE, model="renamed"), source=renamed)) == examples
    assert (await active(engine)).source == renamed


async def test_refuses_another_encoder(engine: Engine) -> None:
    """Another encoder's store is refused in words that name both and the command that embeds again; nothing changes."""
    examples = await stored(engine, ["money for you"])
    before = await engine.collections()
    with pytest.raises(EncoderMismatch, match="`nearvote reindex --model letters`") as caught:
        await open_store(engine, NEW_SPACE)
    assert "hashing" in caught.value.message
    assert await engine.collections() == before
    assert await everything(await open_store(engine, OLD_SPACE)) == examples
