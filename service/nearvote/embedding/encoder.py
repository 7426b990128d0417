"""What an encoder is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nearvote.text.clean import TEXT_VERSION

Tokens = npt.NDArray[np.int32]  # (n,) token ids of one text or window, without the model's special tokens
Matrix = npt.NDArray[np.float32]  # (n, dimension), rows of length 1


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What makes two vectors comparable, and what computes them.

    Attributes:
        model: Hub id, folder name, or `hashing`.
        revision: SHA-256 of the weights, in hexadecimal.
        dimension: Length of a vector.
        pooling: How token vectors become one.
        max_tokens: Longest input in tokens, special tokens included.
        fingerprint: Hash of all of the model's files that decide a vector: weights, tokenizer, configuration.
        engine: What computes it; not part of its identity.
        label_agreement: Share of examples that have the same label as in full precision, in [0, 1]; measured when the
            model was made smaller, 1 for one in full precision. Not part of its identity.
        packs: Whether it takes the windows of a batch end to end: what a batch costs is then the sum of their tokens,
            not their number times the longest. Not part of its identity.
    """

    model: str
    revision: str
    dimension: int
    pooling: str
    max_tokens: int
    fingerprint: str
    engine: str
    label_agreement: float = 1.0
    packs: bool = False

    @property
    def key(self) -> str:
        """16 hexadecimal digits, equal for specs whose vectors may be compared."""
        identity = f"{self.fingerprint}|{self.dimension}|{self.pooling}|{self.max_tokens}|text {TEXT_VERSION}"
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def cost(self, windows: Sequence[Tokens]) -> int:
        """Tokens that a batch of windows takes the encoder, special ones left out, with what fills it up."""
        lengths = [len(window) for window in windows]
        return sum(lengths) if self.packs else len(lengths) * max(lengths, default=0)


class Encoder(Protocol):
    """Turns texts into vectors. Its methods block, and may be called from several threads at a time."""

    @property
    def spec(self) -> EncoderSpec:
        """What it is."""
        ...

    @property
    def window_tokens(self) -> int:
        """Tokens that one window can hold, special tokens not counted; 1 or more."""
        ...

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text, whole, without special tokens; of length 0 for a text without readable tokens."""
        ...

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        """Vectors of windows.

        Args:
            windows: Token ids of each window, 1 to `window_tokens` long.
            alone: Whether it may take all cores: nothing else is being encoded or waits, or only what is short.

        Returns:
            (len(windows), dimension) float32, rows of length 1, in the order given.
        """
        ...


# For models that do not say how much they take: what BERT and its kin were trained on.
DEFAULT_MAX_TOKENS = 512


def normalized(vectors: npt.NDArray[np.floating]) -> Matrix:
    """Scales rows to length 1. (n, dimension) in, (n, dimension) float32 out; rows of zeros stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
