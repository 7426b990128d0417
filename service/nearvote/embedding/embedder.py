"""A text's views: cleaned, cut into windows and encoded; and its n-grams."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.cache import ViewCache, Views
from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens
from nearvote.text.clean import clean
from nearvote.text.surface import SparseVector, surface_vector
from nearvote.text.windows import window_spans

# Windows of a long text share an eighth of their tokens, so that no sentence of usual length is only ever seen cut.
_OVERLAP_SHARE = 8

# Below this many characters, cleaning and tokenizing take less time than handing them to a thread.
_INLINE_CHARACTERS = 4096

_T = TypeVar("_T")


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
        cache: Knows what texts gave that came before; None for nothing.
    """

    def __init__(
        self, encoder: Encoder, batcher: Batcher, *, html: bool = False, cache: ViewCache | None = None
    ) -> None:
        self._encoder = encoder
        self._batcher = batcher
        self._html = html
        self._cache = cache or ViewCache(0)

    @property
    def spec(self) -> EncoderSpec:
        """The encoder's."""
        return self._encoder.spec

    async def embed(self, texts: Sequence[str], scope: str = "") -> EmbeddedTexts:
        """Embeds texts of any length; nothing is cut off. A text that is there twice is embedded once.

        Args:
            texts: Any texts.
            scope: Whose they are. What is known of a text is known in its scope alone: else how soon the answer comes
                would tell whether somebody else has sent the same.

        Returns:
            Their vectors, in the order given.
        """
        began = time.perf_counter()
        characters = sum(map(len, texts))
        keys, cleaned = await _run(lambda texts: self._clean(texts, scope), texts, characters)
        known = self._cache.get(keys)
        new = [key for key in cleaned if key not in known]
        new_texts = [cleaned[key] for key in new]
        windows, surfaces = await _run(self._read, new_texts, characters) if new else ([], [])
        clean_seconds = time.perf_counter() - began
        encoded = await self._batcher.encode([window for own in windows for window in own])
        start = 0
        for key, own, surface in zip(new, windows, surfaces, strict=True):
            # A copy: a part of the batch's array would keep all of it in memory.
            known[key] = Views(encoded.vectors[start : start + len(own)].copy(), surface)
            self._cache.put(key, known[key])
            start += len(own)
        return EmbeddedTexts(
            [known[key].windows for key in keys],
            [known[key].surface for key in keys],
            clean_seconds,
            encoded.queue_seconds,
            encoded.embed_seconds,
        )

    async def unreadable(self, texts: Sequence[str]) -> list[int]:
        """Which of the texts, by their place, have nothing to read. Embeds none of them."""
        characters = sum(map(len, texts))
        keys, cleaned = await _run(self._clean, texts, characters)
        found = await _run(self._encoder.tokenize, list(cleaned.values()), characters)
        tokens = dict(zip(cleaned, found, strict=True))
        return [i for i, key in enumerate(keys) if not len(tokens[key])]

    def forget(self, texts: Sequence[str], scope: str = "") -> None:
        """Lets go of what the cache has of somebody's texts."""
        self._cache.forget(self._clean(texts, scope)[0])

    def _clean(self, texts: Sequence[str], scope: str = "") -> tuple[list[bytes], dict[bytes, str]]:
        """Each text's key, and the cleaned texts by it."""
        cleaned = [clean(text, html=self._html) for text in texts]
        keys = [self._cache.key(text, scope) for text in cleaned]
        return keys, dict(zip(keys, cleaned, strict=True))

    def _read(self, cleaned: Sequence[str]) -> tuple[list[list[Tokens]], list[SparseVector]]:
        return cut(self._encoder, cleaned), [surface_vector(text) for text in cleaned]


def cut(encoder: Encoder, cleaned: Sequence[str]) -> list[list[Tokens]]:
    """Texts as the windows that an encoder takes; none for a text with nothing to read."""
    size = encoder.window_tokens
    return [
        [tokens[start:end] for start, end in window_spans(len(tokens), size, size // _OVERLAP_SHARE)]
        for tokens in encoder.tokenize(cleaned)
    ]


async def _run(work: Callable[[Sequence[str]], _T], texts: Sequence[str], characters: int) -> _T:
    """Does work on texts in a thread, where it would hold up others."""
    return await asyncio.to_thread(work, texts) if characters > _INLINE_CHARACTERS else work(texts)
