import time
from typing import Any

import numpy as np
import pytest

from nearvote.learn.measures import (
    Bin,
    Flags,
    LabelFigures,
    accuracy,
    accuracy_at_coverage,
    auroc,
    by_label,
    calibration,
    confusions,
    estimate,
    macro_f1,
    value,
)


@pytest.fixture(scope="module")
def reference() -> Any:
    """Another hand's measures."""
    return pytest.importorskip("sklearn.metrics")


def _one_hot(codes: list[int], labels: int) -> Flags:
    return np.eye(labels, dtype=np.bool_)[codes]


def _random_labels(seed: int, messages: int = 300, labels: int = 6) -> tuple[list[int], list[int]]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(labels, size=messages)
    given = np.where(generator.random(messages) < 0.6, truth, generator.integers(labels, size=messages))
    return truth.tolist(), given.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_labels_as_scikit_learn_measures_them(reference: Any, seed: int) -> None:
    """Accuracy, macro-F1 and every label's precision, recall, F1 and support are scikit-learn's."""
    truth, given = _random_labels(seed)
    expected, answers = _one_hot(truth, 6), _one_hot(given, 6)
    right = np.array(truth) == np.array(given)
    assert value(accuracy(right), 300) == pytest.approx(reference.accuracy_score(truth, given))
    assert value(macro_f1(expected, answers), 300) == pytest.approx(reference.f1_score(truth, given, average="macro"))
    found = by_label(expected, answers)
    columns = reference.precision_recall_fscore_support(truth, given)
    for of_label, theirs in zip(found, zip(*columns, strict=True), strict=True):
        assert (of_label.precision, of_label.recall, of_label.f1, of_label.support) == pytest.approx(theirs)


def test_several_labels_as_scikit_learn_measures_them(reference: Any) -> None:
    """Macro-F1 of messages with several labels is scikit-learn's."""
    generator = np.random.default_rng(0)
    truth, given = generator.random((2, 200, 4)) < 0.4
    expected = reference.f1_score(truth.astype(int), given.astype(int), average="macro")
    assert value(macro_f1(truth, given), 200) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_as_scikit_learn_measures_it(reference: Any, seed: int) -> None:
    """AUROC is scikit-learn's, with many ties too."""
    generator = np.random.default_rng(seed)
    positive = generator.random(500) < 0.3
    for scores in (generator.random(500) + positive / 3, np.round(generator.random(500) + positive / 3, 1)):
        assert value(auroc(scores, positive), 500) == pytest.approx(reference.roc_auc_score(positive, scores))


def test_drawing_a_message_twice_is_having_it_twice(reference: Any) -> None:
    """A measure of counts is that of messages repeated as often."""
    generator = np.random.default_rng(1)
    truth, given = _random_labels(1, 50, 3)
    scores, positive = np.round(generator.random(50), 1), generator.random(50) < 0.5
    counts = np.bincount(generator.integers(50, size=50), minlength=50)
    drawn = np.repeat(np.arange(50), counts)
    weighted = counts[None].astype(np.float32)
    assert auroc(scores, positive)(weighted)[0] == pytest.approx(
        reference.roc_auc_score(positive[drawn], scores[drawn])
    )
    expected = reference.f1_score(np.array(truth)[drawn], np.array(given)[drawn], average="macro")
    assert macro_f1(_one_hot(truth, 3), _one_hot(given, 3))(weighted)[0] == pytest.approx(expected)


def test_auroc_by_hand() -> None:
    """All above is 1, all below 0, all equal 0.5, and with nothing to tell apart there is none."""
    positive = np.array([True, True, False])
    assert value(auroc(np.array([3.0, 2.0, 1.0]), positive), 3) == 1
    assert value(auroc(np.array([1.0, 2.0, 3.0]), positive), 3) == 0
    assert value(auroc(np.array([7.0, 7.0, 7.0]), positive), 3) == 0.5
    assert value(auroc(np.array([1.0, 2.0]), np.array([True, True])), 2) is None


def test_what_was_never_given_or_expected() -> None:
    """A label never given has no precision, one never expected no recall, and one that is neither no F1."""
    truth, given = _one_hot([0, 0], 4), _one_hot([0, 1], 4)
    assert by_label(truth, given) == [
        LabelFigures(1.0, 0.5, 2 / 3, 2),
        LabelFigures(0.0, None, 0.0, 0),
        LabelFigures(None, None, None, 0),
        LabelFigures(None, None, None, 0),
    ]
    assert by_label(given, truth)[1] == LabelFigures(None, 0.0, 0.0, 1)
    assert value(macro_f1(truth, given), 2) == pytest.approx(2 / 3)


def test_accuracy_among_some() -> None:
    """Only those asked about count; among none there is no accuracy."""
    right = np.array([True, False, True, False])
    assert value(accuracy(right), 4) == 0.5
    assert value(accuracy(right, np.array([True, True, True, False])), 4) == pytest.approx(2 / 3)
    assert value(accuracy(right, np.zeros(4, np.bool_)), 4) is None


def test_confusions() -> None:
    """Pairs come by frequency, then in the labels' order, and right answers and silence are none."""
    truth = _one_hot([0, 0, 1, 2, 2, 2, 0], 3)
    given = _one_hot([1, 1, 0, 1, 2, 2, 0], 3)
    given[6] = False
    assert confusions(truth, given, 5) == [(0, 1, 2), (1, 0, 1), (2, 1, 1)]
    assert confusions(truth, given, 1) == [(0, 1, 2)]
    assert confusions(truth, truth, 5) == []


def test_confidence_that_is_accuracy_has_no_error() -> None:
    """Of messages at 0.75 three in four are right, and of those at 0.25 one: the error is 0."""
    confidence = np.array([0.75] * 4 + [0.25] * 4)
    right = np.array([True, True, True, False, True, False, False, False])
    error, bins = calibration(confidence, right)
    assert error == pytest.approx(0)
    assert [(b.count, b.confidence, b.accuracy) for b in bins] == [(4, 0.25, 0.25), (4, 0.75, 0.75)]


def test_calibration_by_hand() -> None:
    """Bins weigh by their messages; a bin has its upper end, and the lowest has 0."""
    error, bins = calibration(np.array([0.0, 0.5, 0.9, 1.0]), np.array([True, False, True, False]), bins=2)
    assert bins == [Bin(0.0, 0.5, 2, 0.25, 0.5), Bin(0.5, 1.0, 2, 0.95, 0.5)]
    assert error == pytest.approx((0.25 + 0.45) / 2)
    assert calibration(np.array([]), np.array([], np.bool_)) == (None, [])


def test_accuracy_rises_as_the_unsure_are_left_out() -> None:
    """The most confident are kept, rounded up to whole messages; at least one stays."""
    confidence, right = np.array([0.1, 0.9, 0.5, 0.7]), np.array([False, True, False, True])
    assert accuracy_at_coverage(confidence, right, (100, 75, 51, 50, 1)) == pytest.approx([1 / 2, 2 / 3, 2 / 3, 1, 1])
    assert accuracy_at_coverage(np.array([]), np.array([], np.bool_), (100, 50)) == [None, None]


def test_equally_confident_messages_are_kept_in_part() -> None:
    """Where equals are cut, their order does not matter."""
    confidence = np.full(4, 0.5)
    for right in ([True, True, True, False], [False, True, True, True]):
        assert accuracy_at_coverage(confidence, np.array(right), (100, 50)) == [0.75, 0.75]


def test_intervals() -> None:
    """An interval is about as wide as theory has it, lies around its value and is the same each time."""
    right = np.arange(400) % 4 != 0
    figure = estimate({"accuracy": accuracy(right)}, 400)["accuracy"]
    assert figure is not None
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.75, 0.75 - half, 0.75 + half), abs=0.006)
    assert estimate({"accuracy": accuracy(right)}, 400)["accuracy"] == figure


def test_intervals_of_one_message() -> None:
    """One message has its figures, without width, and none where there is nothing to tell apart."""
    right = np.array([True])
    figures = estimate({"accuracy": accuracy(right), "auroc": auroc(np.array([0.3]), right)}, 1)
    assert figures["auroc"] is None
    found = figures["accuracy"]
    assert found is not None
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_intervals_of_many_messages_are_quick() -> None:
    """Ten thousand messages are drawn a thousand times within seconds."""
    truth, given = _random_labels(0, 10_000, 20)
    scores = np.random.default_rng(0).random(10_000)
    right = np.array(truth) == np.array(given)
    measures = {
        "accuracy": accuracy(right),
        "macro_f1": macro_f1(_one_hot(truth, 20), _one_hot(given, 20)),
        "auroc": auroc(scores, right),
    }
    started = time.perf_counter()
    assert all(estimate(measures, 10_000).values())
    # Well under one where nothing else is done; the rest is for machines that are busy.
    assert time.perf_counter() - started < 20
