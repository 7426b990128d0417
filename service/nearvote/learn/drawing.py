"""Draws maps of examples."""

import warnings
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from nearvote.learn.layout import Places, centre, hull, spread
from nearvote.learn.palette import FEW, Look, looks
from nearvote.learn.picture import MapPanel, MapPicture, score_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")

_DPI = 200
_SEVERAL = 30  # labels; more of them take a larger sheet and smaller letters
_COLUMNS = 3
# In inches.
_SIDE = 0.15
_HEADING = 0.42
_LEGEND_ROW = 0.22
_LEGEND_LETTER = 0.075  # about the width of one, so that names of any length find a number of columns
_PANEL_TITLE = 0.28
_CAPTION_LINE = 0.19
_CAPTION_LETTER = 0.063
_ANSWER_WIDTH = 44  # letters that a message's answer may take
_LINES = 10  # for each message; a hundred voters would hide the map
_STAR_ROOM = 40.0  # pixels
_MARGIN = 0.05  # of a panel, around its points
_INK = "#222222"
_FAINT = "#666666"


def draw(picture: MapPicture, file: IO[bytes], kind: str) -> None:
    """Draws a picture.

    Args:
        picture: What is on it; at least one panel.
        file: Where it is written to.
        kind: One of `FORMATS`.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and is not always installed

    # Without salt and with a date, an SVG would differ each time.
    with mpl.rc_context({"svg.hashsalt": "nearvote", "font.family": "DejaVu Sans"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing")  # an emoji becomes a box
        figure = _figure(picture)
        figure.savefig(file, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else None)


def _figure(picture: MapPicture) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    few = len(picture.labels) <= FEW
    columns = min(_COLUMNS, len(picture.panels))
    rows = -(-len(picture.panels) // columns)
    panel_width, panel_height = _panel_size(columns, len(picture.labels))
    titled = _PANEL_TITLE if len(picture.panels) > 1 else 0.0
    width = columns * panel_width
    legend_columns = max(1, int((width - 2 * _SIDE) / (_LEGEND_LETTER * (max(map(len, picture.labels)) + 4))))
    legend = _LEGEND_ROW * -(-len(picture.labels) // legend_columns) if few else 0.0
    caption = _CAPTION_LINE * len(picture.messages) + (0.1 if picture.messages else 0.0)
    height = _HEADING + legend + rows * (panel_height + titled) + caption + _SIDE
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    heading = picture.heading
    if len(picture.panels) == 1:
        heading += f"  ·  {picture.panels[0].title}  ·  {score_text(picture.panels[0].silhouette)}"
    _write(figure, _SIDE, height - 0.16, heading, size=10 if few else 12, weight="bold", va="top")
    styles = looks(picture.labels, picture.quiet)
    if few:
        _legend(figure, picture, styles, (height - _HEADING) / height, legend_columns)
    top = height - _HEADING - legend
    for i, panel in enumerate(picture.panels):
        row, column = divmod(i, columns)
        bottom = top - (row + 1) * (panel_height + titled)
        left = column * panel_width + (_SIDE if column == 0 else _SIDE / 2)
        right = (column + 1) * panel_width - (_SIDE if column == columns - 1 else _SIDE / 2)
        axes = figure.add_axes(
            (left / width, bottom / height, (right - left) / width, (panel_height - _SIDE / 2) / height)
        )
        if titled:
            place = bottom + panel_height + 0.02
            _write(figure, left, place, panel.title, size=9, weight="bold", va="bottom")
            score = score_text(panel.silhouette)
            _write(figure, right, place, score, size=9, color=_FAINT, va="bottom", ha="right")
        _draw_panel(axes, picture, panel, styles)
    _draw_captions(figure, picture, caption)
    return figure


def _panel_size(columns: int, labels: int) -> tuple[float, float]:
    """The more names there are to be read, the larger; one panel is larger than each of several."""
    if labels <= FEW:
        return (8.0, 5.4) if columns == 1 else (5.0, 4.2)
    if labels <= _SEVERAL:
        return (10.0, 7.2) if columns == 1 else (6.4, 5.2)
    return (13.0, 9.5) if columns == 1 else (8.0, 6.6)


def _draw_panel(axes: "Axes", picture: MapPicture, panel: MapPanel, styles: dict[str, Look]) -> None:
    from matplotlib.patches import Polygon  # noqa: PLC0415

    few = len(picture.labels) <= FEW
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#fcfcfc")
    axes.spines[:].set_color("#dddddd")
    _set_limits(axes, panel)
    of_points = np.array(picture.of_points, dtype=object)
    size = _point_size(len(of_points), axes, few=few)
    middles: dict[str, Places] = {}
    for label in picture.labels:
        look, own = styles[label], panel.points[of_points == label]
        if not len(own):
            continue
        middles[label] = centre(own)
        outline = hull(own)
        quiet = label in picture.quiet
        if outline is not None:
            if panel.named:  # a pile of fills would be mud
                depth = 0.05 if quiet else 0.11 if few else 0.09
                axes.add_patch(Polygon(outline, facecolor=look.color, alpha=depth, zorder=1, lw=0))
            line = 0.55 if panel.named or few else 0.3
            axes.add_patch(
                Polygon(outline, fill=False, edgecolor=look.color, alpha=line, lw=0.9 if few else 0.6, zorder=2)
            )
        axes.scatter(
            own[:, 0], own[:, 1], s=size, c=[look.color], marker=look.marker, alpha=0.55 if quiet else 0.85,
            linewidths=0.25, edgecolors="white", zorder=3 if quiet else 4,
        )  # fmt: skip
    if panel.named:
        _draw_names(axes, panel, middles, styles, 8.0 if few else 7.2 if len(picture.labels) <= _SEVERAL else 6.2)
    _draw_messages(axes, picture, panel, styles, size + 5)


def _set_limits(axes: "Axes", panel: MapPanel) -> None:
    """Fills the panel: the axes of a t-SNE have no unit that would have to be the same."""
    places = np.vstack([panel.points, _on_map(panel)])
    low, high = places.min(axis=0), places.max(axis=0)
    margin = np.maximum((high - low) * _MARGIN, 0.05)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _draw_names(
    axes: "Axes", panel: MapPanel, middles: dict[str, Places], styles: dict[str, Look], size: float
) -> None:
    """Each label's name at its middle, or near it with a line to it where it would cover a name or a star."""
    figure: Any = axes.figure
    renderer = figure.canvas.get_renderer()
    wanted = axes.transData.transform(np.array(list(middles.values())).reshape(-1, 2))
    stars = axes.transData.transform(_on_map(panel))
    corner = axes.transAxes.transform((0, 0))
    width, height = axes.transAxes.transform((1, 1)) - corner
    style: dict[str, Any] = {"fontsize": size, "weight": "bold", "ha": "center", "va": "center", "zorder": 8}
    texts = [
        axes.text(0, 0, label, color=styles[label].dark, parse_math=False, path_effects=_halo(2.2), **style)
        for label in middles
    ]
    boxes = [text.get_window_extent(renderer) for text in texts]
    sizes = np.array([(box.width + 8, box.height + 5) for box in boxes]).reshape(-1, 2)
    star_sizes = np.full(stars.shape, _STAR_ROOM)
    all_sizes = np.vstack([sizes, star_sizes])
    placed = spread(np.vstack([wanted, stars]) - corner, all_sizes, width, height, len(stars)) + corner
    placed = placed[: len(wanted)]
    # Written where they are on the map: an SVG has other pixels than those measured here.
    on_map = axes.transData.inverted().transform(placed)
    moved = (np.abs(placed - wanted) > sizes * 0.6).any(axis=1)
    for label, text, place, far in zip(middles, texts, on_map, moved, strict=True):
        text.set_position(tuple(place))
        if far:
            axes.plot(*np.array([middles[label], place]).T, color=styles[label].dark, lw=0.6, alpha=0.7, zorder=7)


def _draw_messages(
    axes: "Axes", picture: MapPicture, panel: MapPanel, styles: dict[str, Look], ring_size: float
) -> None:
    """Stars, and lines to the neighbours that voted most: the heavier the vote, the heavier the line."""
    largest = max((share for message in picture.messages for _, share in message.neighbors), default=0.0)
    for number, (message, place) in enumerate(zip(picture.messages, panel.messages, strict=True), 1):
        if np.isnan(place).any():
            continue
        for neighbor, share in sorted(message.neighbors, key=lambda pair: -pair[1])[:_LINES]:
            weight = share / largest if largest else 0.0
            voter, color = panel.points[neighbor], styles[picture.of_points[neighbor]].dark
            axes.plot(
                *np.array([place, voter]).T, color=color, lw=0.4 + 1.8 * weight, alpha=0.4 + 0.5 * weight, zorder=5
            )
            axes.scatter(voter[0], voter[1], s=ring_size, facecolors="none", edgecolors=_INK, linewidths=0.6, zorder=6)
        axes.scatter(place[0], place[1], marker="*", s=130, c="black", edgecolors="white", linewidths=0.8, zorder=9)
        axes.annotate(
            str(number), place, xytext=(5, 4), textcoords="offset points", fontsize=8, weight="bold", zorder=10,
            path_effects=_halo(2.5),
        )  # fmt: skip


def _on_map(panel: MapPanel) -> Places:
    """Where messages are, of those that are somewhere."""
    return np.asarray(panel.messages[~np.isnan(panel.messages).any(axis=1)])


def _draw_captions(figure: "Figure", picture: MapPicture, band: float) -> None:
    letters = int((figure.get_figwidth() - 2 * _SIDE) / _CAPTION_LETTER) - 4
    for number, message in enumerate(picture.messages, 1):
        answer = _cut(message.answer, _ANSWER_WIDTH)
        line = f"★ {number}  {_cut(message.text, max(20, letters - len(answer)))}  →  {answer}"
        y = band + _SIDE / 2 - 0.08 - (number - 1) * _CAPTION_LINE
        _write(figure, _SIDE, y, line, size=7.5, va="top")


def _legend(figure: "Figure", picture: MapPicture, styles: dict[str, Look], top: float, columns: int) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    counts = {label: picture.of_points.count(label) for label in picture.labels}
    handles = [
        Line2D([], [], marker=styles[label].marker, color=styles[label].color, ls="", ms=5) for label in picture.labels
    ]
    legend = figure.legend(
        handles, [f"{label} {counts[label]:,}" for label in picture.labels], loc="upper left", ncols=columns,
        bbox_to_anchor=(_SIDE / figure.get_figwidth(), top), frameon=False, fontsize=8, handletextpad=0.1,
        borderaxespad=0, borderpad=0, columnspacing=1.2, labelspacing=0.45,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _write(figure: "Figure", x: float, y: float, text: str, **style: Any) -> None:
    """Writes at a place in inches from the lower left; a text is no formula, whatever dollar signs are in it."""
    size = style.pop("size")
    figure.text(
        x / figure.get_figwidth(), y / figure.get_figheight(), text, fontsize=size, parse_math=False,
        **{"color": _INK, **style},
    )  # fmt: skip


def _halo(width: float) -> list[Any]:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415

    return [withStroke(linewidth=width, foreground="white", alpha=0.9)]


def _point_size(count: int, axes: "Axes", *, few: bool) -> float:
    """In square points: the more points and the smaller the panel, the smaller."""
    box: Any = axes.get_window_extent()
    room = box.width * box.height / (_DPI / 72) ** 2
    return float(np.clip(0.035 * room / max(count, 1), 5, 42 if few else 20))


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
