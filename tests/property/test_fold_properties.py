import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearvote.text.clean import clean
from nearvote.text.fold import fold
from tests.obfuscate import OBFUSCATORS

_many = settings(max_examples=300)

_PIECES = [
    *("free", "money", "v1agra", "c@sh", "$ave", "3pm", "10kg", "£500", "mp3", "fr33", "a", "I", "b", "0", "11", "@"),
    *("рау", "сап", "кот", "ёж", "й", "µ", "ß", "İ", "ΐ", "ς", "ﬁ", "ﷺ", "Tシャツ", "いい", "के", "مـ", "ꓚ", "𝐟", "ⓕ"),
    *("\u200b", "\u00ad", "\ufe0f", "\U000e0041", "\u0301", "\u0316", "\u0345", "\u3099", "\uff9e", "\ud800"),
    *(" ", ".", "-", "_", "*", "!", "$", "1", "3", "é", "Ø", "ᴀ", "🅵", "你"),
]
_texts = st.one_of(
    st.text(st.characters()), st.lists(st.sampled_from(_PIECES), max_size=25).map("".join), st.text("ab013$! .-")
)


@_many
@given(_texts)
def test_fold_is_total_and_bounded(text: str) -> None:
    """Any text is folded, the same each time, to eighteen times its length at most."""
    assert fold(text) == fold(text)
    assert len(fold(text)) <= 18 * len(text)


@_many
@given(st.lists(st.sampled_from(_PIECES), max_size=12).map(" ".join))
def test_fold_is_idempotent_on_words(text: str) -> None:
    """A folded text of words, disguised or not, is folded."""
    folded = fold(clean(text))
    assert fold(folded) == folded


@_many
@given(_texts)
def test_fold_comes_to_rest(text: str) -> None:
    """A text of any kind is folded after a few times, if not at once."""
    for _ in range(4):
        text = fold(text)
    assert fold(text) == text


@_many
@given(st.text("abcdefghijklmnopqrstuvwxyz ", max_size=80))
def test_case_never_matters(text: str) -> None:
    """A text in capitals is folded like the same in small letters."""
    assert fold(text.upper()) == fold(text)


@_many
@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=4), st.sampled_from(["zero_width", "repeated"]), st.integers(0))
def test_what_adds_nothing_to_read_is_undone_wholly(word: str, kind: str, seed: int) -> None:
    """A word with something unseen in it, or with some letters drawn out, is folded like the word."""
    assert fold(OBFUSCATORS[kind](word, np.random.default_rng(seed))) == fold(word)


@_many
@given(st.sampled_from(sorted(OBFUSCATORS)), st.text(max_size=60), st.integers(0, 2**32))
def test_disguises_are_drawn_from_the_seed(kind: str, text: str, seed: int) -> None:
    """The same seed disguises a text in the same way."""
    obfuscate = OBFUSCATORS[kind]
    assert obfuscate(text, np.random.default_rng(seed)) == obfuscate(text, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "piece",
    [
        *("a", "a ", "a.", "a.b ", "ab ", "a1", "1", "1a ", "$", "@", "a@", "a@a-", "a@a.", "!", "a!", "0a ", "3"),
        *("\u0301", "a\u0301\u0316", "\u200b\u0301", "\uff9e\u0301\u0316", "\u0344", "\u200b", "\U000e0041"),
        *("д", "д ", "дp", "p д ", "р p ", "Tシャツ ", "ﷺ", "İ", "ß", "\ud800", "你", "के", "مـ"),
    ],
    ids=ascii,
)
def test_adversarial_texts_take_linear_time(piece: str) -> None:
    """Eight times the text takes about eight times as long, not sixty-four times."""

    def seconds(text: str) -> float:
        taken = []
        for _ in range(3):
            start = time.thread_time()  # of this thread alone: others may be busy
            fold(text)
            taken.append(time.thread_time() - start)
        return min(taken)

    text = piece * (32_768 // len(piece))
    fold(text[:8] + "й a")  # loads the tables
    assert seconds(text) < 24 * seconds(text[: len(text) // 8]) + 0.02
