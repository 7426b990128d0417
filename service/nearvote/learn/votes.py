"""Votes on many texts at once: what `voting` says of one, in arrays.

Neighbours are found once for each metric; then any policy is counted in a moment. `tests/unit/test_votes.py` holds it
equal to the path that a message takes.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from nearvote.learn.corpus import Corpus, Matrix, Places, Texts
from nearvote.text.surface import MAX_SEARCHED, sampled
from nearvote.voting.policy import Policy
from nearvote.voting.seats import NEAR_DUPLICATE_BITS, OVERSAMPLING, seat_limit

# Texts judged at a time: their similarities to 15,000 examples take some 30 MB.
_CHUNK = 512

Similarities = Callable[[slice], Matrix]
Barred = Callable[[slice], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The nearest examples of each judged text in one view.

    Attributes:
        places: (texts, candidates) which example, nearest first.
        similarity: (texts, candidates) float32; -inf where there are not so many.
    """

    places: Places
    similarity: Matrix


def meaning_candidates(
    judged: Texts,
    corpus: Corpus,
    count: int,
    *,
    own: Places | None,
    project: Callable[[Matrix], Matrix],
    barred: Barred | None = None,
) -> Candidates:
    """The nearest examples by the cosine of the nearest pair of windows, in a metric.

    Args:
        judged: The texts that are judged.
        corpus: The examples.
        count: How many to find for each.
        own: (texts,) which example each judged text is, so that it does not vote on itself; -1 or None for none.
        project: The metric.
        barred: From rows of the judged texts to (rows, examples) bool: who has no vote on whom; None for nobody.
    """
    voters = project(corpus.texts.windows)
    windows = project(judged.windows)
    ends = np.append(judged.starts[1:], len(windows))

    def similarities(rows: slice) -> Matrix:
        first, last = judged.starts[rows][0], ends[rows][-1]
        found = windows[first:last] @ voters.T
        if len(voters) > len(corpus):
            found = np.maximum.reduceat(found, corpus.texts.starts, axis=1)
        if last - first > len(judged.starts[rows]):
            found = np.maximum.reduceat(found, judged.starts[rows] - first, axis=0)
        return found

    return _nearest(len(judged), len(corpus), count, own, barred, similarities)


def surface_candidates(
    judged: Texts, corpus: Corpus, count: int, *, own: Places | None, barred: Barred | None = None
) -> Candidates:
    """The examples that share most n-grams, weighed by inverse document frequency; arguments as above.

    As messages are searched: by a sample of many elements, and as Qdrant does: a judged text's elements are weighed by
    ln(1 + (N - n + 0.5) / (n + 0.5)), the examples' are not.
    """
    size = len(corpus)
    frequency = np.bincount(corpus.texts.surface.indices, minlength=corpus.texts.surface.shape[1])
    rarity = np.log1p((size - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
    weighed = _sampled(judged.surface)
    weighed.data = weighed.data * rarity[weighed.indices]
    by_ngram = scipy.sparse.csr_array(corpus.texts.surface.T)

    def similarities(rows: slice) -> Matrix:
        return np.asarray((weighed[rows] @ by_ngram).toarray(), np.float32)

    found = _nearest(len(judged), size, count, own, barred, similarities)
    # An example that shares nothing is not found at all.
    return Candidates(found.places, np.where(found.similarity > 0, found.similarity, -np.inf).astype(np.float32))


def surface_cosines(texts: Texts, candidates: Candidates) -> Matrix:
    """Cosines of the texts' n-grams, unweighed, to those of their candidates among the same texts; 0 for none.

    Returns:
        (texts, candidates) float32, in [0, 1].
    """
    cosines = np.zeros(candidates.places.shape, np.float32)
    for rank in range(candidates.places.shape[1]):
        other = texts.surface[candidates.places[:, rank]]
        cosines[:, rank] = np.asarray(texts.surface.multiply(other).sum(axis=1)).ravel()
    return np.where(np.isfinite(candidates.similarity), cosines, 0).astype(np.float32)


def _sampled(surface: "scipy.sparse.csr_array") -> "scipy.sparse.csr_array":
    """A copy that has only what is searched for, see `SparseVector.sample`."""
    starts = surface.indptr
    kept = [
        start + sampled(surface.indices[start:end], surface.data[start:end])
        if end - start > MAX_SEARCHED
        else np.arange(start, end)
        for start, end in itertools.pairwise(starts)
    ]
    places = np.concatenate(kept) if kept else np.empty(0, np.int64)
    lengths = np.cumsum([0, *map(len, kept)])
    return scipy.sparse.csr_array((surface.data[places], surface.indices[places], lengths), shape=surface.shape)


def _nearest(
    judged: int, size: int, count: int, own: Places | None, barred: Barred | None, similarities: Similarities
) -> Candidates:
    count = min(count, size)
    places = np.zeros((judged, count), np.int64)
    nearest = np.full((judged, count), -np.inf, np.float32)
    for start in range(0, judged, _CHUNK):
        rows = slice(start, min(start + _CHUNK, judged))
        found = similarities(rows)
        if own is not None:
            itself = own[rows]
            known = np.flatnonzero(itself >= 0)
            found[known, itself[known]] = -np.inf
        if barred is not None:
            found[barred(rows)] = -np.inf
        if count < size:
            part = np.sort(np.argpartition(-found, count - 1, axis=1)[:, :count], axis=1)
        else:
            part = np.broadcast_to(np.arange(size), found.shape).copy()
        values = np.take_along_axis(found, part, axis=1)
        # Of equally near ones at the end the first by id are taken; which are the first takes a full sort.
        least = values.min(axis=1, keepdims=True)
        for row in np.flatnonzero(
            ((found >= least).sum(axis=1) > count) & np.isfinite(least[:, 0]) & (least[:, 0] > 0)
        ):
            part[row] = np.sort(np.argsort(-found[row], kind="stable")[:count])
            values[row] = found[row, part[row]]
        order = np.argsort(-values, axis=1, kind="stable")
        places[rows] = np.take_along_axis(part, order, axis=1)
        nearest[rows] = np.take_along_axis(values, order, axis=1)
    return Candidates(places, nearest)


def seated(candidates: Candidates, corpus: Corpus, k: int, max_group_share: float) -> npt.NDArray[np.bool_]:
    """Which candidates vote: `voting.seats.take_seats` for many texts. (texts, candidates) bool."""
    there = np.isfinite(candidates.similarity)
    limit = seat_limit(k, max_group_share)
    if limit >= k:
        there[:, k:] = False
        return there
    width = min(k * OVERSAMPLING, there.shape[1])
    there[:, width:] = False
    takes = np.zeros_like(there)
    for start in range(0, len(there), _CHUNK):
        rows = slice(start, start + _CHUNK)
        own = candidates.places[rows, :width]
        prints, groups = corpus.fingerprints[own], corpus.groups[own]
        alike = (prints[:, :, None] != 0) & (prints[:, None, :] != 0)
        alike &= np.bitwise_count(prints[:, :, None] ^ prints[:, None, :]) <= NEAR_DUPLICATE_BITS
        same_source = (groups[:, :, None] == groups[:, None, :]) & (groups[:, :, None] >= 0)
        seats = np.zeros((len(own), width), np.bool_)
        taken = np.zeros(len(own), np.int64)
        for i in range(width):
            crowd = np.maximum((seats & alike[:, i]).sum(axis=1), (seats & same_source[:, i]).sum(axis=1))
            seats[:, i] = there[rows, i] & (crowd < limit) & (taken < k)
            taken += seats[:, i]
        # Seats that would stay empty go to those who were refused, nearest first.
        refused = there[rows, :width] & ~seats
        seats |= refused & (np.cumsum(refused, axis=1) <= (k - taken)[:, None])
        takes[rows, :width] = seats
    return takes


def count(
    candidates: Candidates,
    seats: npt.NDArray[np.bool_],
    corpus: Corpus,
    weigh: Callable[[Matrix], Matrix],
    *,
    class_size_exponent: float,
    multi_label: bool,
) -> Matrix:
    """Each label's score in one view: `voting.ballot` for many texts.

    Args:
        candidates: Those who may vote.
        seats: (texts, candidates) bool, those who do.
        corpus: The examples.
        weigh: From (texts, candidates) similarities, nearest first, to kernel weights.
        class_size_exponent: Of the policy.
        multi_label: Whether each label is a question of its own.

    Returns:
        (texts, labels) float32, in [0, 1]; rows of nan where nobody votes.
    """
    sizes = np.maximum(corpus.has.sum(axis=0), 1).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        weights = np.where(seats, weigh(candidates.similarity) * corpus.weights[candidates.places], 0)
    rows, width = weights.shape
    ballots = scipy.sparse.csr_array(
        (weights.ravel(), candidates.places.ravel(), np.arange(0, rows * width + 1, max(width, 1))[: rows + 1]),
        shape=(rows, len(corpus)),
    )
    votes = np.asarray((ballots @ scipy.sparse.csr_array(corpus.has.astype(np.float32))).toarray(), np.float32)
    correction = np.power(sizes, class_size_exponent)
    with np.errstate(invalid="ignore", divide="ignore"):
        if multi_label:
            rest = np.maximum(len(corpus) - corpus.has.sum(axis=0), 1).astype(np.float32)
            yes = votes / correction
            no = (weights.sum(axis=1, keepdims=True) - votes) / np.power(rest, class_size_exponent)
            return np.asarray(yes / (yes + np.maximum(no, 0)), np.float32)
        corrected = votes / correction
        return np.asarray(corrected / corrected.sum(axis=1, keepdims=True), np.float32)


def meaning_kernel(temperature: float) -> Callable[[Matrix], Matrix]:
    """exp((s - s_max) / T) of similarities, nearest first."""
    return lambda similarity: np.exp((similarity - similarity[:, :1]) / temperature)


def surface_kernel(exponent: float) -> Callable[[Matrix], Matrix]:
    """(s / s_max) ** exponent of similarities, nearest first."""
    return lambda similarity: np.power(np.maximum(similarity, 0) / similarity[:, :1], exponent)


def fuse(meaning: Matrix, surface: Matrix, policy: Policy) -> Matrix:
    """Averages what the views say, as `voting.ballot.count_votes` does without a pool. (texts, labels) float32."""
    weight = policy.surface_weight
    silent = np.isnan(surface[:, :1])
    fused = np.where(silent, meaning, (1 - weight) * meaning + weight * np.nan_to_num(surface))
    return np.asarray(np.nan_to_num(fused), np.float32)
