"""Work that nobody waits for leaves cores to what somebody does wait for."""

from collections.abc import Sequence

import numpy as np

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix, Tokens
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.embedding.one_core import OneCore


class AskingEncoder(HashingEncoder):
    """Notes whether it might have taken all cores."""

    def __init__(self) -> None:
        super().__init__()
        self.was_alone: list[bool] = []

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        self.was_alone.append(alone)
        return super().encode(windows, alone=alone)


async def test_one_core() -> None:
    """The same vectors come of it, with one core also where nothing else is encoded."""
    encoder = AskingEncoder()
    found = []
    for one in (encoder, OneCore(encoder)):
        batcher = Batcher(one)
        found.append((await Embedder(one, batcher).embed(["see you later"])).windows[0])
        await batcher.close()
    assert encoder.was_alone == [True, False]
    assert np.array_equal(found[0], found[1])
    assert (OneCore(encoder).spec, OneCore(encoder).window_tokens) == (encoder.spec, encoder.window_tokens)
