"""An encoder for work that nobody waits for."""

from collections.abc import Sequence

from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens


class OneCore:
    """Another encoder, which takes one core and leaves the others to those who wait for an answer.

    Args:
        encoder: The other.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def spec(self) -> EncoderSpec:
        """The other's."""
        return self._encoder.spec

    @property
    def window_tokens(self) -> int:
        """The other's."""
        return self._encoder.window_tokens

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of each text."""
        return self._encoder.tokenize(texts)

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        """(n, dimension) float32, rows of length 1; never with all cores."""
        del alone
        return self._encoder.encode(windows, alone=False)
