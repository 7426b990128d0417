"""How good predictions are, in numbers.

A measure is a function of how often each message counts, so that one piece of code gives its value, where each counts
once, and its interval, where messages are drawn again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]

Counts = NDArray[np.float32]
"""How often each message counts, (samples, messages). Single precision holds whole numbers up to 16 million."""

Measure = Callable[[Counts], Numbers]
"""From counts to one value for each sample, (samples,); NaN where it does not apply."""

_SAMPLES = 1000
_COUNTS_AT_ONCE = 1_000_000  # bounds the memory


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, with the interval in which it lies for 95 of 100 sets of messages like this one.

    Attributes:
        value: The value, in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """How one label does.

    Attributes:
        precision: Share of the messages given the label that have it, in [0, 1]; None when it was never given.
        recall: Share of the messages that have the label that were given it, in [0, 1]; None when none has it.
        f1: Their harmonic mean, in [0, 1]; None when the label was neither expected nor given.
        support: Messages that have the label.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True)
class Bin:
    """The messages whose confidence is above `lower` and at most `upper`; the lowest bin has those at 0 too.

    Attributes:
        lower: Where the bin begins.
        upper: Where it ends.
        count: Its messages, 1 or more.
        confidence: Their mean confidence.
        accuracy: How many of them are right, in [0, 1].
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def accuracy(right: Flags, among: Flags | None = None) -> Measure:
    """The share of messages that are right.

    Args:
        right: Whether each message is, (messages,).
        among: Which messages are asked about, (messages,); None for all.

    Returns:
        The measure, in [0, 1].
    """
    whole = np.ones(right.shape, np.float32) if among is None else among.astype(np.float32)
    part = right.astype(np.float32) * whole
    return lambda counts: _ratio(counts @ part, counts @ whole)


def macro_f1(truth: Flags, given: Flags) -> Measure:
    """The mean of the labels' F1, over labels that a message has; one that is only given costs the others recall.

    Args:
        truth: Whether each message has each label, (messages, labels).
        given: Whether it was given it, (messages, labels).

    Returns:
        The measure, in [0, 1].
    """
    had = truth.any(axis=0)
    expected, answers = truth[:, had].astype(np.float32), given[:, had].astype(np.float32)
    hits = expected * answers

    def measure(counts: Counts) -> Numbers:
        support = counts @ expected
        f1 = _ratio(2 * (counts @ hits), support + counts @ answers)
        return _ratio(np.where(support > 0, f1, 0).sum(axis=1), (support > 0).sum(axis=1))

    return measure


def auroc(scores: Numbers, positive: Flags) -> Measure:
    """The chance that a positive message scores above a negative one, a tie counting half.

    This is the area under the ROC curve, as the rank statistic of Mann and Whitney (1947).

    Args:
        scores: Higher for what should be positive, (messages,).
        positive: Which messages are, (messages,).

    Returns:
        The measure, in [0, 1].
    """
    order = np.argsort(scores, kind="stable")
    ranked, above = scores[order], positive[order].astype(np.float32)
    # Where each run of equal scores begins.
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(ranked)), np.bool_), ranked[1:] != ranked[:-1]]))

    def measure(counts: Counts) -> Numbers:
        sorted_counts = counts[:, order]
        positives = np.add.reduceat(sorted_counts * above, starts, axis=1, dtype=np.float64)
        negatives = np.add.reduceat(sorted_counts * (1 - above), starts, axis=1, dtype=np.float64)
        beaten = np.cumsum(negatives, axis=1) - negatives / 2
        return _ratio((positives * beaten).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))

    return measure


def value(measure: Measure, messages: int) -> float | None:
    """A measure's value; None when it does not apply."""
    found = float(measure(np.ones((1, messages), np.float32))[0])
    return None if np.isnan(found) else found


def estimate(measures: Mapping[str, Measure], messages: int) -> dict[str, Figure | None]:
    """Values with their 95 % intervals.

    The intervals are percentiles of the bootstrap (Efron 1979): the messages are drawn again with replacement, and
    samples for which a measure does not apply are left out of its interval. The draws are the same at every call.

    Args:
        measures: What to measure, by name.
        messages: How many messages there are, 1 or more.

    Returns:
        The figure of each measure, None where it does not apply.
    """
    generator = np.random.default_rng(0)
    parts: dict[str, list[Numbers]] = {name: [] for name in measures}
    at_once = min(_SAMPLES, max(1, _COUNTS_AT_ONCE // messages))
    for start in range(0, _SAMPLES, at_once):
        rows = min(at_once, _SAMPLES - start)
        drawn = generator.integers(messages, size=(rows, messages)) + np.arange(rows)[:, None] * messages
        counts = np.bincount(drawn.ravel(), minlength=rows * messages).reshape(rows, messages).astype(np.float32)
        for name, measure in measures.items():
            parts[name].append(measure(counts))
    figures: dict[str, Figure | None] = {}
    for name, measure in measures.items():
        found = value(measure, messages)
        sampled = np.concatenate(parts[name])
        sampled = sampled[~np.isnan(sampled)]
        if found is None or not len(sampled):
            figures[name] = None
        else:
            low, high = np.percentile(sampled, [2.5, 97.5])
            figures[name] = Figure(found, float(low), float(high))
    return figures


def by_label(truth: Flags, given: Flags) -> list[LabelFigures]:
    """How each label does.

    Args:
        truth: Whether each message has each label, (messages, labels).
        given: Whether it was given it, (messages, labels).

    Returns:
        The figures of each label, in the columns' order.
    """
    hits, support, answers = ((flags.sum(axis=0)).tolist() for flags in (truth & given, truth, given))
    return [
        LabelFigures(
            precision=hit / answered if answered else None,
            recall=hit / had if had else None,
            f1=2 * hit / (had + answered) if had + answered else None,
            support=had,
        )
        for hit, had, answered in zip(hits, support, answers, strict=True)
    ]


def confusions(truth: Flags, given: Flags, most: int) -> list[tuple[int, int, int]]:
    """The labels most often given in place of others.

    Args:
        truth: Whether each message has each label, (messages, labels).
        given: Whether it was given it, (messages, labels). A message with several labels confuses each label that it
            lacks with each that it was given wrongly.
        most: How many pairs to name.

    Returns:
        (column of the label expected, column of the label given, messages), the most frequent first, equally frequent
        ones in the columns' order.
    """
    pairs = (truth & ~given).T.astype(np.float32) @ (given & ~truth).astype(np.float32)
    order = np.argsort(-pairs, axis=None, kind="stable")[:most]
    found = ((int(flat // len(pairs)), int(flat % len(pairs))) for flat in order)
    return [(row, column, int(pairs[row, column])) for row, column in found if pairs[row, column]]


def calibration(confidence: Numbers, right: Flags, bins: int = 15) -> tuple[float | None, list[Bin]]:
    """How far confidence is from accuracy: the expected calibration error of Guo et al. (2017), in equal-width bins.

    Args:
        confidence: How sure each answer is, in [0, 1], (messages,).
        right: Whether it is right, (messages,).
        bins: How many bins [0, 1] is cut into, 1 or more.

    Returns:
        The mean distance between a bin's confidence and its accuracy, weighted by its messages, in [0, 1], None
        without messages; and the bins that have messages, lowest first.
    """
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found = [
        Bin(
            lower=float(edges[place]),
            upper=float(edges[place + 1]),
            count=int((places == place).sum()),
            confidence=float(confidence[places == place].mean()),
            accuracy=float(right[places == place].mean()),
        )
        for place in np.unique(places).tolist()
    ]
    if not found:
        return None, []
    return sum(b.count * abs(b.confidence - b.accuracy) for b in found) / len(confidence), found


def accuracy_at_coverage(confidence: Numbers, right: Flags, percents: Sequence[int]) -> list[float | None]:
    """How accuracy rises when the least confident answers are left out: the risk-coverage curve, upside down.

    See El-Yaniv and Wiener (2010). Of equally confident messages, some of which must be left out, the mean counts,
    so that their order does not matter.

    Args:
        confidence: How sure each answer is, (messages,).
        right: Whether it is right, (messages,).
        percents: How many messages in a hundred are kept, 1 to 100, rounded up to whole messages.

    Returns:
        The accuracy at each coverage, in [0, 1]; None without messages.
    """
    if not len(confidence):
        return [None] * len(percents)
    ranked = np.sort(confidence)[::-1]
    found: list[float | None] = []
    for percent in percents:
        kept = -(-len(ranked) * percent // 100)
        surer, equal = confidence > ranked[kept - 1], confidence == ranked[kept - 1]
        hits = right[surer].sum() + (kept - surer.sum()) * right[equal].mean()
        found.append(float(hits / kept))
    return found


def _ratio(part: NDArray[np.floating], whole: NDArray[np.number]) -> Numbers:
    """Their quotient, NaN where there is nothing to divide by."""
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out
