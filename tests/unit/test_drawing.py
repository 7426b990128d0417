import io
import struct

import numpy as np
import pytest

from nearvote.learn.drawing import draw
from nearvote.learn.palette import looks
from nearvote.learn.picture import MapMessage, MapPanel, MapPicture, score_text

PNG_HEADER = struct.Struct(">8x4x4sII")


def _picture(labels: int, each: int, panels: int = 1, messages: int = 0, scale: float = 0.1) -> MapPicture:
    """A picture of made-up places."""
    names = tuple(f"label_{i}" for i in range(labels))
    of_points = tuple(name for name in names for _ in range(each))
    rng = np.random.default_rng(3)
    points = np.repeat(rng.uniform(-1, 1, (labels, 2)), each, axis=0) + rng.normal(scale=scale, size=(labels * each, 2))
    panel = MapPanel("an-encoder", 0.31, points, rng.uniform(-1, 1, (messages, 2)))
    said = tuple(
        MapMessage(f"$ message {i} 😀 _{{", "label_0", ((0, 0.6), (len(of_points) - 1, 0.4))) for i in range(messages)
    )
    return MapPicture("a task", names, frozenset({names[0]}), of_points, said, (panel,) * panels)


def _png(picture: MapPicture) -> tuple[int, int, bytes]:
    """Width, height and all of a drawn PNG."""
    file = io.BytesIO()
    draw(picture, file, "png")
    kind, width, height = PNG_HEADER.unpack_from(file.getvalue())
    assert kind == b"IHDR"
    return width, height, file.getvalue()


@pytest.mark.parametrize(("labels", "each", "width"), [(1, 1, 1600), (2, 1, 1600), (5, 40, 1600), (77, 4, 2600)])
def test_a_picture_is_drawn(labels: int, each: int, width: int) -> None:
    """One example makes a picture as well as many of many labels, and the more labels, the larger it is."""
    drawn_width, height, image = _png(_picture(labels, each))
    assert drawn_width == width
    assert height > width // 2
    assert len(image) > 10_000  # a blank sheet compresses to less


def test_messages_lengthen_a_picture() -> None:
    """Each message has a line of its own below the map, whatever characters are in it."""
    _, height, _ = _png(_picture(3, 10))
    _, longer, _ = _png(_picture(3, 10, messages=4))
    assert longer > height + 4 * 30


def test_messages_without_a_place_or_neighbours_are_drawn() -> None:
    """A message that can't be read is in the list and not on the map; one without voters has no lines."""
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    panel = MapPanel("e", None, points, np.array([[np.nan, np.nan], [0.5, 0.5]]))
    messages = (MapMessage("", "abstains: NO_TEXT"), MapMessage("hello", "abstains: NO_EXAMPLES"))
    assert _png(MapPicture("t", ("a", "b"), frozenset(), ("a", "b"), messages, (panel,)))[0] == 1600


@pytest.mark.parametrize(("panels", "columns", "rows"), [(2, 2, 1), (3, 3, 1), (4, 3, 2)])
def test_panels_stand_in_rows_of_three(panels: int, columns: int, rows: int) -> None:
    """Encoders that are compared stand side by side, three in a row."""
    width, height, _ = _png(_picture(2, 3, panels=panels, messages=1))
    assert width == columns * 1000
    assert height // 840 == rows


def test_identical_places_are_drawn() -> None:
    """Points that all lie in one place make a picture."""
    assert _png(_picture(3, 5, scale=0.0))[0] == 1600
    panel = MapPanel("e", None, np.zeros((6, 2)), np.zeros((1, 2)))
    picture = MapPicture("t", ("a", "b"), frozenset(), ("a", "b") * 3, (MapMessage("x", "a", ((0, 1.0),)),), (panel,))
    assert _png(picture)[0] == 1600


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_drawing_repeats(kind: str) -> None:
    """The same map is the same file, to the byte."""
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        draw(_picture(12, 3, messages=2), file, kind)
    assert files[0].getvalue() == files[1].getvalue()
    assert (b"<svg" in files[0].getvalue()) == (kind == "svg")


@pytest.mark.parametrize("count", [1, 2, 10, 11, 77, 100])
def test_no_two_labels_look_alike(count: int) -> None:
    """Each label has a colour and a shape of its own; those in grey are grey."""
    names = [f"label {i}" for i in range(count)]
    styles = looks(names, frozenset({names[0]}))
    assert len({(look.color, look.marker) for look in styles.values()}) == count
    grey = styles[names[0]].color
    assert grey[1:3] == grey[3:5] == grey[5:7]


def test_a_silhouette_is_told_to_two_places() -> None:
    """The figure has two decimals, no minus before nought, and a word where it is not defined."""
    assert [score_text(value) for value in (0.312, -0.001, -0.25, None)] == [
        "silhouette 0.31",
        "silhouette 0.00",
        "silhouette -0.25",
        "silhouette undefined",
    ]
