"""A text's views: cleaned, cut into windows and encoded; and its n-grams."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens
from nearvote.text.clean import clean
from nearvote.text.surface import SparseVector, surface_vector
from nearvote.text.windows import window_spans

# Windows of a long text share an eighth of their tokens, so that no sentence of usual length is only ever seen cut.
_OVERLAP_SHARE = 8

# Below this many characters, cleaning and tokenizing take less time than handing them to a thread.
_INLINE_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """Vectors of texts.

    Attributes:
        windows: For each text (windows, dimension) float32, rows of length 1; no rows for a text with nothing to read.
        surfaces: For each text its n-grams.
        clean_seconds: Spent on cleaning, tokenizing, cutting and counting n-grams.
        queue_seconds: Waited for the encoder.
        embed_seconds: Spent in the encoder.
    """

    windows: list[Matrix]
    surfaces: list[SparseVector]
    clean_seconds: float
    queue_seconds: float
    embed_seconds: float


class Embedder:
    """The way from text to vectors, for messages and examples alike.

    Args:
        encoder: Tokenizes.
        batcher: Encodes.
        html: Whether texts with HTML in them are read as a browser would show them.
    """

    def __init__(self, encoder: Encoder, batcher: Batcher, *, html: bool = False) -> None:
        self._encoder = encoder
        self._batcher = batcher
        self._html = html

    @property
    def spec(self) -> EncoderSpec:
        """The encoder's."""
        return self._encoder.spec

    async def embed(self, texts: Sequence[str]) -> EmbeddedTexts:
        """Embeds texts of any length; nothing is cut off.

        Args:
            texts: Any texts.

        Returns:
            Their vectors, in the order given.
        """
        began = time.perf_counter()
        cut, surfaces = await self._read_off_loop(texts)
        clean_seconds = time.perf_counter() - began
        encoded = await self._batcher.encode([window for windows in cut for window in windows])
        by_text = []
        start = 0
        for windows in cut:
            by_text.append(encoded.vectors[start : start + len(windows)])
            start += len(windows)
        return EmbeddedTexts(by_text, surfaces, clean_seconds, encoded.queue_seconds, encoded.embed_seconds)

    async def unreadable(self, texts: Sequence[str]) -> list[int]:
        """Which of the texts, by their place, have nothing to read. Embeds none of them."""
        return [i for i, windows in enumerate((await self._read_off_loop(texts))[0]) if not windows]

    async def _read_off_loop(self, texts: Sequence[str]) -> tuple[list[list[Tokens]], list[SparseVector]]:
        if sum(map(len, texts)) > _INLINE_CHARACTERS:
            return await asyncio.to_thread(self._read, texts)
        return self._read(texts)

    def _read(self, texts: Sequence[str]) -> tuple[list[list[Tokens]], list[SparseVector]]:
        size = self._encoder.window_tokens
        cleaned = [clean(text, html=self._html) for text in texts]
        windows = [
            [tokens[start:end] for start, end in window_spans(len(tokens), size, size // _OVERLAP_SHARE)]
            for tokens in self._encoder.tokenize(cleaned)
        ]
        return windows, [surface_vector(text) for text in cleaned]
