from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.cache import ViewCache
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix, Tokens
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.text.surface import surface_vector


class Noting(HashingEncoder):
    """Notes the windows that it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[Tokens] = []

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        self.windows += windows
        return super().encode(windows, alone=alone)


@pytest.fixture
def encoder() -> Noting:
    """An encoder with 64 tokens a window."""
    return Noting()


@pytest.fixture
async def embedder(encoder: Noting) -> AsyncIterator[Embedder]:
    """An embedder over it."""
    batcher = Batcher(encoder)
    yield Embedder(encoder, batcher)
    await batcher.close()


async def test_each_text_has_its_own_vector(encoder: Noting, embedder: Embedder) -> None:
    """Short texts become one vector each, that of their tokens, in the order given."""
    texts = ["red apple", "green pear", "a much longer text about apples and pears", "red apple"]
    embedded = await embedder.embed(texts)
    for text, windows in zip(texts, embedded.windows, strict=True):
        np.testing.assert_array_equal(HashingEncoder().encode(encoder.tokenize([text])), windows)


@pytest.mark.parametrize("word_count", [64, 65, 100, 500, 3000])
async def test_nothing_of_a_long_text_is_cut_off(encoder: Noting, embedder: Embedder, word_count: int) -> None:
    """A long text becomes windows that share an eighth of their tokens, and every token is in one of them."""
    words = [f"w{i}" for i in range(word_count)]
    embedded = await embedder.embed([" ".join(words)])
    numbers = {int(token): i for i, token in enumerate(encoder.tokenize([" ".join(words)])[0])}
    spans = sorted((numbers[int(window[0])], numbers[int(window[-1])]) for window in encoder.windows)
    assert embedded.windows[0].shape == (len(spans), 256)
    assert (spans[0][0], spans[-1][1]) == (0, word_count - 1)
    assert all(len(window) <= 64 for window in encoder.windows)
    assert all(before[1] - after[0] + 1 >= 8 for before, after in pairwise(spans))
    np.testing.assert_array_equal(
        HashingEncoder().encode(sorted(encoder.windows, key=lambda w: numbers[int(w[0])])), embedded.windows[0]
    )


async def test_windows_go_to_their_own_texts(embedder: Embedder) -> None:
    """Texts of one and of many windows, and of none, that are embedded together do not mix."""
    texts = ["short", " ".join(f"a{i}" for i in range(150)), "", "last", " ".join(f"b{i}" for i in range(2000))]
    together = (await embedder.embed(texts)).windows
    assert [len(windows) for windows in together] == [1, 3, 0, 1, 36]
    for text, windows in zip(texts, together, strict=True):
        np.testing.assert_array_equal((await embedder.embed([text])).windows[0], windows)


@pytest.mark.parametrize("text", ["", " \n ", "\0", "\u0301\u0301", "\u200b\u202e", "\ud800"])
async def test_unreadable_text_has_no_vectors(encoder: Noting, embedder: Embedder, text: str) -> None:
    """A text with nothing to read has no vectors, and the encoder never sees it."""
    assert (await embedder.embed([text])).windows[0].shape == (0, 256)
    assert encoder.windows == []
    assert await embedder.unreadable(["a", text, "b", text]) == [1, 3]


async def test_no_texts(embedder: Embedder) -> None:
    """No texts have no vectors."""
    assert (await embedder.embed([])).windows == []
    assert await embedder.unreadable([]) == []


async def test_texts_are_cleaned(embedder: Embedder) -> None:
    """What is embedded is the cleaned text."""
    plain, odd = (await embedder.embed(["win now", " w\0in\nnow"])).windows
    np.testing.assert_array_equal(plain, odd)


async def test_html_is_read_where_asked(encoder: Noting, embedder: Embedder) -> None:
    """Markup is left out where texts are read as HTML, and is part of the text elsewhere."""
    batcher = Batcher(encoder)
    reading = Embedder(encoder, batcher, html=True)
    plain, marked_up = (await reading.embed(["win now", "<p>win <b>now</b></p>"])).windows
    np.testing.assert_array_equal(plain, marked_up)
    plain, marked_up = (await embedder.embed(["win now", "<p>win <b>now</b></p>"])).windows
    assert not np.array_equal(plain, marked_up)
    await batcher.close()


async def test_times_are_told(encoder: Noting, embedder: Embedder) -> None:
    """The time of cleaning is told beside those of the queue and the encoder."""
    embedded = await embedder.embed(["a b c"])
    assert min(embedded.clean_seconds, embedded.queue_seconds, embedded.embed_seconds) > 0
    assert embedder.spec is encoder.spec


async def test_each_text_has_its_n_grams(embedder: Embedder) -> None:
    """Each text comes with the n-grams of what is read of it, all of it, and an unreadable one with none."""
    long = " ".join(f"w{i}" for i in range(300))
    embedded = await embedder.embed(["w\0in\n now", "", long, "\u0301"])
    for expected, surface in zip(["win now", "", long, ""], embedded.surfaces, strict=True):
        np.testing.assert_array_equal(surface_vector(expected).indices, surface.indices)
        np.testing.assert_array_equal(surface_vector(expected).values, surface.values)
    assert [len(windows) > 0 for windows in embedded.windows] == [len(grams) > 0 for grams in embedded.surfaces]


async def test_n_grams_of_html(encoder: Noting, embedder: Embedder) -> None:
    """Where texts are read as HTML the n-grams are those of what is shown, elsewhere those of the markup too."""
    batcher = Batcher(encoder)
    (shown,) = (await Embedder(encoder, batcher, html=True).embed(["<p>win <b>now</b></p>"])).surfaces
    (written,) = (await embedder.embed(["<p>win <b>now</b></p>"])).surfaces
    np.testing.assert_array_equal(surface_vector("win now").indices, shown.indices)
    np.testing.assert_array_equal(surface_vector("<p>win <b>now</b></p>").indices, written.indices)
    await batcher.close()


async def test_a_text_is_encoded_once(encoder: Noting, embedder: Embedder) -> None:
    """A text that is there several times, but for what cleaning takes off, is encoded once."""
    embedded = await embedder.embed(["win money", "lunch", "win  money", "win money"])
    assert len(encoder.windows) == 2
    np.testing.assert_array_equal(embedded.windows[0], embedded.windows[2])
    np.testing.assert_array_equal(embedded.windows[0], embedded.windows[3])


async def test_what_came_before_is_known(encoder: Noting) -> None:
    """With a cache, a text that came before is not encoded again, and has the same views."""
    batcher = Batcher(encoder)
    cache = ViewCache(1_000_000)
    embedder = Embedder(encoder, batcher, cache=cache)
    long = " ".join(f"w{i}" for i in range(1000))
    first = await embedder.embed(["win money", long, ""])
    count = len(encoder.windows)
    again = await embedder.embed(["lunch", "", long, "win money"])
    assert len(encoder.windows) == count + 1
    for one, other in ((0, 3), (1, 2), (2, 1)):
        np.testing.assert_array_equal(first.windows[one], again.windows[other])
        assert first.surfaces[one] is again.surfaces[other]
    (kept,) = cache.get([cache.key("win money")]).values()
    assert kept.windows.base is None, "a part of a batch would keep all of it in memory"
    await batcher.close()
