"""Feeds the parsers what a fuzzer finds: text cleaning, and files of examples.

    make fuzz                    a minute
    make fuzz FUZZ_SECONDS=3600

Nothing that comes from outside may make them raise anything but the errors that they name.
"""

import contextlib
import io
import sys

import atheris

with atheris.instrument_imports(include=["nearvote"]):
    from nearvote.errors import NearvoteError
    from nearvote.examples.files import ExampleFile
    from nearvote.text.clean import clean
    from nearvote.text.fold import fold
    from nearvote.text.surface import surface_vector

_LONGER = 3  # composed, a text has at most so many times the characters


def _clean(text: str) -> None:
    for html in (False, True):
        cleaned = clean(text, html=html)
        assert html or len(cleaned) <= _LONGER * len(text)
        assert clean(cleaned, html=html) == cleaned
    fold(text)
    surface_vector(clean(text))


def _read(data: bytes) -> None:
    for is_csv in (False, True):
        with contextlib.suppress(NearvoteError):
            for _, draft in ExampleFile(io.BytesIO(data), "task", is_csv=is_csv):
                if not isinstance(draft, NearvoteError):
                    draft.check()


def test_one_input(data: bytes) -> None:
    """One input, read in every way."""
    _clean(data.decode("utf-8", errors="replace"))
    _read(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
