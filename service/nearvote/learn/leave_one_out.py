"""What the others say of each example: both views' votes in the plain metric, averaged by the task's policy."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from nearvote.learn.corpus import Corpus, Matrix, Places
from nearvote.learn.votes import (
    Barred,
    count,
    fuse,
    meaning_candidates,
    meaning_kernel,
    seated,
    surface_candidates,
    surface_kernel,
)
from nearvote.voting.policy import Rules
from nearvote.voting.seats import NEAR_DUPLICATE_BITS, OVERSAMPLING


class OwnSource(Enum):
    """What examples of the same source have to say on one another."""

    VOTES = "they vote"
    NO_COPIES = "they vote, but for near-duplicates"
    SILENT = "they have no vote"


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
    corpus: Corpus, rules: Rules, places: Places | None = None, *, own_source: OwnSource = OwnSource.VOTES
) -> Judged:
    """Lets all others vote on each example.

    Args:
        corpus: The task's examples.
        rules: The task's labels and policy.
        places: Those that are judged; all when None.
        own_source: What the other examples of the same source have to say. Those without a source are each of their
            own.
    """
    own = np.arange(len(corpus)) if places is None else places
    if len(corpus) < 2 or not len(own):  # noqa: PLR2004 - there is nobody to ask
        return Judged(np.zeros((len(own), len(rules.labels)), np.float32), np.full(len(own), -np.inf, np.float32))
    policy, texts = rules.policy, corpus.texts if places is None else corpus.texts.take(places)
    limit = min(len(corpus) - 1, OVERSAMPLING * policy.k)
    barred = None if own_source is OwnSource.VOTES else _barred(corpus, own, copies=own_source is OwnSource.NO_COPIES)
    meaning = meaning_candidates(texts, corpus, limit, own=own, project=lambda vectors: vectors, barred=barred)
    surface = surface_candidates(texts, corpus, limit, own=own, barred=barred)
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


def _barred(corpus: Corpus, own: Places, *, copies: bool) -> Barred:
    def barred(rows: slice) -> npt.NDArray[np.bool_]:
        groups, prints = corpus.groups[own[rows], None], corpus.fingerprints[own[rows], None]
        same = (groups == corpus.groups) & (groups >= 0)
        if copies:
            same &= np.bitwise_count(prints ^ corpus.fingerprints) <= NEAR_DUPLICATE_BITS
        return np.asarray(same, np.bool_)

    return barred


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
