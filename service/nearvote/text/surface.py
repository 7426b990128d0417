"""The surface view of a text: its character n-grams and words, hashed and weighted."""

import zlib
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearvote.text.fold import fold

# Goes up when the same cleaned text gives another vector, so that stored vectors are known to be of the former way.
SURFACE_VERSION = 1

# Characters of an n-gram. On training texts of the public sets 3 and 4 together did as well as any longer choice,
# with half the n-grams; whole words beside them help a little.
_SIZES = (3, 4)  # ascending, 3 or more
# A million buckets: a task's texts have some 100,000 distinct n-grams, few of which then share one.
BUCKETS = 1 << 20
# A mail has some thousand distinct n-grams. Of longer texts the most frequent ones stay.
MAX_NGRAMS = 4096
# So many of a message's elements are searched for. A search takes time by its elements times the examples that have
# them: with all of a mail's it took 100 ms among 3,000 mails, with these 27 ms, and its votes were as good.
MAX_SEARCHED = 512

_SPACE = np.uint64(ord(" "))
_BEYOND = " " * (_SIZES[-1] - 1)
_SEEDS = np.array(_SIZES, np.uint64)[:, np.newaxis]
_BUCKETS, _ONE, _HALF_BITS = np.uint64(BUCKETS), np.uint64(1), np.uint64(32)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Fibonacci hashing (Knuth, TAOCP 3, 6.4)


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A vector by its non-zero elements.

    Attributes:
        indices: (n,) uint32, ascending, each once, below `BUCKETS`.
        values: (n,) float32, the elements at these places; their squares sum to 1, unless there are none.
    """

    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self) -> "SparseVector":
        """What is searched for: itself, or `MAX_SEARCHED` of its elements, see `sampled`."""
        if len(self) <= MAX_SEARCHED:
            return self
        kept = sampled(self.indices, self.values)
        return SparseVector(self.indices[kept], self.values[kept])


def sampled(indices: npt.NDArray[np.integer], values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Places of `MAX_SEARCHED` elements, the heavier ones more likely; texts that share elements keep the same ones.

    Priority sampling (Duffield, Lund and Thorup 2007): those of highest value / u, where u in (0, 1] is the hash of
    the element's bucket. To keep just the heaviest would never look at a phrase that stands once in a long text.

    Args:
        indices: (n,) the elements' buckets, each once.
        values: (n,) the elements.

    Returns:
        Places in the order given; all of them where there are not so many.
    """
    uniform = (_mixed(indices.astype(np.uint64)) >> np.uint64(11)).astype(np.float64) + 1
    return np.sort(np.argsort(-values / uniform, kind="stable")[:MAX_SEARCHED])


def surface_vector(text: str) -> SparseVector:
    """Hashed character n-grams and words of a text and of its folded form, side by side.

    N-grams lie within words, which are padded by a space on either side; a word counts as one more n-gram, of its own
    length. An n-gram's value is 1 + ln of how often it
    occurs, in the form where it occurs more often; the vector is then brought to length 1. How rare an n-gram is among
    a task's examples is weighed when they are searched.

    Args:
        text: A cleaned text of any length.

    Returns:
        Up to `MAX_NGRAMS` elements; none for a text without characters.
    """
    plain, folded = text.casefold(), fold(text)
    buckets, counts = _count(plain, folded if folded != plain else "")
    if len(buckets) > MAX_NGRAMS:
        # The sort is stable, so equally frequent ones go by their bucket.
        kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_NGRAMS])
        buckets, counts = buckets[kept], counts[kept]
    values = 1 + np.log(counts, dtype=np.float32)
    length = np.sqrt(values @ values)
    return SparseVector(buckets.astype(np.uint32), values / length if len(values) else values)


def _count(one: str, other: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The buckets of the n-grams of a text's two forms, ascending, and how many of the form with more fell into each.

    Both go through together, and n-grams of all sizes: most texts are short, and then it is the number of operations
    that takes time, not that of elements.
    """
    words, others = one.split(), other.split()
    if not words and not others:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    padded = f" {' '.join(words)} "
    # Where the two meet, and behind them, is more than one space: no n-gram goes across.
    both = f"{padded} {' '.join(others)} "
    count = len(both)
    # Lone surrogates are text that somebody sent, too.
    encoded = (both + _BEYOND).encode("utf-32-le", errors="surrogatepass")
    points = np.frombuffer(encoded, np.uint32).astype(np.uint64)
    hashed = np.repeat(_SEEDS, count, axis=1)  # (sizes, count)
    within = np.empty(hashed.shape, np.bool_)
    inside = points != _SPACE
    for row, size in enumerate(_SIZES):
        within[row] = inside[1 : 1 + count]
        for offset in range(2, size - 1):
            within[row] &= inside[offset : offset + count]
    for offset in range(_SIZES[-1]):
        longer = hashed[bisect_right(_SIZES, offset) :]
        longer ^= points[offset : offset + count]
        longer *= _MULTIPLIER
        longer ^= longer >> _HALF_BITS
    # The same bucket of both forms side by side, each with its count.
    hashed %= _BUCKETS
    hashed <<= _ONE
    hashed[:, len(padded) :] |= _ONE
    of_words = [
        zlib.crc32(word.encode(errors="surrogatepass")) % BUCKETS << 1 | form
        for form, own in enumerate((words, others))
        for word in own
    ]
    keys = np.concatenate((hashed[within], np.array(of_words, np.uint64)))
    keys.sort()
    is_first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    counts = np.append(starts[1:], len(keys)) - starts
    buckets = keys[starts] >> _ONE
    if others:
        of_both = np.flatnonzero(buckets[1:] == buckets[:-1])
        counts[of_both] = np.maximum(counts[of_both], counts[of_both + 1])
        kept = np.ones(len(buckets), np.bool_)
        kept[of_both + 1] = False
        buckets, counts = buckets[kept], counts[kept]
    return buckets, counts


def fingerprint(vector: SparseVector) -> int:
    """64 bits that differ in few places for texts that share most of their n-grams.

    SimHash (Charikar 2002): each n-gram stands for a random sign in each of 64 places; a bit says which sign prevails.
    For vectors at an angle of `a` radians about 64 a / pi bits differ.

    Args:
        vector: A text's surface view.

    Returns:
        The bits as a signed integer, as stores keep it; 0 for a text without n-grams.
    """
    if not len(vector):
        return 0
    hashed = _mixed(vector.indices.astype(np.uint64))
    signs = ((hashed[:, np.newaxis] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).astype(np.float32) * 2 - 1
    bits = (vector.values @ signs) > 0
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little", signed=True)


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Numbers whose bits are as good as random."""
    hashed = (numbers + np.uint64(1)) * _MULTIPLIER
    hashed = (hashed ^ (hashed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's finalizer
    return hashed ^ (hashed >> np.uint64(32))
