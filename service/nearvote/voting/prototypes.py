"""Label prototypes: what each label's examples have in common, beside the single neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearvote.text.surface import SparseVector
from nearvote.voting.pool import Opinions, Voter

Matrix = npt.NDArray[np.float32]

_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Prototypes:
    """A direction for each label in each view; how far a message lies along it says how much it is like the label.

    There are three sets: in the task's metric, in the plain one, which new kinds of texts mislead less, and of n-grams.
    Each is a logistic regression: the softmax of the logits in a single-label task, the logistic function of
    each in a multi-label one.

    Attributes:
        labels: (labels,) their names.
        multi_label: Whether each label is a question of its own.
        meaning: (labels, dimension) float32, in the task's metric.
        meaning_bias: (labels,) float32.
        plain: (labels, dimension) float32, in the plain metric.
        plain_bias: (labels,) float32.
        buckets: (n,) uint32, ascending: the n-grams that tell labels apart.
        rarity: (n,) float32, their inverse document frequency.
        unknown_rarity: That of all other n-grams, which count for a message's length alone.
        surface: (n, labels) float32, what each of them says.
        surface_bias: (labels,) float32.
    """

    labels: tuple[str, ...]
    multi_label: bool
    meaning: Matrix
    meaning_bias: Matrix
    plain: Matrix
    plain_bias: Matrix
    buckets: npt.NDArray[np.uint32]
    rarity: Matrix
    unknown_rarity: float
    surface: Matrix
    surface_bias: Matrix

    def opinions(self, windows: Matrix, in_metric: Matrix, surface: SparseVector) -> Opinions:
        """What the prototypes say of a message.

        Args:
            windows: (windows, dimension) float32, the message's vectors, one or more.
            in_metric: The same in the task's metric.
            surface: Its n-grams.

        Returns:
            For each set a score of each label, in [0, 1]; in a single-label task they sum to 1.
        """
        of_meaning = self.meaning @ mean_vector(in_metric) + self.meaning_bias
        of_plain = self.plain @ mean_vector(windows) + self.plain_bias
        of_surface = self.surface_bias
        if len(self.buckets) and len(surface):
            place = np.minimum(np.searchsorted(self.buckets, surface.indices), len(self.buckets) - 1)
            known = self.buckets[place] == surface.indices
            weighed = surface.values * np.where(known, self.rarity[place], np.float32(self.unknown_rarity))
            of_surface = of_surface + weighed[known] @ self.surface[place[known]] / max(
                float(np.sqrt(weighed @ weighed)), _TINY
            )
        return {
            Voter.MEANING_PROTOTYPES: self._named(of_meaning),
            Voter.PLAIN_PROTOTYPES: self._named(of_plain),
            Voter.SURFACE_PROTOTYPES: self._named(of_surface),
        }

    def _named(self, logits: Matrix) -> dict[str, float]:
        return dict(zip(self.labels, activate(logits, multi_label=self.multi_label).tolist(), strict=True))


def mean_vector(windows: Matrix) -> Matrix:
    """A whole text as one vector: the mean of its windows, (dimension,) float32 of length 1, or of zeros."""
    mean = windows.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny)), np.float32)


def activate(logits: npt.NDArray[np.floating], *, multi_label: bool) -> Matrix:
    """Logits (..., labels) as scores in [0, 1]: softmax over the last axis, or the logistic function of each."""
    if multi_label:
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)), np.float32)  # does not overflow
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)


def labels_matrix(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which row has which label. (rows, labels) bool."""
    place = {label: i for i, label in enumerate(labels)}
    has = np.zeros((len(rows), len(labels)), np.bool_)
    for i, row in enumerate(rows):
        for label in row:
            if label in place:
                has[i, place[label]] = True
    return has
