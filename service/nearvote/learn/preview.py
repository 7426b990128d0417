"""What a batch of examples would change on those that are there, before it is added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nearvote.examples.store import StoredWindow
from nearvote.learn.corpus import Corpus, Places, corpus_of
from nearvote.learn.leave_one_out import judged_by_others, labels_of
from nearvote.voting.policy import Rules

MAX_FLIPS = 100
# Judging takes time by their number and that of all: of 100,000 examples these take as long as all of 15,000.
MOST_JUDGED = 4_000
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Flip:
    """An example whose vote of all others comes out otherwise with the batch.

    Attributes:
        example_id: The example.
        labels: The labels that it has now.
        before: Those that the vote gives without the batch; none where nobody votes.
        after: Those that it gives with the batch.
        text: The first 200 characters of its text.
    """

    example_id: str
    labels: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a batch would change on the examples that are there.

    Attributes:
        judged_count: How many were judged: all, or of many the 4,000 most like something in the batch.
        agreeing_before_count: How many have the labels that the vote gives without the batch.
        agreeing_after_count: How many have, as they are now, the labels that the vote gives with the batch.
        flip_count: For how many the vote comes out otherwise.
        flips: These, 100 at most, first those that agreed before, then by id.
    """

    judged_count: int
    agreeing_before_count: int
    agreeing_after_count: int
    flip_count: int
    flips: tuple[Flip, ...]


def preview(
    windows: Sequence[StoredWindow],
    rules: Rules,
    relabeled: Mapping[str, tuple[tuple[str, ...], str]],
    added: Sequence[StoredWindow],
) -> Preview:
    """Judges examples by all others, without a batch and with it.

    Args:
        windows: All windows of the task's examples.
        rules: The task's labels and policy.
        relabeled: Labels and source that the batch gives to examples that are there, by id.
        added: The windows of the batch's new examples.
    """
    corpus = corpus_of(windows, rules.labels)
    changed = [
        replace(window, labels=relabeled[window.example_id][0], source=relabeled[window.example_id][1])
        if window.example_id in relabeled
        else window
        for window in windows
    ]
    others = corpus_of([*changed, *added], rules.labels)
    batch = [*relabeled, *{window.example_id for window in added}]
    judged = _judged(corpus, others, batch)
    before = labels_of(judged_by_others(corpus, rules, judged).scores, rules)
    places = _places(others, [corpus.ids[i] for i in judged])
    after = labels_of(judged_by_others(others, rules, places).scores, rules)
    has = corpus.has[judged]
    agreed = (before == has).all(axis=1)
    flipped = np.flatnonzero((before != after).any(axis=1))
    shown = flipped[np.argsort(~agreed[flipped], kind="stable")][:MAX_FLIPS]
    return Preview(
        judged_count=len(judged),
        agreeing_before_count=int(agreed.sum()),
        agreeing_after_count=int((after == has).all(axis=1).sum()),
        flip_count=len(flipped),
        flips=tuple(_flip(corpus, int(judged[i]), before[i], after[i], rules) for i in shown),
    )


def _judged(corpus: Corpus, others: Corpus, batch: Sequence[str]) -> Places:
    """The places of the examples that are judged, ascending."""
    if len(corpus) <= MOST_JUDGED or not batch:
        return np.arange(min(len(corpus), MOST_JUDGED))
    likeness = (corpus.texts.means @ others.texts.means[_places(others, batch)].T).max(axis=1)
    return np.sort(np.argsort(-likeness, kind="stable")[:MOST_JUDGED])


def _places(corpus: Corpus, ids: Sequence[str]) -> Places:
    place_of = {id_: place for place, id_ in enumerate(corpus.ids)}
    return np.array([place_of[id_] for id_ in ids], np.int64)


def _flip(
    corpus: Corpus, place: int, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], rules: Rules
) -> Flip:
    labels, old, new = (
        tuple(sorted(label for label, has in zip(rules.labels, row, strict=True) if has))
        for row in (corpus.has[place], before, after)
    )
    return Flip(corpus.ids[place], labels, old, new, corpus.raw[place][:_SHOWN_CHARACTERS])
