"""What is learned of some examples: a metric, and prototypes on each of the views."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearvote.learn.corpus import Corpus, Matrix, Texts
from nearvote.learn.heads import Head, NGrams, learn_head, ngrams_of
from nearvote.learn.metric import SCALE, LearnedMetric, learn_metric
from nearvote.voting.pool import Voter
from nearvote.voting.prototypes import Prototypes

if TYPE_CHECKING:
    import scipy

# Inverse penalties of the prototypes: those on n-grams are chosen, those on vectors of several labels are not.
STRENGTHS = (3.0, 30.0)
_DENSE_STRENGTH = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A metric and prototypes.

    Attributes:
        metric: None for the plain one.
        dense: Prototypes in the metric.
        plain: Prototypes on the vectors as the encoder gives them.
        ngrams: Which n-grams the last ones know.
        sparse: Prototypes on n-grams, by the inverse of their penalty.
        multi_label: Whether each label is a question of its own.
    """

    metric: LearnedMetric | None
    dense: Head
    plain: Head
    ngrams: NGrams
    sparse: dict[float, Head]
    multi_label: bool

    def project(self, vectors: Matrix) -> Matrix:
        """Vectors in the metric, (n, dimension) float32."""
        return vectors if self.metric is None else self.metric.metric.project(vectors)

    def opinions(self, texts: Texts) -> dict[Voter, Matrix]:
        """What the prototypes on vectors say of texts, (texts, labels) float32 each."""
        return {
            Voter.MEANING_PROTOTYPES: self.dense.opinions(self.project(texts.means), multi_label=self.multi_label),
            Voter.PLAIN_PROTOTYPES: self.plain.opinions(texts.means, multi_label=self.multi_label),
        }

    def surface_opinions(self, texts: Texts) -> dict[float, Matrix]:
        """What the prototypes on n-grams say of texts, by strength; (texts, labels) float32 each."""
        rows = self.ngrams.rows(texts.surface)
        return {strength: head.opinions(rows, multi_label=self.multi_label) for strength, head in self.sparse.items()}

    def prototypes(self, labels: tuple[str, ...], strength: float) -> Prototypes:
        """The prototypes as a message meets them, those on n-grams of one strength."""
        head = self.sparse[strength]
        return Prototypes(
            labels=labels,
            multi_label=self.multi_label,
            meaning=np.ascontiguousarray(self.dense.coefficients.T),
            meaning_bias=self.dense.bias,
            plain=np.ascontiguousarray(self.plain.coefficients.T),
            plain_bias=self.plain.bias,
            buckets=self.ngrams.buckets.astype(np.uint32),
            rarity=self.ngrams.rarity,
            unknown_rarity=self.ngrams.unknown_rarity,
            surface=head.coefficients,
            surface_bias=head.bias,
        )


def learn_model(examples: Corpus, targets: Matrix, *, multi_label: bool, tick: Callable[[], None]) -> Model:
    """Learns a metric and prototypes.

    Args:
        examples: The examples to learn from.
        targets: (examples, labels) float32: 1 for each label that an example has; for one label a text, the rows
            add up to 1.
        multi_label: Whether each label is a question of its own.
        tick: Called now and then; it raises when the work is to stop.
    """
    means, weights = examples.texts.means, examples.weights

    def head(vectors: "Matrix | scipy.sparse.csr_array", strength: float) -> Head:
        return learn_head(vectors, targets, weights, strength=strength, multi_label=multi_label, tick=tick)

    rows = targets / np.maximum(targets.sum(axis=1, keepdims=True), 1)
    metric = learn_metric(means, rows.astype(np.float32), weights, tick)
    if metric is not None and not multi_label:
        # The prototypes that come with the metric are a head already.
        absent = np.where(examples.has.any(axis=0), 0, -1e4).astype(np.float32)
        dense = Head(SCALE * metric.prototypes.T, absent)
    else:
        dense = head(means if metric is None else metric.metric.project(means), _DENSE_STRENGTH)
    ngrams = ngrams_of(examples)
    shared = ngrams.rows(examples.texts.surface)
    return Model(
        metric=metric,
        dense=dense,
        plain=head(means, _DENSE_STRENGTH),
        ngrams=ngrams,
        sparse={strength: head(shared, strength) for strength in STRENGTHS},
        multi_label=multi_label,
    )
