"""What the labels of a map look like."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

# Up to so many labels have colours that the colour-blind tell apart, and a legend.
FEW = 10

# Okabe and Ito's without yellow and black, then Tol's muted.
_DISTINCT = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#882255", "#999933", "#332288", "#44AA99",
)  # fmt: skip
_GREYS = ("#8c8c8c", "#b3b3b3")
_GOLDEN = 0.618034  # turns of the hue that never come back to where they were
_SHADES = ((0.58, 0.17), (0.72, 0.14), (0.46, 0.15))  # lightness and chroma
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_READABLE = 0.33  # how bright a name on white may be


@dataclass(frozen=True, slots=True)
class Look:
    """How a label is drawn: its colour, a darker one that can be read as text, and its points' shape."""

    color: str
    dark: str
    marker: str


def looks(labels: Sequence[str], quiet: frozenset[str]) -> dict[str, Look]:
    """How each of some labels is drawn; no two of up to a hundred alike.

    Args:
        labels: Their names.
        quiet: Those of them in grey.
    """
    loud = [label for label in labels if label not in quiet]
    few = len(labels) <= FEW
    found = {}
    for i, label in enumerate(loud):
        color = _DISTINCT[i] if few else _shade(i)
        found[label] = Look(color, _darker(color), "o" if few else _MARKERS[i % len(_MARKERS)])
    for label, grey in zip((label for label in labels if label in quiet), cycle(_GREYS), strict=False):
        found[label] = Look(grey, _darker(grey), "o")
    return found


def _shade(i: int) -> str:
    """A colour of even spacing to the eye (OKLCH): hues a golden turn apart, of three shades."""
    lightness, chroma = _SHADES[i % len(_SHADES)]
    angle = 2 * math.pi * i * _GOLDEN
    a, b = chroma * math.cos(angle), chroma * math.sin(angle)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return _hex(
        _encoded(4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short),
        _encoded(-1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short),
        _encoded(-0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short),
    )


def _darker(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    scale = min(1.0, _READABLE / (0.3 * red + 0.6 * green + 0.1 * blue))
    return _hex(red * scale, green * scale, blue * scale)


def _encoded(linear: float) -> float:
    """One part of a colour as sRGB has it; what a screen can't show is cut off."""
    linear = min(max(linear, 0.0), 1.0)
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055  # noqa: PLR2004


def _hex(*parts: float) -> str:
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)
