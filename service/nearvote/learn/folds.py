"""Which examples are judged, and by what was learned from which others."""

from dataclasses import replace

import numpy as np
import scipy

from nearvote.learn.corpus import Corpus, Matrix, Places
from nearvote.learn.votes import surface_candidates, surface_cosines

# More than so many judged examples make no choice surer.
MOST_JUDGED = 4000
_FEW, _MANY = 2000, 5000
# Cosine of their n-grams from which on two texts are of one kind: a campaign, a thread, a form letter.
_ALIKE = 0.5
_LOOKED_AT = 10  # texts most like each one
_RARE = 30  # examples that share an n-gram, at most, for it to tell kinds of texts


def fold_count(examples: int) -> int:
    """In how many parts the examples are learned from: fewer where each part is large enough anyhow."""
    return 10 if examples < _FEW else 5 if examples < _MANY else 3


def folds_of(corpus: Corpus, count: int, *, seed: int = 0) -> Places:
    """Each example's fold, 0 to `count - 1`: every label spread evenly, texts of one kind together.

    Judged by its own kind a text would flatter its neighbours: a reply lies next to the mail that it quotes. On the
    training texts of spamassassin, later mail judged by earlier, this brought false positives from 11 to 3 in 1,000.

    Returns:
        (examples,) int64.
    """
    rng = np.random.default_rng(seed)
    kinds = _kinds(corpus, most=max(1, len(corpus) // (2 * count)))
    _, first, kind_of, sizes = np.unique(kinds, return_index=True, return_inverse=True, return_counts=True)
    main = corpus.has.argmax(axis=1)[first]
    fold_of = np.zeros(len(first), np.int64)
    loads = np.zeros(count)  # over all labels, so that folds of few examples a label are of one size
    for label in np.unique(main):
        own = np.zeros(count)
        members = rng.permutation(np.flatnonzero(main == label))
        for kind in members[np.argsort(-sizes[members], kind="stable")]:
            least = int(np.lexsort((loads, own))[0])
            fold_of[kind] = least
            own[least] += sizes[kind]
            loads[least] += sizes[kind]
    return fold_of[kind_of]


def _kinds(corpus: Corpus, *, most: int) -> Places:
    """Texts joined to those most like them, the likest first, into kinds of at most so many texts."""
    similarity, places = _likest(corpus)
    root = np.arange(len(corpus))
    size = np.ones(len(corpus), np.int64)

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = int(root[i])
        return i

    texts, ranks = np.nonzero(similarity >= _ALIKE)
    for place in np.argsort(-similarity[texts, ranks], kind="stable"):
        one, other = find(int(texts[place])), find(int(places[texts[place], ranks[place]]))
        if one != other and size[one] + size[other] <= most:
            root[other] = one
            size[one] += size[other]
    return np.array([find(i) for i in range(len(corpus))], np.int64)


def _likest(corpus: Corpus) -> tuple[Matrix, Places]:
    """Of each text the others most like it: cosine of their n-grams, and place."""
    surface = corpus.texts.surface
    frequency = np.bincount(surface.indices, minlength=surface.shape[1])
    # Texts that are much alike share rare n-grams, too; to look through the frequent ones would take minutes.
    telling = scipy.sparse.csr_array(
        surface.multiply(((frequency > 1) & (frequency <= _RARE)).astype(np.float32)[None, :])
    )
    telling.eliminate_zeros()
    reduced = replace(corpus, texts=replace(corpus.texts, surface=telling))
    found = surface_candidates(reduced.texts, reduced, _LOOKED_AT, own=np.arange(len(corpus)))
    return surface_cosines(corpus.texts, found), found.places


def sample_of(corpus: Corpus, *, seed: int = 0) -> Places:
    """The examples that are judged: those that share a label with another one, or an even sample of many.

    Returns:
        Their places, ascending.
    """
    shared = corpus.has & (corpus.has.sum(axis=0) > 1)
    places = np.flatnonzero(shared.any(axis=1))
    if len(places) > MOST_JUDGED:
        places = np.sort(np.random.default_rng(seed).choice(places, MOST_JUDGED, replace=False))
    return places
