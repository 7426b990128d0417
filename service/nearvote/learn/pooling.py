"""Learning the pool: what each opinion counts, so that together they give probabilities."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import scipy

from nearvote.voting.pool import CERTAINTY_WEIGHTS, DOUBT, NEAREST, Pool, Voter
from nearvote.voting.prototypes import Matrix, activate

# How many examples the even weights that we begin with are worth.
_PRIOR = 1.0
# Neighbours always have a say, so that an example that is added after a fit counts at once.
_LEAST = {Voter.MEANING: 0.15, Voter.SURFACE: 0.05}
# With more labels than this each has too few examples for a bias of its own.
_MOST_BIASES = 10

Opinions = Mapping[Voter, Matrix]


def learn_pool(
    opinions: Opinions, targets: Matrix, weights: Matrix, labels: Sequence[str], *, multi_label: bool
) -> Pool:
    """Chooses a pool's weights and biases by the likelihood of what is right. Convex; L-BFGS.

    Args:
        opinions: Of each voter (n, labels) float32, in [0, 1], on texts that it has not learned from; nan where it has
            none.
        targets: (n, labels) float32; rows sum to 1, or are 0 and 1 for several labels.
        weights: (n,) float32, how much each text counts.
        labels: Their names.
        multi_label: Whether each label is a question of its own.
    """
    voters = list(opinions)
    logits = np.stack([_logits(opinions[voter], multi_label=multi_label) for voter in voters])
    biases = len(labels) if len(labels) <= _MOST_BIASES else 0
    even = np.full(len(voters), 1 / len(voters))

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        counts, bias = flat[: len(voters)], flat[len(voters) :]
        pooled = np.tensordot(counts, logits, 1) + (bias if biases else 0.0)
        if multi_label:
            cost = np.logaddexp(0, pooled) - targets * pooled
            rest = 0.5 * (1 + np.tanh(pooled / 2)) - targets
        else:
            pooled = pooled - pooled.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(pooled).sum(axis=1, keepdims=True))
            cost = targets * (log_sum - pooled)
            rest = np.exp(pooled - log_sum) - targets
        rest = rest * weights[:, None]
        gradient = np.tensordot(logits, rest, ([1, 2], [0, 1])) + _PRIOR * (counts - even)
        total = float((cost * weights[:, None]).sum())
        total += 0.5 * _PRIOR * float(((counts - even) ** 2).sum() + (bias**2).sum())
        return total, np.concatenate([gradient, rest.sum(axis=0) + _PRIOR * bias if biases else bias])

    found = scipy.optimize.minimize(
        loss,
        np.concatenate([even, np.zeros(biases)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(_LEAST.get(voter, 0.0), None) for voter in voters] + [(None, None)] * biases,
    ).x
    return Pool(
        {voter: round(float(weight), 4) for voter, weight in zip(voters, found, strict=False)},
        {label: round(float(bias), 4) for label, bias in zip(labels, found[len(voters) :], strict=False)},
    )


def pooled_scores(pool: Pool, opinions: Opinions, labels: Sequence[str], *, multi_label: bool) -> Matrix:
    """`Pool.scores` for many texts. (n, labels) float32."""
    logits = np.array([pool.bias.get(label, 0.0) for label in labels])
    total = sum(pool.weight(voter) * _logits(own, multi_label=multi_label) for voter, own in opinions.items())
    return activate(np.asarray(total + logits), multi_label=multi_label)


def scope_scores(opinions: Opinions, nearest: Matrix) -> Matrix:
    """`voting.pool.in_scope_score` for many texts.

    Args:
        opinions: Of each voter (n, labels) float32; nan where it has none.
        nearest: (n, voters) float32, similarity of each text's voters in the meaning view, nearest first; -inf where
            there are not so many.

    Returns:
        (n,) float32.
    """
    mean = sum(CERTAINTY_WEIGHTS[voter] * np.nan_to_num(own) for voter, own in opinions.items())
    parts = np.asarray(mean, np.float64)
    parts = parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12)
    entropy = -np.sum(parts * np.log(np.where(parts > 0, parts, 1)), axis=1)
    certainty = 1 - entropy / np.log(parts.shape[1]) if parts.shape[1] > 1 else np.ones(len(parts))
    there = np.isfinite(nearest[:, :NEAREST])
    total = np.where(there, nearest[:, :NEAREST], 0).sum(axis=1)
    nearness = total / np.maximum(there.sum(axis=1), 1)
    return np.asarray((np.clip(certainty, 0, 1) + np.clip(nearness, 0, 1)) / 2, np.float32)


def log_score(opinion: Matrix, targets: Matrix, *, multi_label: bool) -> float:
    """Mean logarithm of what an opinion, with doubt, gives to what is right. Higher is better; at most 0."""
    logits = _logits(opinion, multi_label=multi_label)
    if multi_label:
        return float(-(np.logaddexp(0, logits) - targets * logits).mean())
    return float((targets * logits).sum(axis=1).mean())


def _logits(opinion: Matrix, *, multi_label: bool) -> npt.NDArray[np.float64]:
    """Logarithms, or log-odds; nothing is known where there is no opinion."""
    own = np.asarray(opinion, np.float64)
    if multi_label:
        odds = np.nan_to_num((1 - DOUBT) * own + DOUBT / 2, nan=0.5)
        return np.asarray(np.log(odds / (1 - odds)))
    share = 1 / own.shape[1]
    return np.asarray(np.log((1 - DOUBT) * np.nan_to_num(own, nan=share) + DOUBT * share))
