"""What is doubtful about a task's examples."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from nearvote.learn.corpus import Corpus
from nearvote.learn.finding import Finding, FindingKind
from nearvote.learn.leave_one_out import Judged, judged_by_others
from nearvote.learn.sources import contradicting_sources
from nearvote.learn.votes import meaning_candidates, surface_candidates, surface_cosines
from nearvote.voting.policy import Rules

# With fewer examples than this a label is outvoted by chance (k is 20 by default).
MIN_EXAMPLES = 5
# Texts of such a cosine of their n-grams, or of their embeddings, say the same to a reader.
_SAME_SURFACE = 0.9
_SAME_MEANING = 0.97
# The neighbours are sure when they give so much to a label that the example does not have.
_SURE = 0.8
_PAIRS_OF = 20  # neighbours of each example that are looked at for near-duplicates


def check_examples(corpus: Corpus, rules: Rules) -> list[Finding]:
    """Finds duplicates, near-duplicates across labels, contradicted labels and sources, and labels of few examples.

    Args:
        corpus: The task's examples.
        rules: The task's labels and policy.

    Returns:
        The findings, the most doubtful of each kind first.
    """
    judged = judged_by_others(corpus, rules)
    return [
        *_duplicates(corpus, rules.labels),
        *_conflicts(corpus, rules.labels),
        *_contradicted(corpus, rules, judged),
        *contradicting_sources(corpus, rules, judged),
        *_few(corpus, rules.labels),
    ]


def _labels(corpus: Corpus, place: int, labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(label for label, has in zip(labels, corpus.has[place], strict=True) if has))


def _pair(kind: FindingKind, corpus: Corpus, one: int, other: int, labels: Sequence[str], value: float) -> Finding:
    return Finding(
        kind,
        _labels(corpus, one, labels),
        corpus.ids[one],
        corpus.raw[one],
        corpus.ids[other],
        _labels(corpus, other, labels),
        corpus.raw[other],
        value,
    )


def _same(text: str) -> str:
    return " ".join(text.casefold().split())


def _duplicates(corpus: Corpus, labels: Sequence[str]) -> list[Finding]:
    by_text: defaultdict[str, list[int]] = defaultdict(list)
    for i, text in enumerate(corpus.raw):
        by_text[_same(text)].append(i)
    pairs = [(places[0], other) for places in by_text.values() for other in places[1:]]
    # Those whose labels differ first: the others do no harm.
    pairs.sort(key=lambda pair: bool((corpus.has[pair[0]] == corpus.has[pair[1]]).all()))
    return [_pair(FindingKind.DUPLICATE, corpus, *pair, labels, 1.0) for pair in pairs]


def _conflicts(corpus: Corpus, labels: Sequence[str]) -> list[Finding]:
    own = np.arange(len(corpus))
    found: dict[tuple[int, int], float] = {}
    meaning = meaning_candidates(corpus.texts, corpus, _PAIRS_OF, own=own, project=lambda vectors: vectors)
    surface = surface_candidates(corpus.texts, corpus, _PAIRS_OF, own=own)
    views = (
        (meaning.places, meaning.similarity, _SAME_MEANING),
        (surface.places, surface_cosines(corpus.texts, surface), _SAME_SURFACE),
    )
    for places, similarity, least in views:
        for i, place in zip(*np.nonzero(similarity >= least), strict=True):
            other = int(places[i, place])
            if not (corpus.has[i] & corpus.has[other]).any():
                pair = (min(int(i), other), max(int(i), other))
                found[pair] = max(found.get(pair, 0.0), min(1.0, float(similarity[i, place])))
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    same_text = {pair for pair, _ in ranked if _same(corpus.raw[pair[0]]) == _same(corpus.raw[pair[1]])}
    return [
        _pair(FindingKind.CONFLICTING_NEAR_DUPLICATE, corpus, *pair, labels, value)
        for pair, value in ranked
        if pair not in same_text  # listed as duplicates already
    ]


def _contradicted(corpus: Corpus, rules: Rules, judged: Judged) -> list[Finding]:
    against = np.where(corpus.has, 0.0, judged.scores)
    best = against.argmax(axis=1)
    sure = against.max(axis=1)
    doubtful = np.flatnonzero(sure >= _SURE)
    return [
        Finding(
            FindingKind.CONTRADICTED,
            _labels(corpus, int(i), rules.labels),
            corpus.ids[i],
            corpus.raw[i],
            other_labels=(rules.labels[best[i]],),
            value=float(sure[i]),
        )
        for i in doubtful[np.argsort(-sure[doubtful], kind="stable")]
    ]


def _few(corpus: Corpus, labels: Sequence[str]) -> list[Finding]:
    sizes = sorted(zip(corpus.has.sum(axis=0).tolist(), labels, strict=True))
    return [
        Finding(FindingKind.FEW_EXAMPLES, (label,), value=float(size)) for size, label in sizes if size < MIN_EXAMPLES
    ]
