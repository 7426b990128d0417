"""Reports kept as JSON, and whether predictions have become better or worse since."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nearvote.errors import InvalidField
from nearvote.learn.measures import Bin, Figure, LabelFigures
from nearvote.learn.report import Confusion, Headline, Report

_FORMAT = 1
_ROUNDING = 1e-9  # 0.9 less 0.89 is a little more than 0.01


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure in two reports.

    Attributes:
        name: Its name, as in `Headline.figures`.
        new: What it is now; None when it does not apply.
        former: What it was; None when it did not apply.
    """

    name: str
    new: Figure | None
    former: Figure | None

    @property
    def change(self) -> float | None:
        """By how much it has risen, below 0 when it has fallen; None when there is nothing to compare."""
        return self.new.value - self.former.value if self.new and self.former else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The headline figures of two reports, in the report's order."""

    differences: tuple[Difference, ...]

    def worse(self, tolerance: float = 0.01) -> list[str]:
        """Names of the figures that have fallen by more than the tolerance."""
        return [d.name for d in self.differences if d.change is not None and d.change < -tolerance - _ROUNDING]


def compare(new: Report, former: Report) -> Comparison:
    """Sets the headline figures of two reports on the same messages against each other."""
    before = former.headline.figures
    return Comparison(
        tuple(Difference(name, figure, before.get(name)) for name, figure in new.headline.figures.items())
    )


def report_to_json(report: Report) -> dict[str, Any]:
    """A report as `report_from_json` reads it."""
    record = asdict(report)
    # JSON's keys are strings.
    record["coverage"] = {str(percent): found for percent, found in report.coverage.items()}
    return {"format": _FORMAT, **record}


def report_from_json(record: Mapping[str, Any]) -> Report:
    """A report that was kept.

    Args:
        record: What `report_to_json` made of it.

    Returns:
        The report.

    Raises:
        InvalidField: It is no such report, or one of another version.
    """
    found = record.get("format")
    if found != _FORMAT:
        raise InvalidField(f"the report's format is {found}, not {_FORMAT}; make it again", field="format")
    try:
        return Report(
            headline=_headline(record["headline"]),
            groups={group: _headline(headline) for group, headline in record["groups"].items()},
            labels={label: LabelFigures(**figures) for label, figures in record["labels"].items()},
            confusions=tuple(Confusion(**confusion) for confusion in record["confusions"]),
            abstentions=dict(record["abstentions"]),
            coverage={int(percent): found for percent, found in record["coverage"].items()},
            calibration_error=record["calibration_error"],
            calibration=tuple(Bin(**found) for found in record["calibration"]),
            auroc_by_label=dict(record["auroc_by_label"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidField("the report is damaged; make it again", field="report") from error


def _headline(record: Mapping[str, Any]) -> Headline:
    figures = {name: Figure(**figure) if figure else None for name, figure in record["figures"].items()}
    return Headline(record["messages"], record["out_of_scope"], figures)
