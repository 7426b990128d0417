"""Draws a Grafana dashboard's panels where the dashboard has them, with what their queries have found.

It is no Grafana: of a panel it heeds place, title, kind, unit, thresholds, the legend's names, and which queries an
override puts on an axis to the right.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

_WIDTH = 24  # of a dashboard, in its own units
_UNIT_INCHES = (0.6, 0.235)
_DPI = 100
_COLORS = 64  # of the picture's palette
_LEGEND_LINES = 6
_TITLE, _SMALL = 8, 6.5
_SHORT = ((1e9, "B"), (1e6, "M"), (1e3, "K"))
_TIMES = ((86_400 * 1.5, 86_400, "days"), (5_400, 3_600, "hours"), (90, 60, "min"), (1, 1, "s"), (0, 1e-3, "ms"))

Found = Mapping[str, Sequence["Series"]]


@dataclass(frozen=True, slots=True)
class Series:
    """What one query has found for one set of labels.

    Attributes:
        name: What the legend says.
        labels: Its labels.
        seconds: Times since the picture's beginning.
        values: Values at these times.
    """

    name: str
    labels: Mapping[str, str]
    seconds: Sequence[float]
    values: Sequence[float]


def legend(form: str, labels: Mapping[str, str]) -> str:
    """A legend's text, with the labels that it names."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda name: labels.get(name[1], ""), form)


def shown(value: float, unit: str) -> str:
    """A value as a panel shows it."""
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        size, suffix = next((size, suffix) for least, size, suffix in _TIMES if abs(value) >= least)
        return f"{value / size:.3g} {suffix}"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB" if value < 2**30 else f"{value / 2**30:.3g} GiB"
    size, suffix = next(((size, suffix) for size, suffix in _SHORT if abs(value) >= size), (1.0, ""))
    return f"{value / size:.3g}{suffix}{ {'reqps': ' req/s', 'ops': ' ops/s'}.get(unit, '') }"


def draw(
    board: Mapping[str, Any],
    found: Mapping[int, Found],
    marks: Mapping[str, Sequence[float]],
    seconds: float,
    path: Path,
) -> None:
    """Writes the picture.

    Args:
        board: The dashboard.
        found: What each panel's queries have found, by the panel's id and the query's.
        marks: When an annotation says that something happened, in seconds since the picture's beginning, by its name.
        seconds: How long the picture spans.
        path: A PNG.
    """
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(_WIDTH * _UNIT_INCHES[0], height * _UNIT_INCHES[1]), dpi=_DPI)
    colors = {one["name"]: one["iconColor"] for one in board["annotations"]["list"]}
    for panel in board["panels"]:
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        if panel["type"] == "row":
            figure.text(0.005, 1 - (y + 0.8) / height, panel["title"], fontsize=10, fontweight="bold")
            continue
        below = 2.6 if panel["type"] == "timeseries" else 0.9  # where the legend is
        box = ((x + 0.9) / _WIDTH, 1 - (y + h - below) / height, (w - 1.9) / _WIDTH, (h - 1.3 - below) / height)
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], fontsize=_TITLE, loc="left", pad=3)
        own = found[panel["id"]]
        if not any(own.values()):
            _say(axes, "No data", "gray")
        elif panel["type"] == "stat":
            _stat(axes, panel, own)
        elif panel["type"] == "table":
            _table(axes, own)
        elif panel["type"] == "heatmap":
            _heatmap(axes, own)
        else:
            _lines(axes, panel, own, seconds)
            for name, times in marks.items():
                for time in times:
                    axes.axvline(time, color=colors[name], linewidth=0.6, linestyle="--")
    figure.savefig(path)
    _shrink(path)


def _say(axes: Axes, text: str, color: str, size: float = 11) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=color, fontsize=size, transform=axes.transAxes)


def _stat(axes: Axes, panel: Mapping[str, Any], found: Found) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    series = [one for own in found.values() for one in own]
    axes.set_axis_off()
    for i, one in enumerate(series):
        value = one.values[-1]
        color = [
            step["color"] for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]
        ]
        place = 1 - (i + 0.5) / len(series)
        axes.text(0.5, place, shown(value, defaults["unit"]), ha="center", va="bottom", fontsize=13, color=color[-1])
        axes.text(0.5, place, one.name, ha="center", va="top", fontsize=_SMALL)


def _table(axes: Axes, found: Found) -> None:
    rows = [one.labels for own in found.values() for one in own]
    names = [name for name in rows[0] if name not in {"__name__", "job"}]
    cells = [[row.get(name, "") for name in names] for row in rows]
    axes.set_axis_off()
    table = axes.table(cells, colLabels=names, loc="upper center", cellLoc="left")
    table.auto_set_font_size(value=False)
    table.set_fontsize(_SMALL)
    table.auto_set_column_width(list(range(len(names))))


def _heatmap(axes: Axes, found: Found) -> None:
    (series,) = (sorted(own, key=lambda one: float(one.labels["le"])) for own in found.values())
    times = series[-1].seconds
    below = [dict(zip(one.seconds, one.values, strict=True)) for one in series]
    cells = [
        [max(0.0, upper.get(time, 0.0) - (below[i - 1].get(time, 0.0) if i else 0.0)) for time in times]
        for i, upper in enumerate(below)
    ]
    axes.pcolormesh(times, range(len(series)), cells, cmap="viridis", shading="nearest")
    axes.set_yticks(range(len(series)), [one.labels["le"] for one in series])
    axes.tick_params(labelsize=5)


def _lines(axes: Axes, panel: Mapping[str, Any], found: Found, seconds: float) -> None:
    config = panel["fieldConfig"]
    right = {
        override["matcher"]["options"]: {one["id"]: one["value"] for one in override["properties"]}
        for override in config["overrides"]
        if override["matcher"]["id"] == "byFrameRefID"
    }
    other: Axes | None = None
    highest: dict[Axes, float] = {}
    number = 0
    handles = []
    for query, own in found.items():
        place, unit = axes, config["defaults"]["unit"]
        if right.get(query, {}).get("custom.axisPlacement") == "right":
            other = other or axes.twinx()
            place, unit = other, right[query].get("unit", unit)
        for one in own:
            (line,) = place.plot(
                one.seconds, one.values, color=f"C{number % 10}", linewidth=1, label=one.name or "value"
            )
            handles.append((line, one.values[-1]))
            number += 1
        place.yaxis.set_major_formatter(_Formatter(unit))
        place.tick_params(labelsize=_SMALL)
        values = [value for one in own for value in one.values if math.isfinite(value)]
        highest[place] = max([highest.get(place, 0.0), *values])
    for place, value in highest.items():
        place.set_ylim(0, 1.1 * value or 1)
    for step in config["defaults"].get("thresholds", {}).get("steps", [])[1:]:
        axes.axhline(step["value"], color=step["color"], linewidth=0.6)
    axes.set_xlim(0, seconds)
    axes.xaxis.set_major_locator(MultipleLocator(30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02}"))
    axes.grid(linewidth=0.3)
    # The highest at the end first, as many as there is room for.
    handles.sort(key=lambda one: -one[1])
    said = [line for line, _ in handles[:_LEGEND_LINES]]
    names = [str(line.get_label()) for line in said]
    if len(handles) > _LEGEND_LINES:
        names[-1] += f" and {len(handles) - _LEGEND_LINES} more"
    axes.legend(
        said,
        names,
        fontsize=5.5,
        loc="upper left",
        bbox_to_anchor=(-0.03, -0.14),
        ncols=3,
        frameon=False,
        borderpad=0,
        labelspacing=0.2,
        columnspacing=1,
        handlelength=1,
    )


class _Formatter(FuncFormatter):
    """Writes an axis' values in a unit."""

    def __init__(self, unit: str) -> None:
        super().__init__(lambda value, _: shown(value, unit))


def _shrink(path: Path) -> None:
    """Lines and letters do with few colours, at a fraction of the size."""
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLORS).save(path, optimize=True)
