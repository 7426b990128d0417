"""An encoder without a model: for tests, and for trying the service out where there is none."""

import hashlib
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nearvote.embedding.encoder import EncoderSpec, Matrix, Tokens, normalized

_WORD = re.compile(r"\w+|[^\w\s]")
_DIMENSION = 256
_MAX_TOKENS = 64


class HashingEncoder:
    """The mean of a random direction for each word (a random projection of the bag of words).

    Deterministic on every machine. Texts that share words are near; meaning is unknown to it.
    """

    def __init__(self) -> None:
        self.spec = EncoderSpec(
            model="hashing",
            revision=hashlib.sha256(b"nearvote hashing encoder, version 1").hexdigest(),
            dimension=_DIMENSION,
            pooling="mean",
            max_tokens=_MAX_TOKENS,
            fingerprint="1",
            engine="hashing",
        )
        self.window_tokens = _MAX_TOKENS

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """A 31-bit checksum of each lower-cased word or punctuation mark."""
        return [
            np.array(
                [zlib.crc32(word.encode()) & 0x7FFFFFFF for word in _WORD.findall(text.lower())],
                dtype=np.int32,
            )
            for text in texts
        ]

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:  # noqa: ARG002 - it has no threads
        """(n, 256): the normalized sum of the tokens' directions."""
        sums = [np.sum([_direction(int(token)) for token in window], axis=0) for window in windows]
        return normalized(np.array(sums).reshape(len(windows), _DIMENSION))


@lru_cache(maxsize=20_000)
def _direction(token: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(token).standard_normal(_DIMENSION)
