"""How well a task's predictions agree with what was expected."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nearvote.errors import InvalidField
from nearvote.learn.measures import (
    Bin,
    Figure,
    Flags,
    LabelFigures,
    Numbers,
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
from nearvote.voting.prediction import Prediction

COVERAGES = (100, 95, 90, 80, 70, 50)

_MOST_CONFUSIONS = 20
_MOST_AUROCS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was said of one message, and what should have been.

    Attributes:
        text: The message.
        truth: The label expected; several are joined by `|`.
        prediction: What was said.
        group: Which messages it is counted with, such as its language; empty for none.
    """

    text: str
    truth: str
    prediction: Prediction
    group: str = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """The figures of a set of messages.

    Attributes:
        messages: How many there are.
        out_of_scope: How many of them are out of scope. Whatever abstains is right about them.
        figures: None for those that do not apply; of all, more is better:
            `accuracy`: of the messages in scope, the share given just the labels expected; an abstention is wrong.
            `accuracy_of_answered`: the same, among those that were given a label.
            `accuracy_if_all_answered`: the same, when an abstention counts as its best-scored label in scope.
            `coverage`: of the messages in scope, the share given a label.
            `macro_f1`: mean F1 of the labels that were expected; where messages are out of scope, that is a label
                too, given by every abstention.
            `out_of_scope_recall`: of the messages out of scope, the share on which it abstained.
            `scope_auroc`: how well the in-scope score tells messages in scope from those that are not.
    """

    messages: int
    out_of_scope: int
    figures: Mapping[str, Figure | None]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Messages that should have had one label and were given another."""

    truth: str
    given: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """How well predictions agree with what was expected.

    Attributes:
        headline: The figures of all messages.
        groups: Those of each group, sorted by its name; empty when there are none.
        labels: How each label does, sorted by its name, the out-of-scope label last.
        confusions: The labels most often given in place of others.
        abstentions: How many predictions abstained, by reason.
        coverage: Share of a hundred messages in scope, with the accuracy when only the most confident are answered.
        calibration_error: Expected calibration error of the best label in scope, on messages in scope, in [0, 1]; None
            without such messages.
        calibration: Its bins.
        auroc_by_label: How well a label's score tells its messages from all others; None when all or none have it;
            empty when there are too many labels to list.
    """

    headline: Headline
    groups: Mapping[str, Headline]
    labels: Mapping[str, LabelFigures]
    confusions: tuple[Confusion, ...]
    abstentions: Mapping[str, int]
    coverage: Mapping[int, float | None]
    calibration_error: float | None
    calibration: tuple[Bin, ...]
    auroc_by_label: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class _Facts:
    """Outcomes in columns: (messages,), or (messages, labels) for `truth` and `given`."""

    labels: list[str]  # the out-of-scope label last, if a message has it
    truth: Flags
    given: Flags  # an abstention gives the out-of-scope label
    in_scope: Flags
    answered: Flags
    right: Flags
    right_if_answered: Flags
    best_right: Flags
    confidence: Numbers
    scope: Numbers


def make_report(
    outcomes: Sequence[Outcome],
    *,
    out_of_scope: str = "",
) -> Report:
    """Measures predictions.

    Args:
        outcomes: What was said and expected of each message.
        out_of_scope: What is expected of messages that the task is not about; empty for none.

    Returns:
        The report; the same outcomes always give the same.

    Raises:
        InvalidField: There is no outcome, or one has no label expected of it.
    """
    if not outcomes:
        raise InvalidField("there is no message to measure; give at least one and its label", field="outcomes")
    for i, outcome in enumerate(outcomes):
        if not expected_labels(outcome):
            raise InvalidField("no label is expected of the message; name one", field=f"outcomes[{i}].truth")
    facts = _facts(outcomes, out_of_scope)
    confused = confusions(facts.truth, facts.given & facts.answered[:, None], _MOST_CONFUSIONS)
    confidence, right = facts.confidence[facts.in_scope], facts.best_right[facts.in_scope]
    error, bins = calibration(confidence, right)
    reasons = [o.prediction.abstention_reason.value for o in outcomes if o.prediction.abstention_reason]
    groups = {
        group: _facts([o for o in outcomes if o.group == group], out_of_scope)
        for group in sorted({outcome.group for outcome in outcomes} - {""})
    }
    return Report(
        headline=_headline(facts),
        groups={group: _headline(of_group) for group, of_group in groups.items()},
        labels=dict(zip(facts.labels, by_label(facts.truth, facts.given), strict=True)),
        confusions=tuple(Confusion(facts.labels[row], facts.labels[column], count) for row, column, count in confused),
        abstentions=dict(Counter(reasons).most_common()),
        coverage=dict(zip(COVERAGES, accuracy_at_coverage(confidence, right, COVERAGES), strict=True)),
        calibration_error=error,
        calibration=tuple(bins),
        auroc_by_label=_aurocs(outcomes, facts, out_of_scope),
    )


def errors_to_lines(outcomes: Sequence[Outcome], *, out_of_scope: str = "") -> Iterator[str]:
    """The wrong predictions, the most confident first, each with the neighbours that misled it.

    Args:
        outcomes: What was said and expected of each message.
        out_of_scope: As in `make_report`.

    Yields:
        JSON lines, each an object with `text`, `truth`, `given` (a list), `reason` (of an abstention, else null),
        `score`, `group` and `misled_by`: the voters that have a label which was not expected.
    """
    for outcome in sorted(outcomes, key=lambda outcome: -outcome.prediction.score):
        prediction, truth = outcome.prediction, expected_labels(outcome)
        if _is_right(outcome, out_of_scope):
            continue
        misled_by = [
            {
                "id": neighbor.example_id,
                "labels": list(neighbor.labels),
                "similarity": neighbor.similarity,
                "share": neighbor.share,
                "view": neighbor.view.value,
                "text": neighbor.text,
                "source": neighbor.source,
            }
            for neighbor in prediction.neighbors
            if not truth.issuperset(neighbor.labels)
        ]
        record = {
            "text": outcome.text,
            "truth": outcome.truth,
            "given": list(prediction.labels),
            "reason": prediction.abstention_reason.value if prediction.abstention_reason else None,
            "score": prediction.score,
            "group": outcome.group,
            "misled_by": misled_by,
        }
        yield json.dumps(record, ensure_ascii=False)


def expected_labels(outcome: Outcome) -> frozenset[str]:
    """The labels expected of a message."""
    return frozenset(label for part in outcome.truth.split("|") if (label := part.strip()))


def _is_right(outcome: Outcome, out_of_scope: str) -> bool:
    truth = expected_labels(outcome)
    return truth == set(outcome.prediction.labels) or (truth == {out_of_scope} and outcome.prediction.abstained)


def _facts(outcomes: Sequence[Outcome], out_of_scope: str) -> _Facts:
    predictions = [outcome.prediction for outcome in outcomes]
    truths = [expected_labels(outcome) for outcome in outcomes]
    in_scope = [truth != {out_of_scope} for truth in truths]
    names = set().union(*truths, *(p.scores for p in predictions), *(p.labels for p in predictions))
    labels = sorted(names - {out_of_scope}) + [out_of_scope] * (not all(in_scope))
    bests = [_best(prediction, out_of_scope) for prediction in predictions]
    # A label that nobody voted for is no answer.
    if_answered = [
        set(p.labels) or ({best} if score else set()) for p, (best, score) in zip(predictions, bests, strict=True)
    ]
    return _Facts(
        labels=labels,
        truth=_flags(truths, labels),
        given=_flags([p.labels or (out_of_scope,) for p in predictions], labels),
        in_scope=np.array(in_scope),
        answered=np.array([not prediction.abstained for prediction in predictions]),
        right=np.array([_is_right(outcome, out_of_scope) for outcome in outcomes]),
        right_if_answered=np.array([truth == answer for truth, answer in zip(truths, if_answered, strict=True)]),
        best_right=np.array([score > 0 and best in truth for truth, (best, score) in zip(truths, bests, strict=True)]),
        confidence=np.array([score for _, score in bests], np.float64),
        scope=np.array([prediction.in_scope_score for prediction in predictions], np.float64),
    )


def _best(prediction: Prediction, out_of_scope: str) -> tuple[str, float]:
    scores = ((label, score) for label, score in prediction.scores.items() if label != out_of_scope)
    return max(scores, key=lambda scored: scored[1], default=("", 0.0))


def _flags(rows: Sequence[Iterable[str]], labels: Sequence[str]) -> Flags:
    columns = {label: column for column, label in enumerate(labels)}
    flags = np.zeros((len(rows), len(labels)), np.bool_)
    for i, row in enumerate(rows):
        flags[i, [columns[label] for label in row if label in columns]] = True
    return flags


def _headline(facts: _Facts) -> Headline:
    outside = ~facts.in_scope
    measures = {
        "accuracy": accuracy(facts.right, facts.in_scope),
        "accuracy_of_answered": accuracy(facts.right, facts.in_scope & facts.answered),
        "accuracy_if_all_answered": accuracy(facts.right_if_answered, facts.in_scope),
        "coverage": accuracy(facts.answered, facts.in_scope),
        "macro_f1": macro_f1(facts.truth, facts.given),
        "out_of_scope_recall": accuracy(facts.right, outside),
        "scope_auroc": auroc(facts.scope, facts.in_scope),
    }
    return Headline(len(outside), int(outside.sum()), estimate(measures, len(outside)))


def _aurocs(outcomes: Sequence[Outcome], facts: _Facts, out_of_scope: str) -> dict[str, float | None]:
    labels = [label for label in facts.labels if label != out_of_scope]
    if len(labels) > _MOST_AUROCS:
        return {}
    scores = np.array([[outcome.prediction.scores.get(label, 0.0) for label in labels] for outcome in outcomes])
    return {
        label: value(auroc(scores[:, column], facts.truth[:, column]), len(outcomes))
        for column, label in enumerate(labels)
    }
