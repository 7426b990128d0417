"""What the others say of each example: both views' votes in the plain metric, averaged by the task's policy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearvote.learn.corpus import Corpus, Matrix, Places
from nearvote.learn.votes import (
    count,
    fuse,
    meaning_candidates,
    meaning_kernel,
    seated,
    surface_candidates,
    surface_kernel,
)
from nearvote.voting.policy import Rules
from nearvote.voting.seats import OVERSAMPLING


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the others say of some examples.

    Attributes:
        scores: (judged, labels) float32, in [0, 1]; rows of zeros where nobody votes.
        nearest: (judged,) float32, cosine to the nearest other in the meaning view; -inf where there is none.
    """

    scores: Matrix
    nearest: Matrix


def judged_by_others(
    corpus: Corpus, rules: Rules, places: Places | None = None, *, other_sources_only: bool = False
) -> Judged:
    """Lets all others vote on each example.

    Args:
        corpus: The task's examples.
        rules: The task's labels and policy.
        places: Those that are judged; all when None.
        other_sources_only: Whether examples of the same source have no vote either. Those without a source are each
            of their own.
    """
    own = np.arange(len(corpus)) if places is None else places
    if len(corpus) < 2 or not len(own):  # noqa: PLR2004 - there is nobody to ask
        return Judged(np.zeros((len(own), len(rules.labels)), np.float32), np.full(len(own), -np.inf, np.float32))
    policy, texts = rules.policy, corpus.texts if places is None else corpus.texts.take(places)
    limit = min(len(corpus) - 1, OVERSAMPLING * policy.k)
    apart = corpus.groups[own] if other_sources_only else None
    meaning = meaning_candidates(texts, corpus, limit, own=own, project=lambda vectors: vectors, apart=apart)
    surface = surface_candidates(texts, corpus, limit, own=own, apart=apart)
    scores = [
        count(
            candidates,
            seated(candidates, corpus, policy.k, policy.max_group_share),
            corpus,
            kernel,
            class_size_exponent=policy.class_size_exponent,
            multi_label=rules.multi_label,
        )
        for candidates, kernel in (
            (meaning, meaning_kernel(policy.temperature)),
            (surface, surface_kernel(policy.surface_exponent)),
        )
    ]
    return Judged(fuse(scores[0], scores[1], policy), meaning.similarity[:, 0])


def labels_of(scores: Matrix, rules: Rules) -> npt.NDArray[np.bool_]:
    """The labels that scores give, nobody abstaining.

    Returns:
        (judged, labels) bool: the best label, or in a multi-label task all that reach their thresholds, and else the
        benign one; rows of False where nobody votes.
    """
    voted = scores.max(axis=1, initial=0) > 0
    given = np.zeros(scores.shape, np.bool_)
    if not rules.multi_label:
        rows = np.flatnonzero(voted)
        given[rows, scores[rows].argmax(axis=1)] = True
        return given
    benign = rules.labels.index(rules.benign_label) if rules.benign_label else None
    given = scores >= np.array([rules.policy.score_threshold_of(label) for label in rules.labels], np.float32)
    if benign is not None:
        given[:, benign] = False
        given[:, benign] = ~given.any(axis=1)
    return np.asarray(given & voted[:, None], np.bool_)
