"""How parts are put together."""

import pytest

from nearvote import wiring
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.settings import read_settings
from nearvote.text.surface import SURFACE_VERSION


def test_another_reading_is_another_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of texts read as HTML, or of n-grams counted in another way, are not to be compared with the others."""
    spec, plain, html = HashingEncoder().spec, read_settings({}), read_settings({"html": True})
    spaces = [wiring._space(spec, plain), wiring._space(spec, html)]
    monkeypatch.setattr(wiring, "SURFACE_VERSION", SURFACE_VERSION + 1)
    spaces += [wiring._space(spec, plain), wiring._space(spec, html)]
    assert len({space.key for space in spaces}) == 4
    assert all(space.key.startswith(spec.key) for space in spaces)
    assert {(space.dimension, space.model) for space in spaces} == {(spec.dimension, spec.model)}
