import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nearvote.cli.report_tables import print_comparison, print_report
from nearvote.errors import InvalidField
from nearvote.learn.comparison import compare, report_from_json, report_to_json
from nearvote.learn.measures import Figure
from nearvote.learn.report import Confusion, Outcome, Report, errors_to_lines, make_report
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.prediction import AbstentionReason, Prediction


def _said(
    scores: Mapping[str, float],
    *labels: str,
    reason: AbstentionReason | None = None,
    similarity: float | None = 0.9,
    neighbors: tuple[Neighbor, ...] = (),
) -> Prediction:
    ranked = dict(sorted(scores.items(), key=lambda item: -item[1]))
    best = next(iter(ranked))
    return Prediction(
        task="t",
        labels=() if reason else labels or (best,),
        abstention_reason=reason,
        score=ranked[best],
        margin=0.0,
        scores=ranked,
        action=None,
        neighbors=neighbors,
        top_similarity=similarity,
        in_scope_score=similarity or 0.0,
    )


_A, _B = {"a": 0.8, "b": 0.2}, {"a": 0.3, "b": 0.7}
_FAR, _AMBIGUOUS, _OUTSIDE = AbstentionReason.TOO_FAR, AbstentionReason.AMBIGUOUS, AbstentionReason.OUT_OF_SCOPE

# Right, wrong, two abstentions of which the first would have been right; out of scope: noticed twice, missed once.
_OUTCOMES = [
    Outcome("1", "a", _said(_A), "en"),
    Outcome("2", "a", _said(_B), "en"),
    Outcome("3", "b", _said(_B, reason=_AMBIGUOUS), "de"),
    Outcome("4", "b", _said(_A, reason=_FAR, similarity=0.4), "de"),
    Outcome("5", "none", _said(_A, reason=_FAR, similarity=0.1), "de"),
    Outcome("6", "none", _said({"none": 0.9, "a": 0.1, "b": 0.0}, reason=_OUTSIDE, similarity=0.4), "de"),
    Outcome("7", "none", _said(_A, similarity=0.95)),
]


def _values(report: Report, group: str = "") -> dict[str, float | None]:
    headline = report.groups[group] if group else report.headline
    return {name: figure.value if figure else None for name, figure in headline.figures.items()}


def test_headline() -> None:
    """Abstentions are wrong in scope and right out of it; the other figures say what they cost."""
    report = make_report(_OUTCOMES, out_of_scope="none")
    assert (report.headline.messages, report.headline.out_of_scope) == (7, 3)
    assert _values(report) == {
        "accuracy": 1 / 4,
        "accuracy_of_answered": 1 / 2,
        "accuracy_if_all_answered": 2 / 4,
        "coverage": 2 / 4,
        "macro_f1": pytest.approx((2 / 4 + 0 + 4 / 7) / 3),
        "out_of_scope_recall": pytest.approx(2 / 3),
        "scope_auroc": pytest.approx((2 * 2 + 2 + 1 + 0.5) / 12),
    }
    for figure in report.headline.figures.values():
        assert figure is not None
        assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_details() -> None:
    """Labels, confusions, abstentions, confidence and each label's AUROC are told apart."""
    report = make_report(_OUTCOMES, out_of_scope="none")
    assert list(report.labels) == ["a", "b", "none"]
    assert (report.labels["none"].precision, report.labels["none"].support) == (2 / 4, 3)
    assert report.confusions == (Confusion("a", "b", 1), Confusion("none", "a", 1))
    assert report.abstentions == {"TOO_FAR": 2, "AMBIGUOUS": 1, "OUT_OF_SCOPE": 1}
    # The best labels of messages 1 to 4: right at 0.8, wrong at 0.7, right at 0.7, wrong at 0.8.
    assert report.calibration_error == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)
    assert sum(b.count for b in report.calibration) == 4
    assert report.coverage == {100: 0.5, 95: 0.5, 90: 0.5, 80: 0.5, 70: 0.5, 50: 0.5}
    assert report.auroc_by_label == {"a": (3.5 + 1.5) / 10, "b": (4.5 + 2.5) / 10}


def test_groups() -> None:
    """Each group has the figures that it has alone; what belongs to none is only in the whole."""
    report = make_report(_OUTCOMES, out_of_scope="none")
    assert list(report.groups) == ["de", "en"]
    for group in report.groups:
        alone = make_report([o for o in _OUTCOMES if o.group == group], out_of_scope="none")
        assert report.groups[group] == alone.headline
    assert _values(report, "en")["out_of_scope_recall"] is None


def test_nothing_out_of_scope() -> None:
    """Without messages out of scope, what is said of them does not apply, and no label stands for them."""
    report = make_report(_OUTCOMES[:4], out_of_scope="none")
    assert report == make_report(_OUTCOMES[:4])
    assert _values(report)["out_of_scope_recall"] is None
    assert _values(report)["scope_auroc"] is None
    assert list(report.labels) == ["a", "b"]


def test_everything_out_of_scope() -> None:
    """Without messages in scope, their figures do not apply."""
    report = make_report(_OUTCOMES[4:], out_of_scope="none")
    figures = _values(report)
    assert [name for name in figures if figures[name] is not None] == ["macro_f1", "out_of_scope_recall"]
    assert report.calibration_error is None
    assert set(report.coverage.values()) == {None}


def test_all_abstained() -> None:
    """When nothing is answered there is no accuracy of the answered; a label nobody voted for is never right."""
    silent = _said({"a": 0.0}, reason=AbstentionReason.NO_TEXT, similarity=None)
    report = make_report([Outcome("1", "a", silent)])
    figures = _values(report)
    assert (figures["accuracy"], figures["coverage"], figures["accuracy_if_all_answered"]) == (0, 0, 0)
    assert (figures["accuracy_of_answered"], figures["macro_f1"]) == (None, 0)
    assert report.calibration_error == 0
    assert report.confusions == ()


def test_one_message_of_one_label() -> None:
    """One message is enough; there is nothing to tell its label from."""
    report = make_report([Outcome("1", "a", _said({"a": 1.0}))])
    assert _values(report)["accuracy"] == 1
    assert _values(report)["macro_f1"] == 1
    assert report.auroc_by_label == {"a": None}


def test_several_labels() -> None:
    """With several labels all must be given and no other; each label still has figures of its own."""
    report = make_report(
        [
            Outcome("1", "a|b", _said(_A, "a", "b")),
            Outcome("2", "a | b", _said(_A, "a")),
            Outcome("3", "b", _said(_B, "a", "b")),
            Outcome("4", "c", _said(_A, "a", "b")),
        ]
    )
    assert _values(report)["accuracy"] == 1 / 4
    assert _values(report)["macro_f1"] == pytest.approx(
        (2 / 3 * 3 / 3 * 4 / 5 * 5 / 4 * 3 / 3 + 2 / 3 + 0) / 3, abs=0.1
    )
    assert (report.labels["a"].precision, report.labels["a"].recall) == (2 / 4, 1)
    assert (report.labels["b"].precision, report.labels["b"].recall) == pytest.approx((2 / 3, 2 / 3))
    assert report.confusions == (Confusion("c", "a", 1), Confusion("c", "b", 1))


def test_a_scope_score_that_says_nothing() -> None:
    """Where all messages have the same in-scope score it tells none from another: an AUROC of a half."""
    alike = [replace(one, prediction=replace(one.prediction, in_scope_score=0.5)) for one in _OUTCOMES]
    assert _values(make_report(alike, out_of_scope="none"))["scope_auroc"] == 0.5


def test_too_many_labels_for_aurocs() -> None:
    """Of more than twenty labels none has an AUROC."""
    scores = {f"l{i}": 0.0 for i in range(20)}
    assert len(make_report([Outcome("1", "l1", _said({**scores, "l1": 1.0}))]).auroc_by_label) == 20
    assert make_report([Outcome("1", "x", _said({**scores, "x": 1.0}))]).auroc_by_label == {}


def test_nothing_to_measure() -> None:
    """Without messages, or without the label expected of one, it says what to do."""
    with pytest.raises(InvalidField, match="give at least one"):
        make_report([])
    with pytest.raises(InvalidField, match="name one") as caught:
        make_report([_OUTCOMES[0], Outcome("2", " | ", _said(_A))])
    assert caught.value.field == "outcomes[1].truth"


def test_errors() -> None:
    """Wrong predictions come with the voters that misled them, the most confident first."""
    voters = (
        Neighbor("1", ("b",), 0.9, share=0.7, text="near", source="s"),
        Neighbor("2", ("a",), 0.8, share=0.3),
    )
    outcomes = [replace(_OUTCOMES[1], prediction=_said(_B, neighbors=voters)), _OUTCOMES[0], *_OUTCOMES[2:]]
    found = [json.loads(line) for line in errors_to_lines(outcomes, out_of_scope="none")]
    assert [error["text"] for error in found] == ["4", "7", "2", "3"]
    assert (found[0]["given"], found[0]["reason"]) == ([], "TOO_FAR")
    assert found[2] == {
        "text": "2",
        "truth": "a",
        "given": ["b"],
        "reason": None,
        "score": 0.7,
        "group": "en",
        "misled_by": [
            {
                "id": "1",
                "labels": ["b"],
                "similarity": 0.9,
                "share": 0.7,
                "view": "meaning",
                "text": "near",
                "source": "s",
            }
        ],
    }


@pytest.mark.parametrize("outcomes", [_OUTCOMES, _OUTCOMES[:4], _OUTCOMES[4:]])
def test_reports_are_kept(outcomes: list[Outcome]) -> None:
    """A report comes back from JSON as it was, and no number in it is NaN."""
    report = make_report(outcomes, out_of_scope="none")
    text = json.dumps(report_to_json(report), allow_nan=False)
    assert json.loads(text)["format"] == 1
    assert report_from_json(json.loads(text)) == report


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 2}, "format is 2"), ({"format": None}, "make it again"), ({"headline": {}}, "damaged")],
)
def test_what_is_no_report(change: dict[str, Any], message: str) -> None:
    """A report of another version, or half of one, is refused."""
    with pytest.raises(InvalidField, match=message):
        report_from_json(report_to_json(make_report(_OUTCOMES)) | change)


def _with_accuracy(found: float | None) -> Report:
    report = make_report(_OUTCOMES)
    figure = None if found is None else Figure(found, found, found)
    return replace(report, headline=replace(report.headline, figures={**report.headline.figures, "accuracy": figure}))


@pytest.mark.parametrize(
    ("new", "former", "worse"), [(0.85, 0.9, True), (0.89, 0.9, False), (0.95, 0.9, False), (None, 0.9, False)]
)
def test_comparison(new: float | None, former: float, worse: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A figure is worse when it has fallen by more than the tolerance; one that is gone has not fallen."""
    comparison = compare(_with_accuracy(new), _with_accuracy(former))
    assert comparison.worse() == ["accuracy"] * worse
    assert comparison.worse(0.1) == []
    assert comparison.differences[0].change == (None if new is None else pytest.approx(new - former))


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """People read the figures with their intervals, and what has become worse."""
    print_report(make_report(_OUTCOMES, out_of_scope="none"))
    printed = capsys.readouterr().out
    for expected in ("7 messages, 3 of them out of scope", "accuracy if all answered", "0.2500", "TOO_FAR", "70 %"):
        assert expected in printed
    print_comparison(compare(_with_accuracy(0.5), _with_accuracy(0.9)))
    printed = capsys.readouterr().out
    assert "-0.4000 worse" in printed
    assert "fallen by more than 0.01: accuracy" in printed


def test_tables_of_many_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """Of many labels the worst are shown, and said to be."""
    outcomes = [Outcome(str(i), f"l{i:02}", _said({f"l{i:02}": 1.0})) for i in range(24)]
    outcomes.append(Outcome("wrong", "bad", _said({"l00": 1.0})))
    print_report(make_report(outcomes))
    printed = capsys.readouterr().out
    assert "the 20 worst by F1, of 25" in printed
    assert "bad" in printed
    assert "l23" not in printed
