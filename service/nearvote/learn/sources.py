"""Sources that contradict the rest: who labels otherwise than all others, more often than chance explains.

An example is contradicted when the vote gives a label that it lacks more than any that it has. One of the source that
is looked at must be so twice: by the vote of other sources alone, so that a source can't speak for itself, and by the
vote of all others but its own near-copies, so that a source that knows its own ground is not blamed for what others
make of it. Only those that the rest would answer are judged. All examples that are not the source's are the
yardstick, each judged by all others; in a task whose labels are hard these are contradicted often, too.

With k of a source's n examples contradicted, and c of the m others, the chance that k or more of the k + c would fall
on the source if it were like the others is Fisher's exact test, one-sided:

    P = sum over i >= k of C(n, i) C(m, k + c - i) / C(n + m, k + c)

R. A. Fisher, "The logic of inductive inference", Journal of the Royal Statistical Society 98 (1935). The bound on P is
shared by the sources that are tested (Bonferroni).
"""

import math

import numpy as np
import numpy.typing as npt

from nearvote.learn.corpus import Corpus, Places
from nearvote.learn.finding import Finding, FindingKind
from nearvote.learn.leave_one_out import Judged, OwnSource, judged_by_others
from nearvote.voting.policy import Rules

# With fewer examples a source is judged by accident; they stand among the contradicted ones all the same.
MIN_JUDGED = 10
# P is kept this low over all sources together: one false alarm in a thousand checks.
MAX_CHANCE = 0.001
# What is sure need not be much: of thousands of examples a few in a hundred more are sure to be more.
_TIMES = 2.0


def contradicting_sources(corpus: Corpus, rules: Rules, judged: Judged) -> list[Finding]:
    """Finds the sources whose examples the rest contradicts.

    Args:
        corpus: The task's examples.
        rules: The task's labels and policy.
        judged: What all others say of each example.

    Returns:
        A finding for each such source, the most contradicted first.
    """
    sizes = np.bincount(corpus.groups[corpus.groups >= 0], minlength=len(corpus.sources))
    tested = np.flatnonzero(sizes >= MIN_JUDGED)
    if not len(tested):
        return []
    places = np.flatnonzero(np.isin(corpus.groups, tested))
    by_rest = judged_by_others(corpus, rules, places, own_source=OwnSource.SILENT)
    with_own = judged_by_others(corpus, rules, places, own_source=OwnSource.NO_COPIES)
    answered = by_rest.nearest >= rules.policy.similarity_floor
    against = _against(corpus, by_rest, places) & _against(corpus, with_own, places)
    all_against = _against(corpus, judged, np.arange(len(corpus)))
    found = []
    for group in tested:
        own = answered & (corpus.groups[places] == group)
        others = corpus.groups != group
        n, k = int(own.sum()), int(against[own].sum())
        m, c = int(others.sum()), int(all_against[others].sum())
        if n < MIN_JUDGED or k * m < _TIMES * c * n or fisher_greater(k, n, c, m) > MAX_CHANCE / len(tested):
            continue
        found.append(
            Finding(
                FindingKind.CONTRADICTING_SOURCE,
                (),
                value=k / n,
                source=corpus.sources[group],
                judged_count=n,
                rest_value=c / m,
            )
        )
    return sorted(found, key=lambda finding: (-finding.value, finding.source))


def fisher_greater(k: int, n: int, c: int, m: int) -> float:
    """P of the module's docstring: k of n against c of m, in [0, 1]."""
    total = k + c
    terms = [
        _log_choose(n, i) + _log_choose(m, total - i) - _log_choose(n + m, total) for i in range(k, min(n, total) + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, terms)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if 0 <= k <= n else -math.inf


def _against(corpus: Corpus, judged: Judged, places: Places) -> npt.NDArray[np.bool_]:
    has = corpus.has[places]
    lacks = np.where(has, 0, judged.scores).max(axis=1, initial=0)
    return np.asarray(lacks > np.where(has, judged.scores, 0).max(axis=1, initial=0), np.bool_)
