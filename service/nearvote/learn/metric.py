"""Learning the metric: prototypes under a cosine softmax, and the linear map in which they fit best."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearvote.voting.metric import LinearMetric
from nearvote.voting.prototypes import Matrix, activate

# Chosen by cross-validation on training texts of banking77, clinc150, hwu64 and hatexplain, whole and of 5 or 10
# examples a label; the figures move by a few thousandths over twice or half of each (docs/quality.md).
SCALE = 16.0  # inverse temperature of the softmax over cosines
_ANCHOR = 1e-3  # pull of the map towards the identity
_LEARNING_RATE = 3e-3
_EPOCHS = 10
_BATCH = 256
_LEAST_STEPS = 60
_MOST_STEPS = 1500
# With few examples a label half of each vector's elements are left out in each step, and three maps are averaged.
_FEW = 25
_DROPOUT = 0.5
_MEMBERS = 3
_LEAST_EXAMPLES = 4
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class LearnedMetric:
    """A metric, and the prototypes that were learned with it: (labels, dimension) float32, rows of length 1."""

    metric: LinearMetric
    prototypes: Matrix


def learn_metric(
    vectors: Matrix, targets: Matrix, weights: Matrix, tick: Callable[[], None], *, seed: int = 0
) -> LearnedMetric | None:
    """Learns a map W and prototypes p so that softmax(SCALE cos(W x, p)) gives the labels, W near the identity.

    Neighbourhoods are then those of one label: a cosine softmax pulls all examples of a label to one direction. Adam
    (Kingma and Ba 2015) with cosine decay.

    Args:
        vectors: (n, dimension) float32, rows of length 1.
        targets: (n, labels) float32, rows that sum to 1, or to 0 for an example that has none of the labels.
        weights: (n,) float32, how much each example counts.
        tick: Called now and then; it raises when the work is to stop.
        seed: Of the order of examples.

    Returns:
        The metric; None where there is nothing to learn from: fewer than two labels, or one example of each.
    """
    weights = np.where(targets.sum(axis=1) > 0, weights / max(float(weights.mean()), _TINY), 0).astype(np.float32)
    live = np.flatnonzero(weights > 0)
    used = (targets * weights[:, None]).sum(axis=0) > 0
    label_count = int(used.sum())
    if len(live) < _LEAST_EXAMPLES or label_count < 2 or len(live) <= label_count:  # noqa: PLR2004
        return None
    if not (vectors[live] != vectors[live[0]]).any():  # the same text again and again
        return None
    few = len(live) / label_count <= _FEW
    members = [
        _descend(vectors, targets, weights, used, live, tick, np.random.default_rng([seed, i]), dropout=few)
        for i in range(_MEMBERS if few else 1)
    ]
    matrix = np.mean([matrix for matrix, _ in members], axis=0)
    together = np.stack([own for _, own in members]).mean(axis=0, dtype=np.float32)
    prototypes = _unit(np.asarray(together, np.float32)) * used[:, None]
    if not (np.isfinite(matrix).all() and np.isfinite(prototypes).all()):
        return None
    return LearnedMetric(LinearMetric(matrix.astype(np.float32)), prototypes.astype(np.float32))


def _descend(
    vectors: Matrix,
    targets: Matrix,
    weights: Matrix,
    used: npt.NDArray[np.bool_],
    live: npt.NDArray[np.int64],
    tick: Callable[[], None],
    rng: np.random.Generator,
    *,
    dropout: bool,
) -> tuple[Matrix, Matrix]:
    identity = np.eye(vectors.shape[1], dtype=np.float32)
    matrix = identity.copy()
    prototypes = _unit(np.asarray((targets * weights[:, None]).T @ vectors, np.float32))
    absent = np.where(used, 0, -1e4).astype(np.float32)
    adam = _Adam((matrix, prototypes))
    steps = int(np.clip(_EPOCHS * -(-len(live) // _BATCH), _LEAST_STEPS, _MOST_STEPS))
    order, at = rng.permutation(live), 0
    for step in range(1, steps + 1):
        tick()
        if at >= len(order):
            order, at = rng.permutation(live), 0
        batch = order[at : at + _BATCH]
        at += _BATCH
        x = vectors[batch]
        if dropout:
            x = x * (rng.random(x.shape, dtype=np.float32) >= _DROPOUT)
        mapped = x @ matrix.T
        lengths = np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), _TINY)
        prototype_lengths = np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), _TINY)
        u, p = mapped / lengths, prototypes / prototype_lengths
        given = activate(SCALE * (u @ p.T) + absent, multi_label=False)
        gradient = (given - targets[batch]) * (weights[batch, None] * (SCALE / len(batch)))
        # Through the two normalisations: only what is across a vector changes its direction.
        of_u, of_p = gradient @ p, gradient.T @ u
        of_matrix = ((of_u - (of_u * u).sum(axis=1, keepdims=True) * u) / lengths).T @ x
        of_prototypes = (of_p - (of_p * p).sum(axis=1, keepdims=True) * p) / prototype_lengths
        rate = _LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        adam.step((of_matrix + _ANCHOR * (matrix - identity), of_prototypes), rate)
    return matrix, _unit(prototypes)


class _Adam:
    def __init__(self, parameters: tuple[Matrix, ...]) -> None:
        self._parameters = parameters
        self._first = [np.zeros_like(parameter) for parameter in parameters]
        self._second = [np.zeros_like(parameter) for parameter in parameters]
        self._count = 0

    def step(self, gradients: tuple[Matrix, ...], rate: float) -> None:
        self._count += 1
        for i, gradient in enumerate(gradients):
            self._first[i] += 0.1 * (gradient - self._first[i])
            self._second[i] += 0.01 * (gradient * gradient - self._second[i])
            corrected = np.sqrt(self._second[i] / (1 - 0.99**self._count)) + 1e-8
            moved = np.float32(rate / (1 - 0.9**self._count)) * self._first[i] / corrected
            np.subtract(self._parameters[i], moved, out=self._parameters[i])


def _unit(rows: Matrix) -> Matrix:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY), np.float32)
