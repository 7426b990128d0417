"""Figures of answers, and the page that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tests.bench.sets import Split

from nearvote.learn.measures import auroc, calibration, value
from nearvote.learn.report import Outcome

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said of a split's messages.

    Attributes:
        given: The label given to each message; empty for an abstention.
        best: The label that each would have been given had nobody abstained.
        scores: Score of each label, by its name, for each message; of routers, which have none, empty.
        scope: How surely each message is in scope.
        calibrated: Whether scores are meant as probabilities.
        fit_seconds: How long the fit took.
        extra: Figures of this draw alone, by name.
    """

    given: list[str]
    best: list[str]
    scores: Mapping[str, Numbers]
    scope: Numbers
    calibrated: bool = False
    fit_seconds: float = 0.0
    extra: Mapping[str, float] = field(default_factory=dict)


def answers_of(outcomes: Sequence[Outcome], split: Split, seconds: float, extra: Mapping[str, float]) -> Answers:
    """Those of nearvote."""
    predictions = [one.prediction for one in outcomes]
    names = sorted({row.label for row in split.examples})
    scores = {name: np.array([p.scores.get(name, 0.0) for p in predictions]) for name in names}
    return Answers(
        given=[p.labels[0] if p.labels else "" for p in predictions],
        best=[p.labels[0] if p.labels else next(iter(p.scores), "") for p in predictions],
        scores=scores,
        scope=np.array([p.in_scope_score for p in predictions]),
        calibrated=True,
        fit_seconds=seconds,
        extra=extra,
    )


def answers_of_scores(scores: Numbers, names: Sequence[str], split: Split) -> Answers:
    """Those of a classifier that always answers. (messages, labels) scores."""
    del split
    best = [names[i] for i in scores.argmax(axis=1)]
    return Answers(best, best, {name: scores[:, i] for i, name in enumerate(names)}, scores.max(axis=1))


def answers_of_routes(routes: Sequence[tuple[str, float]], split: Split) -> Answers:
    """Those of a router that names a route and how sure it is of it."""
    names = sorted({row.label for row in split.examples})
    given = [name for name, _ in routes]
    scope = np.array([confidence for _, confidence in routes])
    scores = {name: np.where(np.array(given) == name, scope, 0) for name in names}
    return Answers(given, given, scores, scope)


def of(answers: Answers, split: Split) -> dict[str, float]:
    """The figures that a split's protocol asks for."""
    truth = [row.label for row in split.messages]
    name = split.name
    found: dict[str, float] = {}
    inside = (
        np.array([label != split.out_of_scope for label in truth]) if split.out_of_scope else np.ones(len(truth), bool)
    )
    right = np.array([given == label for given, label in zip(answers.best, truth, strict=True)])
    if name in {"sms", "spamassassin-time"}:
        given, spam = np.array(answers.given) == "spam", np.array(truth) == "spam"
        found["F1"] = 2 * int((given & spam).sum()) / max(1, int(given.sum() + spam.sum()))
        found["false positives per 1,000 ham"] = 1000 * float(given[~spam].mean())
    elif name == "hatexplain":
        found["macro-F1"] = macro_f1(truth, answers.best)
        benign = np.array([label == split.benign for label in truth])
        score = -answers.scores[split.benign]
        found["AUROC of not normal"] = value(auroc(score, ~benign), len(truth)) or 0.0
    else:
        found["accuracy"] = float(right[inside].mean())
    if split.out_of_scope and not split.validation:
        found["AUROC of in scope"] = value(auroc(answers.scope, inside), len(truth)) or 0.0
    if split.validation:
        kept = np.array([bool(given) for given in answers.given])
        correct = np.array([given == label for given, label in zip(answers.given, truth, strict=True)])
        found = {
            "accuracy, abstaining is wrong": float(correct[inside].mean()),
            "out-of-scope recall": float((~kept)[~inside].mean()),
        }
    if answers.calibrated and answers.fit_seconds and not split.validation:
        highest = np.max(np.stack(list(answers.scores.values())), axis=0)
        likeliest = [max(answers.scores, key=lambda label, i=i: answers.scores[label][i]) for i in range(len(truth))]  # type: ignore[misc]
        sure = np.array([best == label for best, label in zip(likeliest, truth, strict=True)])
        error, _ = calibration(highest[inside], sure[inside])
        found["expected calibration error"] = error or 0.0
    return {**found, **answers.extra}


def macro_f1(truth: Sequence[str], given: Sequence[str]) -> float:
    """Mean over labels of F1."""
    own, said = np.array(truth), np.array(given)
    parts = []
    for label in sorted(set(truth)):
        a, b = own == label, said == label
        parts.append(2 * int((a & b).sum()) / max(1, int(a.sum() + b.sum())))
    return float(np.mean(parts))


# Floor and aim of each figure of the fitted task; a figure that is better the lower it is has its floor above its aim.
BARS: dict[tuple[str, str], tuple[float, float]] = {
    ("banking77-full", "accuracy"): (0.937, 0.945),
    ("banking77-10", "accuracy"): (0.850, 0.872),
    ("banking77-5", "accuracy"): (0.780, 0.810),
    ("hwu64-10", "accuracy"): (0.808, 0.858),
    ("clinc150", "accuracy"): (0.954, 0.974),
    ("clinc150", "AUROC of in scope"): (0.975, 0.980),
    ("clinc150", "expected calibration error"): (0.03, 0.01),
    ("clinc150, floor set on validation", "accuracy, abstaining is wrong"): (0.935, 0.95),
    ("clinc150, floor set on validation", "out-of-scope recall"): (0.80, 0.85),
    ("sms", "F1"): (0.955, 0.975),
    ("sms", "expected calibration error"): (0.03, 0.01),
    ("sms", "recall under leet, of plain"): (0.90, 0.98),
    ("sms", "recall under homoglyph, of plain"): (0.90, 0.98),
    ("sms", "recall under zero_width, of plain"): (0.90, 0.98),
    ("sms", "recall under spaced, of plain"): (0.90, 0.98),
    ("sms", "recall under repeated, of plain"): (0.90, 0.98),
    ("spamassassin-time", "F1"): (0.930, 0.965),
    ("spamassassin-time", "false positives per 1,000 ham"): (30.0, 10.0),
    ("hatexplain", "AUROC of not normal"): (0.842, 0.870),
    ("hatexplain", "macro-F1"): (0.632, 0.687),
}


def document(
    measured: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], extra: Mapping[str, str], date: str
) -> str:
    """The page, in Markdown."""
    lines = [
        "# Quality",
        "",
        f"Measured on {date} by `python -m tests.bench.quality`, with sentence-transformers/all-MiniLM-L6-v2 on a CPU.",
        "The same splits in one run for all: nearvote by the way of the service (import, fit, classify); plain kNN",
        "(five nearest by cosine) and logistic regression (scikit-learn, C = 10) on the same vectors; word TF-IDF",
        "with a linear support vector machine (scikit-learn's defaults); semantic-router 1.1.1 on the same vectors,",
        "its defaults. Sets, licences and protocols are those of the evaluation data's README. Figures of several",
        "draws are means, with the lowest and highest beside them.",
        "",
        "## Floors and aims",
        "",
        "| protocol | figure | nearvote | floor | aim | |",
        "|---|---|---|---|---|---|",
    ]
    for (name, figure), (floor, aim) in BARS.items():
        values = [draw["nearvote, fitted"].get(figure) for draw in measured.get(name, [])]
        known = [value for value in values if value is not None]
        if not known:
            continue
        mean = float(np.mean(known))
        lower = aim < floor
        verdict = (
            "aim"
            if (mean <= aim if lower else mean >= aim)
            else ("floor" if (mean <= floor if lower else mean >= floor) else "**below the floor**")
        )
        lines.append(f"| {name} | {figure} | {_shown(known)} | {floor:g} | {aim:g} | {verdict} |")
    lines += ["", "## Beside others", ""]
    for name, draws in measured.items():
        figures = list(draws[0]["nearvote, fitted"])
        lines += [f"### {name}", "", "| | " + " | ".join(figures) + " |", "|---" * (len(figures) + 1) + "|"]
        for who in draws[0]:
            cells = []
            for figure in figures:
                known = [draw[who][figure] for draw in draws if who in draw and figure in draw[who]]
                cells.append(_shown(known) if known else "")
            lines.append(f"| {who} | " + " | ".join(cells) + " |")
        lines.append("")
    for title, body in extra.items():
        lines += [f"## {title}", "", body, ""]
    return "\n".join(lines)


def _shown(values: Sequence[float]) -> str:
    """A mean and, of several values, their range: three places, or one for numbers above 1."""
    mean = float(np.mean(values))
    form = "{:.1f}" if max(map(abs, values)) > 1 else "{:.4f}"
    if len(values) == 1:
        return form.format(mean)
    return f"{form.format(mean)} ({form.format(min(values))} to {form.format(max(values))})"
