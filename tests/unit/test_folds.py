"""Which examples are judged, and by which others."""

import numpy as np
import pytest

from nearvote.learn import folds
from nearvote.learn.folds import fold_count, folds_of, sample_of
from tests.unit.made_up import Made, corpus, easy, words

LABELS = ("a", "b", "c")


@pytest.mark.parametrize(("examples", "expected"), [(1, 10), (1999, 10), (2000, 5), (4999, 5), (5000, 3), (10**6, 3)])
def test_fewer_folds_of_more_examples(examples: int, expected: int) -> None:
    """The more examples there are, the fewer parts they are learned from."""
    assert expected == fold_count(examples)


@pytest.mark.parametrize("count", [3, 10])
def test_every_label_is_spread_evenly(count: int) -> None:
    """Each example has exactly one fold, each fold its part of each label, and all folds are of one size."""
    examples = corpus(easy(np.random.default_rng(0), {"a": 60, "b": 30, "c": 9}, told=0.2), LABELS)
    found = folds_of(examples, count)
    assert found.shape == (99,)
    assert set(range(count)) == set(found.tolist())
    for label in range(3):
        own = np.bincount(found[examples.has[:, label]], minlength=count)
        assert own.max() - own.min() <= 2
    sizes = np.bincount(found, minlength=count)
    assert sizes.max() - sizes.min() <= 3


def test_labels_of_one_example_fill_folds_evenly() -> None:
    """Where each label has one example the folds are still of one size."""
    labels = tuple(f"l{i:02}" for i in range(77))
    examples = corpus(easy(np.random.default_rng(1), dict.fromkeys(labels, 1), told=0.0), labels)
    sizes = np.bincount(folds_of(examples, 10), minlength=10)
    assert sizes.max() - sizes.min() <= 2


def test_near_copies_stay_together() -> None:
    """Texts of one kind are all in one fold, whatever their labels, and others of their label in all folds."""
    rng = np.random.default_rng(2)
    made = easy(rng, {"a": 80, "b": 80}, told=0.0)
    for i in range(6):
        said = " ".join(words(rng, 14))
        made += [Made(f"{said} {end}", ("a",) if i % 2 else ("b",), made[0].windows) for end in words(rng, 3, size=4)]
    places = rng.permutation(len(made))
    examples = corpus([made[i] for i in places], LABELS)
    found = folds_of(examples, 5)
    where = np.argsort(places)
    for kind in range(6):
        assert len({int(found[where[160 + 3 * kind + i]]) for i in range(3)}) == 1
    assert len(set(found[where[:80]].tolist())) == 5


def test_one_kind_is_not_everything() -> None:
    """Where all texts are alike they are split all the same: no fold has more than about its part."""
    said = " ".join(words(np.random.default_rng(3), 14))
    rng = np.random.default_rng(4)
    made = [
        Made(f"{said} {end}", (("a", "b")[i % 2],), np.eye(4, dtype=np.float32)[:1])
        for i, end in enumerate(words(rng, 100))
    ]
    sizes = np.bincount(folds_of(corpus(made, LABELS), 5), minlength=5)
    assert sizes.sum() == 100
    assert sizes.min() >= 10
    assert sizes.max() <= 30


@pytest.mark.parametrize("text", ["", "same words again and again"])
def test_texts_without_n_grams_and_identical_ones(text: str) -> None:
    """Texts that are empty, or all the same, each have a fold, too."""
    made = [Made(text, (("a", "b")[i % 2],), np.eye(4, dtype=np.float32)[:1]) for i in range(40)]
    found = folds_of(corpus(made, LABELS), 10)
    assert np.bincount(found, minlength=10).tolist() == [4] * 10


def test_the_same_folds_every_time() -> None:
    """The same examples have the same folds; another seed gives others."""
    examples = corpus(easy(np.random.default_rng(5), {"a": 40, "b": 40}), LABELS)
    np.testing.assert_array_equal(folds_of(examples, 10), folds_of(examples, 10))
    assert (folds_of(examples, 10) != folds_of(examples, 10, seed=1)).any()


def test_only_those_that_share_a_label_are_judged() -> None:
    """An example that is the only one of its labels can't be judged by others."""
    made = [
        Made(str(i), labels, np.eye(4, dtype=np.float32)[:1])
        for i, labels in enumerate([("a",), ("b",), ("a",), ("b", "c"), ("c",)])
    ]
    assert sample_of(corpus(made, LABELS)).tolist() == [0, 1, 2, 3, 4]
    assert sample_of(corpus(made[:3], LABELS)).tolist() == [0, 2]
    assert sample_of(corpus(made[:2], LABELS)).tolist() == []


def test_of_many_a_sample_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more examples than can be judged there is a sample, ascending, each once, the same every time."""
    monkeypatch.setattr(folds, "MOST_JUDGED", 30)
    examples = corpus(easy(np.random.default_rng(6), {"a": 50, "b": 50}), LABELS)
    found = sample_of(examples)
    assert len(set(found.tolist())) == len(found) == 30
    assert found.tolist() == sorted(found.tolist())
    np.testing.assert_array_equal(found, sample_of(examples))
    assert 8 <= examples.has[found, 0].sum() <= 22
