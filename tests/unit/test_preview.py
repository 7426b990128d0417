"""What a batch would change on the examples that are there."""

from dataclasses import replace

import numpy as np
import pytest

from nearvote.learn import preview as module
from nearvote.learn.leave_one_out import judged_by_others, labels_of
from nearvote.learn.preview import MAX_FLIPS, preview
from nearvote.voting.policy import Policy, Rules
from tests.unit.made_up import Made, corpus, easy, stored

LABELS = ("a", "b")
RULES = Rules(LABELS)


def _bad(made: list[Made], times: int = 1) -> list[Made]:
    """The examples of label a once more, under b."""
    return [replace(one, labels=("b",), source="bad") for one in made if one.labels == ("a",) for _ in range(times)]


def test_an_empty_batch_changes_nothing() -> None:
    """Without a batch before and after are the same."""
    made = easy(np.random.default_rng(0), {"a": 15, "b": 20})
    seen = preview(stored(made), RULES, {}, [])
    assert (seen.judged_count, seen.flip_count, seen.flips) == (35, 0, ())
    assert seen.agreeing_before_count == seen.agreeing_after_count > 30


@pytest.mark.parametrize("multi_label", [False, True])
def test_what_is_shown_is_what_comes_about(multi_label: bool) -> None:  # noqa: FBT001 - pytest's
    """Labels before and after are those of judging the examples as they are, and as they would be."""
    made = easy(np.random.default_rng(1), {"a": 20, "b": 20}, windows=2)
    rules = Rules(LABELS, multi_label=multi_label, benign_label="b" if multi_label else "", policy=Policy(k=5))
    batch = _bad(made)[:12]
    first = next(i for i, one in enumerate(made) if one.labels == ("a",))
    seen = preview(stored(made), rules, {f"{first:05}": (("b",), "bad")}, stored(batch, first=100))
    assert 0 < seen.flip_count < 40
    was = labels_of(judged_by_others(corpus(made, LABELS), rules).scores, rules)
    changed = [replace(one, labels=("b",), source="bad") if i == first else one for i, one in enumerate(made)]
    whole = corpus([*changed, *batch], LABELS)
    becomes = labels_of(judged_by_others(whole, rules).scores, rules)[: len(made)]
    flipped = np.flatnonzero((was != becomes).any(axis=1))
    assert {flip.example_id for flip in seen.flips} == {f"{i:05}" for i in flipped}
    for flip in seen.flips:
        i = int(flip.example_id)
        assert flip.labels == made[i].labels
        assert flip.before == tuple(label for label, has in zip(LABELS, was[i], strict=True) if has)
        assert flip.after == tuple(label for label, has in zip(LABELS, becomes[i], strict=True) if has)


def test_the_list_is_bounded() -> None:
    """At most a hundred flips are listed, those first that agreed before; their number is told, texts are cut."""
    made = easy(np.random.default_rng(2), {"a": 150, "b": 20})
    made = [replace(one, text=one.text + " x" * 300) for one in made]
    wrong = next(i for i, one in enumerate(made) if one.labels == ("a",))
    made[wrong] = replace(made[wrong], labels=("b",))
    seen = preview(stored(made), RULES, {}, stored(_bad(made, 25), first=1000))
    assert seen.flip_count > MAX_FLIPS == len(seen.flips)
    assert all(flip.labels == flip.before for flip in seen.flips)
    assert {len(flip.text) for flip in seen.flips} == {200}


def test_the_first_examples() -> None:
    """Where there is no example there is nothing to judge; the only one has no vote but the batch's."""
    (one, other) = easy(np.random.default_rng(3), {"a": 2})
    assert preview([], RULES, {}, stored([one])).judged_count == 0
    seen = preview(stored([one]), RULES, {}, stored([replace(other, labels=("b",))], first=1))
    assert [(flip.before, flip.after) for flip in seen.flips] == [((), ("b",))]
    assert (seen.agreeing_before_count, seen.agreeing_after_count) == (0, 0)


def test_of_many_those_near_the_batch_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many examples, those most like the batch are judged, by all others as before."""
    made = easy(np.random.default_rng(4), {"a": 30, "b": 30})
    batch = stored(_bad(made, 4)[:40], first=100)
    whole = preview(stored(made), RULES, {}, batch)
    monkeypatch.setattr(module, "MOST_JUDGED", 30)
    seen = preview(stored(made), RULES, {}, batch)
    assert (seen.judged_count, seen.flip_count) == (30, whole.flip_count)
    assert {flip.labels for flip in seen.flips} == {("a",)}
    assert seen.flips == whole.flips
    assert preview(stored(made), RULES, {}, []).judged_count == 30
