"""The surface view: character n-grams and words."""

import math
import random
import string
import subprocess
import sys
import time
import zlib
from itertools import combinations

import numpy as np
import pytest

from nearvote.text.fold import fold
from nearvote.text.surface import BUCKETS, MAX_NGRAMS, MAX_SEARCHED, SparseVector, fingerprint, surface_vector


def _buckets(text: str) -> set[int]:
    return set(surface_vector(text).indices.tolist())


def _value(vector: SparseVector, bucket: int) -> float:
    return float(vector.values[vector.indices.tolist().index(bucket)])


def _random_text(words: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join("".join(chance.choices(string.ascii_lowercase, k=8)) for _ in range(words))


def _differing_bits(one: str, other: str) -> int:
    mask = (1 << 64) - 1
    return ((fingerprint(surface_vector(one)) ^ fingerprint(surface_vector(other))) & mask).bit_count()


# What the stores keep is of these numbers: where they change, SURFACE_VERSION goes up.
_PINNED = {
    "a": ([507459, 688418], 198158388210017236),
    "ab": ([126327, 215149, 536203, 1023108], 3747594158184898562),
    "\U0001f3f4\u200d\u2620\ufe0f x": (
        [
            *(79370, 92630, 224472, 350448, 379140, 510553, 570882),
            *(765218, 792195, 792715, 808356, 912106, 1018920, 1040857),
        ],
        -8017521611420948027,
    ),
    "\ud800": ([304424, 946380], -4535546739362294272),
}


@pytest.mark.parametrize("text", _PINNED)
def test_the_same_numbers_for_ever(text: str) -> None:
    """A text has the same n-grams and the same fingerprint on every machine and in every process."""
    buckets, print_ = _PINNED[text]
    vector = surface_vector(text)
    assert buckets == vector.indices.tolist()
    assert print_ == fingerprint(vector)


def test_another_process_sees_the_same() -> None:
    """Nothing depends on the seed of the process's hashes."""
    text = "Gr\u00fc\u00dfe aus M\u00fcnchen, 50% off! \u0441\u043f\u0430\u043c"
    script = (
        "import sys\n"
        "from nearvote.text.surface import fingerprint, surface_vector\n"
        "vector = surface_vector(sys.argv[1])\n"
        "print(vector.indices.tolist(), vector.values.tolist(), fingerprint(vector))\n"
    )
    vector = surface_vector(text)
    expected = f"{vector.indices.tolist()} {vector.values.tolist()} {fingerprint(vector)}\n"
    for seed in ("1", "2"):
        command = [sys.executable, "-X", "utf8", "-c", script, text]
        told = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed})
        assert expected == told.stdout


def test_the_n_grams_of_a_word() -> None:
    """A word's n-grams are its threes and fours, with a space on either side, and the word itself."""
    # " a "; " ab", "ab ", " ab "; " ab", "abc", "bc ", " abc", "abc "; four threes and three fours; and each word
    assert [len(surface_vector(text)) for text in ("a", "ab", "abc", "abcd")] == [2, 4, 6, 8]
    assert len(_buckets("abc") & _buckets("abd")) == 1, "they share the beginning alone"


@pytest.mark.parametrize("text", ["ab cd", "a b", "one, two three", "x yz \u00e4\u00f6\u00fc\u00df"])
def test_n_grams_lie_within_words(text: str) -> None:
    """No n-gram reaches from one word to the next: their order does not count."""
    words = text.split()
    assert set().union(*map(_buckets, words)) == _buckets(text)
    backwards = surface_vector(" ".join(reversed(words)))
    np.testing.assert_array_equal(surface_vector(text).indices, backwards.indices)
    np.testing.assert_array_equal(surface_vector(text).values, backwards.values)


@pytest.mark.parametrize("word", ["a", "money", "stra\u00dfe", "\u0441\u043f\u0430\u043c"])
def test_words_are_n_grams_too(word: str) -> None:
    """A whole word is one more n-gram, its place the CRC-32 of its UTF-8, in any process."""
    for form in {word.casefold(), fold(word)}:
        place = zlib.crc32(form.encode()) % BUCKETS
        assert place in _buckets(word)
        assert place in _buckets(f"other {word}, {word}".replace(",", " "))
    assert zlib.crc32(word[:-1].encode()) % BUCKETS not in _buckets(word)


def test_spaces_do_not_count() -> None:
    """How words are set apart changes nothing."""
    np.testing.assert_array_equal(surface_vector("ab cd").indices, surface_vector("  ab \t\n cd ").indices)


@pytest.mark.parametrize(
    ("one", "other"), [("WIN Money", "win money"), ("STRASSE", "stra\u00dfe"), ("\u0130x", "i\u0307X")]
)
def test_case_does_not_count(one: str, other: str) -> None:
    """Texts that differ in case alone are the same."""
    np.testing.assert_array_equal(surface_vector(one).indices, surface_vector(other).indices)
    np.testing.assert_array_equal(surface_vector(one).values, surface_vector(other).values)


@pytest.mark.parametrize(
    "hidden", ["v1agra", "vi\u0430gra", "v.i.a.g.r.a", "\U0001d42f\U0001d422\U0001d41a\U0001d420\U0001d42b\U0001d41a"]
)
def test_plain_and_folded_stand_side_by_side(hidden: str) -> None:
    """A word that is written to be missed has the n-grams of what it says beside those of how it is written."""
    assert _buckets("viagra") < _buckets(hidden)


def test_a_form_is_not_counted_twice() -> None:
    """An n-gram that the plain and the folded form share is counted where it occurs more often, not in both."""
    same, odd = surface_vector("lunch lunch"), surface_vector("lunch lunch v1p")
    (bucket, *_) = same.indices.tolist()
    assert _value(odd, bucket) / min(odd.values) == pytest.approx(1 + math.log(2))
    # In the folded form "spam" occurs twice, in the plain one once.
    twice = surface_vector("spam sp\u0430m xyz")
    spam = min(_buckets("spam") - _buckets("xyz"))
    lone = min(_buckets("xyz") - _buckets("spam"))
    assert _value(twice, spam) / _value(twice, lone) == pytest.approx(1 + math.log(2))


@pytest.mark.parametrize("times", [1, 2, 3, 10])
def test_more_often_counts_more_but_not_as_much_more(times: int) -> None:
    """An n-gram's value is 1 + ln of how often it occurs."""
    vector = surface_vector("xyz " + "a " * times)
    often, *_ = _buckets("a")
    once = min(_buckets("xyz"))
    assert _value(vector, often) / _value(vector, once) == pytest.approx(1 + math.log(times), rel=1e-5)


@pytest.mark.parametrize("text", ["a", "win money", "v1agra", "\ud800", "\U0010ffff" * 9, _random_text(20), "a" * 999])
def test_a_vector_in_good_form(text: str) -> None:
    """A vector has length 1; its places are ascending, each once, in range, and of the type they are stored in."""
    vector = surface_vector(text)
    assert float(vector.values @ vector.values) == pytest.approx(1.0, abs=1e-5)
    assert (vector.values > 0).all()
    assert (np.diff(vector.indices.astype(np.int64)) > 0).all()
    assert vector.indices.max() < BUCKETS
    assert (vector.indices.dtype, vector.values.dtype) == (np.dtype(np.uint32), np.dtype(np.float32))
    assert len(vector) == len(vector.indices) == len(vector.values)


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_no_characters_no_n_grams(text: str) -> None:
    """A text without characters has no n-grams, and no fingerprint."""
    vector = surface_vector(text)
    assert (len(vector), fingerprint(vector)) == (0, 0)
    assert (vector.indices.dtype, vector.values.dtype) == (np.dtype(np.uint32), np.dtype(np.float32))


def test_the_most_frequent_of_too_many_stay() -> None:
    """Of a text with more n-grams than are kept the most frequent stay; it still has length 1."""
    text = _random_text(2000) + " lottery" * 3
    vector = surface_vector(text)
    assert len(vector) == MAX_NGRAMS
    assert _buckets("lottery") <= set(vector.indices.tolist())
    assert float(vector.values @ vector.values) == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(vector.indices.astype(np.int64)) > 0).all()
    assert len(surface_vector(_random_text(100))) < MAX_NGRAMS


@pytest.mark.parametrize(
    "text", [_random_text(7_000), "\u00e4" * 65_536, "a " * 32_768, "\U0001f600" * 16_384, "v1" * 30_000]
)
def test_long_texts_are_quick(text: str) -> None:
    """The longest text that the service takes is done in well under a second, whatever it is made of."""
    began = time.process_time()
    vector = surface_vector(text)
    fingerprint(vector)
    assert time.process_time() - began < 1
    assert 0 < len(vector) <= MAX_NGRAMS


# Made up: each with a near-duplicate of the kind that campaigns send.
_CAMPAIGNS = [
    (
        "Congratulations! You have won a prize of 1000 dollars, call 0900 123 to claim it today.",
        "Congratulations! You have won a prize of 2000 dollars, call 0900 123 to claim it today!",
    ),
    (
        "Hi Anna, the meeting moved to three o'clock tomorrow; could you bring the slides along?",
        "Hi Hanna, the meeting moved to three o'clock tomorrow; could you bring the slides along?",
    ),
    (
        "URGENT: your bank account has been suspended, verify your identity at http://secure-login.example now",
        "URGENT!! your bank account has been suspended, verify your identity at http://secure-login.example now",
    ),
    (
        "I want to return the shoes I bought last week because they are too small for me.",
        "I want to return the shoes I bought last week because they are too small for me, Jo.",
    ),
    (
        "Nobody wants you here, go back to where you came from, you worthless idiot.",
        "nobody wants you here go back to where you came from you worthless idiot",
    ),
    (
        "The weather in Lisbon was lovely and the food in that little restaurant was better still.",
        "The weather in Lisboa was lovely and the food in that little restaurant was better still.",
    ),
    (
        "Buy cheap replica watches, best quality, free shipping worldwide, order before midnight!",
        "Buy cheap replica watches!!! best quality, free shipping worldwide, order before midnight! 7731",
    ),
    (
        "Could you please reset my password? The link in the mail does not open on my phone.",
        "Could you please reset my password? The link in the mail doesn't open on my phone.",
    ),
    (
        "Earn 5000 a week from home, no experience needed, text WORK to 80808 for details.",
        "EARN 5500 a week from home, no experience needed, text WORK to 80808 for details.",
    ),
    (
        "My grandmother's recipe calls for two cups of flour, an egg and a pinch of nutmeg.",
        "My grandmothers recipe calls for two cups of flour, an egg, and a pinch of nutmeg",
    ),
    (
        "Train 417 to Hamburg is delayed by twenty-five minutes due to a signal failure near Celle.",
        "Train 512 to Hamburg is delayed by twenty-five minutes due to a signal failure near Celle.",
    ),
    (
        "Lose ten pounds in two weeks with this one weird trick that doctors don't want known.",
        "Lose ten pounds in two weeks with this 1 weird trick that doctors don't want known",
    ),
]


@pytest.mark.parametrize(("one", "other"), _CAMPAIGNS)
def test_near_duplicates_have_near_fingerprints(one: str, other: str) -> None:
    """Texts that differ in a word or two have fingerprints that differ in few bits."""
    assert _differing_bits(one, other) <= 10


def test_unrelated_texts_have_other_fingerprints() -> None:
    """Of texts that have nothing to do with each other the fingerprints differ in many bits."""
    bits = [_differing_bits(one, other) for (one, _), (other, _) in combinations(_CAMPAIGNS, 2)]
    assert min(bits) > 14
    assert 24 < sum(bits) / len(bits) < 36, "half of them, in the mean"


def test_fingerprints_fit_into_64_bits() -> None:
    """A fingerprint is a signed integer of 64 bits, of either sign, and every bit of it is used."""
    prints = [fingerprint(surface_vector(_random_text(12, seed))) for seed in range(64)]
    assert -(2**63) <= min(prints) < 0 < max(prints) < 2**63
    for bit in range(64):
        assert {print_ >> bit & 1 for print_ in prints} == {0, 1}


def test_sample_of_a_long_text() -> None:
    """Of a long text so many elements are searched for, heavy ones first; texts that share elements keep the same."""
    rng = np.random.default_rng(7)
    words = ["".join(rng.choice(list(string.ascii_lowercase), 6)) for _ in range(400)]
    text = " ".join(words)
    whole = surface_vector(text)
    assert len(whole) > 2 * MAX_SEARCHED
    sample = whole.sample()
    assert len(sample) == MAX_SEARCHED
    assert np.all(np.diff(sample.indices.astype(np.int64)) > 0)
    assert (
        dict(zip(sample.indices.tolist(), sample.values.tolist(), strict=True)).items()
        <= dict(zip(whole.indices.tolist(), whole.values.tolist(), strict=True)).items()
    )
    often = surface_vector(f"{text} {' again' * 500}").sample()
    repeated = np.isin(surface_vector("again").indices, often.indices).mean()
    assert repeated > 2 * len(sample) / len(whole), "what stands often is more likely to stay"
    other = surface_vector(" ".join(words[:300]))
    shared = np.intersect1d(sample.indices, other.indices)
    # But for the few that stand more often in the longer text, where fewer others compete they stay.
    assert len(np.intersect1d(shared, other.sample().indices)) > 0.95 * len(shared)


def test_a_short_text_is_searched_for_whole() -> None:
    """Nothing is left out of a short text."""
    vector = surface_vector("win money now")
    assert vector.sample() is vector
