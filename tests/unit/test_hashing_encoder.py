import subprocess
import sys

import numpy as np

from nearvote.embedding.encoder import Matrix
from nearvote.embedding.hashing_encoder import HashingEncoder


def _embed(*texts: str) -> Matrix:
    encoder = HashingEncoder()
    return encoder.encode(encoder.tokenize(texts))


def test_rows_have_length_one() -> None:
    """Vectors are float32 rows of length 1, as many as windows."""
    vectors = _embed("one", "one two three", "!?")
    assert vectors.shape == (3, 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_no_windows() -> None:
    """No windows have no vectors, of the right dimension."""
    vectors = HashingEncoder().encode([])
    assert vectors.shape == (0, 256)
    assert vectors.dtype == np.float32


def test_the_same_words_are_the_same() -> None:
    """Case, order and white space do not count; the words do."""
    same, other, also = _embed("Red apple!", "apple  ! red", "green pear?")
    np.testing.assert_allclose(same, other, atol=1e-6)
    assert float(same @ also) < 0.5


def test_shared_words_are_near() -> None:
    """Texts that share most words are nearer than texts that share few."""
    text, near, far = _embed("pay the parcel fee now", "pay the parcel fee today", "the cat sat on a mat")
    assert float(text @ near) > 0.6 > float(text @ far)


def test_other_processes_compute_the_same() -> None:
    """The same text has the same vector in another process, whatever its hash seed."""
    code = (
        "from nearvote.embedding.hashing_encoder import HashingEncoder as H; e = H();"
        "print(e.encode(e.tokenize(['hello world'])).tobytes().hex())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}
    )
    assert _embed("hello world").tobytes().hex() == there.stdout.strip()


def test_a_text_without_words_has_no_tokens() -> None:
    """A text is tokenized whole, one token a word or mark, and an empty one has none."""
    empty, long = HashingEncoder().tokenize(["", "word, " * 500])
    assert len(empty) == 0
    assert len(long) == 1000
    assert long.dtype == np.int32
