import unicodedata
from functools import partial
from typing import Literal

import pytest

from nearvote.text.clean import clean as clean_text

clean = partial(clean_text, html=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\t\n\r words\u00a0\u2003here ", "two words here"),
        ("line\x0bfeed\x0cform", "line feed form"),
        ("plain text, <3 and a < b > c & d", "plain text, <3 and a < b > c & d"),
        ("AT&amp;T", "AT&amp;T"),  # plain text is not HTML: nothing is decoded
        ("", ""),
    ],
)
def test_white_space(text: str, expected: str) -> None:
    """Runs of white space become one space; plain text stays otherwise as it is."""
    assert expected == clean(text)


@pytest.mark.parametrize("control", ["\0", "\x07", "\x1b", "\x7f", "\x85", "\x9f", chr(0xD800), chr(0xDFFF)])
def test_controls_go(control: str) -> None:
    """Controls and lone surrogates are left out, without a space in their place."""
    assert clean(f"fr{control}ee") == "free"


def test_composes() -> None:
    """Decomposed characters are composed."""
    assert clean("Cafe\u0301") == "Caf\u00e9"


def test_compatibility_characters_stay() -> None:
    """Ligatures and full-width letters are kept: they tell something of who wrote them."""
    assert clean("\ufb01ne \uff26\uff32\uff25\uff25") == "\ufb01ne \uff26\uff32\uff25\uff25"


@pytest.mark.parametrize(
    "text", ["", " \n", "\0\0", "\u0301\u0301", "\u200b\u200d\u202e\ufeff", "\ud800", "<p> </p>", "<br><!-- a -->"]
)
def test_nothing_to_read(text: str) -> None:
    """A text with nothing that can be seen becomes empty."""
    assert clean(text) == ""


@pytest.mark.parametrize("text", ["?", "1", "😀", "$", "你", "\ufffd", "\u0301a"])
def test_anything_to_read_stays(text: str) -> None:
    """One letter, digit, punctuation mark or symbol is enough to be read."""
    assert text == clean(text)


def test_thirty_marks_stay() -> None:
    """A character keeps thirty marks, and no more."""
    assert len(clean("q" + "\u0301" * 100 + "r")) == len("q") + 30 + len("r")


@pytest.mark.parametrize("mark", ["\u0301", "\u0344", "\u0f73", "\u0f75", "\u0f81"])
def test_normalizing_is_never_given_a_long_run_of_marks(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the normalizer, which is quadratic in the length of a run of marks, has only short ones."""
    normalize = unicodedata.normalize
    runs: list[int] = []

    def watched(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        run = 0
        for character in normalize("NFD", text):
            run = run + 1 if unicodedata.combining(character) else 0
            runs.append(run)
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", watched)
    clean("a" + mark * 1000)
    assert max(runs, default=0) <= 90  # 30 characters, of up to three marks each


def test_endless_unfolding_ends() -> None:
    """Markup that unfolds into more markup is taken as text after some rounds, and stays so."""
    text = "<p>"
    for _ in range(12):
        text = "<p>" + text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    once = clean(text + "end")
    assert once.endswith("end")
    assert once == clean(once)


@pytest.mark.parametrize("digits", [10, 4_301, 60_000])
@pytest.mark.parametrize("radix", ["", "x"])
def test_endless_character_reference(digits: int, radix: str) -> None:
    """A character reference of any length raises nothing and takes no text along."""
    assert "before" in clean(f"<p>before &#{radix}{'1' * digits}; after</p>")


@pytest.mark.parametrize(
    "text",
    [
        "<script>kill yourself</script>",
        "<p kill yourself>",
        "<!-- kill yourself -->",
        '<img alt="kill yourself">',
        "<style>kill yourself</style>",
        "&lt;kill yourself&gt;",
    ],
)
def test_markup_hides_nothing_where_it_is_shown_as_written(text: str) -> None:
    """A text that is not read as HTML keeps every word, whatever its markup."""
    assert clean_text(text) == text


def test_what_is_spelled_out_is_seen() -> None:
    """A tag that HTML spells out for its reader to see hides nothing either."""
    assert "kill yourself" in clean("<p>&lt;script&gt;kill yourself&lt;/script&gt;</p>")
    assert "kill yourself" in clean("<p>&lt;p title=kill yourself&gt;</p>")
