"""Reports and their comparison, as tables for people."""

from nearvote.cli.output import out, print_table
from nearvote.learn.comparison import Comparison
from nearvote.learn.measures import Figure
from nearvote.learn.report import Headline, Report

_MOST_LABELS = 20
_MOST_CONFUSIONS = 10


def print_report(report: Report) -> None:
    """Prints a report, leaving out the tables that would be empty."""
    headline = report.headline
    print_table(
        f"{headline.messages} messages, {headline.out_of_scope} of them out of scope",
        ("figure", "value", "95 % interval"),
        [(_name(name), _value(figure), _interval(figure)) for name, figure in headline.figures.items() if figure],
    )
    if report.groups:
        _print_groups(report)
    _print_labels(report)
    if report.confusions:
        print_table(
            "Labels given in place of others",
            ("messages", "expected", "given"),
            [(str(c.count), c.truth, c.given) for c in report.confusions[:_MOST_CONFUSIONS]],
        )
    if report.abstentions:
        print_table(
            "Abstentions",
            ("reason", "messages"),
            [(reason, str(count)) for reason, count in report.abstentions.items()],
        )
    if report.calibration_error is not None:
        _print_confidence(report)


def print_comparison(comparison: Comparison, tolerance: float = 0.01) -> None:
    """Prints a comparison, and which figures have fallen by more than the tolerance."""
    worse = comparison.worse(tolerance)
    print_table(
        "Now and before",
        ("figure", "now", "95 % interval", "before", "95 % interval", "change"),
        [
            (
                _name(d.name),
                _value(d.new),
                _interval(d.new),
                _value(d.former),
                _interval(d.former),
                "–" if d.change is None else f"{d.change:+.4f}{' worse' if d.name in worse else ''}",
            )
            for d in comparison.differences
            if d.new or d.former
        ],
    )
    fallen = ", ".join(map(_name, worse)) or "none"
    out.print(f"fallen by more than {tolerance:g}: {fallen}", highlight=False)


def _print_groups(report: Report) -> None:
    names = [name for name, figure in report.headline.figures.items() if figure]

    def row(group: str, headline: Headline) -> tuple[str, ...]:
        return (group, str(headline.messages), *(_value(headline.figures[name]) for name in names))

    rows = [row(group, headline) for group, headline in report.groups.items()]
    print_table("Groups", ("group", "messages", *map(_name, names)), rows)


def _print_labels(report: Report) -> None:
    # A label that was neither expected nor given has no F1 and is the last to worry about.
    ranked = sorted(report.labels.items(), key=lambda item: 2.0 if item[1].f1 is None else item[1].f1)
    shown = ranked[:_MOST_LABELS] if len(ranked) > _MOST_LABELS else list(report.labels.items())
    aurocs = report.auroc_by_label
    print_table(
        "Labels" if len(shown) == len(ranked) else f"Labels: the {len(shown)} worst by F1, of {len(ranked)}",
        ("label", "messages", "precision", "recall", "F1", *(("AUROC",) if aurocs else ())),
        [
            (
                label,
                str(found.support),
                *map(_number, (found.precision, found.recall, found.f1)),
                *((_number(aurocs.get(label)),) if aurocs else ()),
            )
            for label, found in shown
        ],
    )


def _print_confidence(report: Report) -> None:
    print_table(
        "The surest answers",
        ("kept", "accuracy"),
        [(f"{percent} %", _number(found)) for percent, found in report.coverage.items()],
    )
    print_table(
        f"Calibration: confidence is off by {_number(report.calibration_error)} on average",
        ("score", "messages", "confidence", "accuracy"),
        [
            (f"{b.lower:.2f} to {b.upper:.2f}", str(b.count), _number(b.confidence), _number(b.accuracy))
            for b in report.calibration
        ],
    )


def _name(figure: str) -> str:
    return figure.replace("_", " ").replace("f1", "F1").replace("auroc", "AUROC")


def _value(figure: Figure | None) -> str:
    return _number(figure.value if figure else None)


def _interval(figure: Figure | None) -> str:
    return f"{figure.low:.4f} to {figure.high:.4f}" if figure else "–"


def _number(found: float | None) -> str:
    return "–" if found is None else f"{found:.4f}"
