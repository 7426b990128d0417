"""Learning label prototypes: logistic regressions, on vectors and on n-grams."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import scipy

from nearvote.learn.corpus import Corpus
from nearvote.voting.prototypes import Matrix, activate

# Stopping early is part of the regularisation.
_ITERATIONS = 30
# An n-gram that only one example has says nothing of others.
_LEAST_EXAMPLES = 2
# Weights that are kept, at most: 4 MB as half floats. Of more n-grams the most telling stay.
_MOST_WEIGHTS = 2_000_000

Design: TypeAlias = "Matrix | scipy.sparse.csr_array"


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A logistic regression: (features, labels) coefficients and (labels,) biases, float32."""

    coefficients: Matrix
    bias: Matrix

    def opinions(self, rows: Design, *, multi_label: bool) -> Matrix:
        """(n, labels) float32, in [0, 1]."""
        return activate(np.asarray(rows @ self.coefficients) + self.bias, multi_label=multi_label)


def learn_head(
    rows: Design,
    targets: Matrix,
    weights: Matrix,
    *,
    strength: float,
    multi_label: bool,
    tick: Callable[[], None] = lambda: None,
) -> Head:
    """Softmax regression or, for several labels, one logistic regression each, with an L2 penalty, by L-BFGS.

    Args:
        rows: (n, features), dense or compressed.
        targets: (n, labels) float32; rows sum to 1, or are 0 and 1 for several labels.
        weights: (n,) float32, how much each example counts.
        strength: Inverse of the penalty, as scikit-learn's C; above 0.
        multi_label: Whether each label is a question of its own.
        tick: Called now and then; it raises when the work is to stop.
    """
    features, labels = rows.shape[1], targets.shape[1]
    weights = (weights / max(float(weights.mean()), 1e-9)).astype(np.float32)
    mass = (targets * weights[:, None]).sum(axis=0)
    if multi_label:
        prior = np.clip(mass / weights.sum(), 0.5 / (len(targets) + 1), 1 - 0.5 / (len(targets) + 1))
        start = np.log(prior / (1 - prior))
    else:
        start = np.log((mass + 0.5) / (mass.sum() + 0.5 * labels))
        start -= start.mean()
    by_feature = scipy.sparse.csr_array(rows.T) if scipy.sparse.issparse(rows) else cast("Matrix", rows).T

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        tick()
        coefficients = flat[: features * labels].reshape(features, labels).astype(np.float32)
        logits = np.asarray(rows @ coefficients) + flat[features * labels :].astype(np.float32)
        given = activate(logits, multi_label=multi_label)
        if multi_label:
            cost = np.logaddexp(0, logits) - targets * logits
            rest = given - targets
        else:
            highest = logits.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(logits - highest).sum(axis=1, keepdims=True)) + highest
            cost = targets * (log_sum - logits)
            rest = given * targets.sum(axis=1, keepdims=True) - targets
        rest = (rest * weights[:, None]).astype(np.float32)
        gradient = np.asarray(by_feature @ rest) + coefficients / strength
        total = float((cost * weights[:, None]).sum()) + 0.5 * float((coefficients**2).sum()) / strength
        return total, np.concatenate([gradient.ravel(), rest.sum(axis=0)]).astype(np.float64)

    found = scipy.optimize.minimize(
        loss,
        np.concatenate([np.zeros(features * labels), start]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "maxcor": 5},
    ).x.astype(np.float32)
    return Head(found[: features * labels].reshape(features, labels), found[features * labels :])


@dataclass(frozen=True, slots=True, eq=False)
class NGrams:
    """The n-grams that prototypes look at, and how much each counts.

    Attributes:
        buckets: (n,) int64, ascending.
        rarity: (n,) float32, inverse document frequency.
        unknown_rarity: That of all other n-grams, which count for a text's length alone.
    """

    buckets: npt.NDArray[np.int64]
    rarity: Matrix
    unknown_rarity: float

    def rows(self, surface: "scipy.sparse.csr_array") -> "scipy.sparse.csr_array":
        """Texts as these n-grams, weighed by rarity and scaled to length 1. (texts, BUCKETS) in, (texts, n) out."""
        rarity = np.full(surface.shape[1], self.unknown_rarity, np.float32)
        rarity[self.buckets] = self.rarity
        weighed = surface.copy()
        weighed.data = weighed.data * rarity[weighed.indices]
        lengths = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
        scaled = weighed.multiply((1 / np.maximum(lengths, 1e-9)).astype(np.float32)[:, None])
        return scipy.sparse.csr_array(scipy.sparse.csr_array(scaled)[:, self.buckets])


def ngrams_of(corpus: Corpus) -> NGrams:
    """The n-grams that at least two examples share."""
    frequency = np.bincount(corpus.texts.surface.indices, minlength=corpus.texts.surface.shape[1])
    most = max(1, _MOST_WEIGHTS // max(1, corpus.has.shape[1]))
    buckets = np.flatnonzero(frequency >= _LEAST_EXAMPLES)
    if len(buckets) > most:
        buckets = np.sort(buckets[np.argsort(-frequency[buckets], kind="stable")[:most]])
    size = len(corpus)
    rarity = np.log1p((size - frequency[buckets] + 0.5) / (frequency[buckets] + 0.5)).astype(np.float32)
    return NGrams(buckets, rarity, float(np.log1p((size - 0.5) / 1.5)))
