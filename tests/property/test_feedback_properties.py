"""Laws of promoting corrections and taking them back, for one example."""

from dataclasses import dataclass, replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from nearvote.examples.example import Example, example_id
from nearvote.feedback.correction import Feedback, FeedbackState
from nearvote.feedback.layers import lay, undo

_LABELS = ("a", "b", "c")
_TEXT = "a text"
_ID = example_id("acme", "t", _TEXT)

_former = st.none() | st.builds(
    lambda label, source, weight: Example(_ID, "acme", "t", _TEXT, (label,), weight, source, 1, 2),
    st.sampled_from(_LABELS),
    st.sampled_from(["", "w", "x", "seed"]),
    st.sampled_from([1.0, 2.5]),
)
# Batches of corrections: who says what.
_batches = st.lists(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(_LABELS)), min_size=1, max_size=3), max_size=4
)


@dataclass
class Bench:
    """An example and the corrections that were promoted onto it."""

    present: Example | None
    feedback: list[Feedback]
    now: int = 10

    def promote(self, batch: list[tuple[str, str]], *, cut_short: bool = False) -> None:
        self.now += 1
        chosen = [
            Feedback(
                f"{len(self.feedback) + i:03}",
                "acme",
                "",
                "t",
                _TEXT,
                _ID,
                (label,),
                source,
                FeedbackState.PENDING,
                self.now,
                self.now,
            )
            for i, (source, label) in enumerate(batch)
        ]
        laid = lay(chosen, self.onto, self.present, self.now)
        last = laid[-1]
        if self.present is None:
            self.present = Example(_ID, "acme", "t", _TEXT, last.labels, 1.0, last.source, self.now, self.now)
        else:
            self.present = replace(self.present, labels=last.labels, source=last.source, updated_us=self.now)
        self.feedback += [one if cut_short else replace(one, state=FeedbackState.PROMOTED) for one in laid]

    @property
    def onto(self) -> list[Feedback]:
        return [one for one in self.feedback if one.state is not FeedbackState.REVOKED]

    def revoke(self, source: str) -> None:
        self.now += 1
        taken = {one.id for one in self.onto if one.source == source}
        if not taken:
            return
        undoing = undo(taken, self.onto, self.present, _LABELS, self.now)
        if undoing.changes and undoing.former is None:
            self.present = None
        elif undoing.changes and undoing.former is not None:
            former = undoing.former
            assert self.present is not None
            self.present = replace(
                self.present,
                labels=former.labels,
                weight=former.weight,
                source=former.source,
                created_us=former.created_us,
                updated_us=former.updated_us,
            )
        self.feedback = [replace(one, state=FeedbackState.REVOKED) if one.id in taken else one for one in self.feedback]

    @property
    def shown(self) -> tuple[tuple[str, ...], str, float] | None:
        """What of the example counts: labels, source, weight."""
        return None if self.present is None else (self.present.labels, self.present.source, self.present.weight)


def _after(former: Example | None, batches: list[list[tuple[str, str]]]) -> Bench:
    bench = Bench(former, [])
    for batch in batches:
        bench.promote(batch)
    return bench


@given(_former, _batches)
def test_promoting_and_revoking_gives_the_former_state(
    former: Example | None, batches: list[list[tuple[str, str]]]
) -> None:
    """Once all sources are taken back, in whatever order, the example is exactly as it was, its times too."""
    for order in permutations("xyz"):
        bench = _after(former, batches)
        for source in order:
            bench.revoke(source)
        assert bench.present == former


@given(_former, _batches, st.sampled_from("xyz"))
def test_revoking_a_source_is_as_if_it_had_said_nothing(
    former: Example | None, batches: list[list[tuple[str, str]]], source: str
) -> None:
    """What others have said stands as it would without the source."""
    bench = _after(former, batches)
    bench.revoke(source)
    without = [[(who, label) for who, label in batch if who != source] for batch in batches]
    assert bench.shown == _after(former, [batch for batch in without if batch]).shown


@given(_former, _batches, st.lists(st.sampled_from("xyz"), max_size=4))
def test_revoking_twice_is_revoking_once(
    former: Example | None, batches: list[list[tuple[str, str]]], sources: list[str]
) -> None:
    """A source that was taken back has nothing more to be taken back."""
    bench = _after(former, batches)
    for source in sources:
        bench.revoke(source)
        once = bench.present
        bench.revoke(source)
        assert bench.present == once


@given(_former, _batches, st.sampled_from(_LABELS), _batches)
def test_what_somebody_does_since_stays(
    former: Example | None, before: list[list[tuple[str, str]]], label: str, after: list[list[tuple[str, str]]]
) -> None:
    """A change by other ways outlives all corrections, those before it and those after it."""
    bench = _after(former, before)
    by_hand = Example(_ID, "acme", "t", _TEXT, (label,), 7.0, "moderator", 3, 4)
    bench.present = by_hand
    for batch in after:
        bench.promote(batch)
    for source in "xyz":
        bench.revoke(source)
    assert bench.present == by_hand


@given(_former, _batches, st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(_LABELS)), min_size=1, max_size=3))
def test_a_promotion_that_was_cut_short_can_be_taken_back(
    former: Example | None, batches: list[list[tuple[str, str]]], last: list[tuple[str, str]]
) -> None:
    """The example was changed and the correction not yet said to be promoted: revoking undoes it all the same."""
    bench = _after(former, batches)
    bench.promote(last, cut_short=True)
    for source in "xyz":
        bench.revoke(source)
    assert bench.present == former


@given(_former, st.sampled_from(_LABELS), st.sampled_from(_LABELS))
def test_what_is_pending_never_stands(former: Example | None, below: str, above: str) -> None:
    """Of a batch that was cut short, what lies beneath the one taken back is pending, and does not show."""
    bench = Bench(former, [])
    bench.promote([("x", below), ("y", above)], cut_short=True)
    bench.revoke("y")
    assert bench.present == former
