"""A message's text as the encoder is to see it."""

import re
import unicodedata

from nearvote.text.html import html_to_text, looks_like_html

# Unicode's Stream-Safe Text Format allows 30 marks on one character (UAX #15, D3). Normalizing takes quadratic time
# in the length of such a run, so longer ones must go first.
_MAX_MARKS = 30

# Controls and surrogates carry no meaning; tabs and line ends are kept, as white space.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]+")

# Goes up when the same text is cleaned to something else, so that stored vectors are known to be of the former way.
TEXT_VERSION = 1

_MAX_ROUNDS = 4


def clean(text: str, *, html: bool = False) -> str:
    """Cleans a text: composed characters, single spaces, no controls, and plain text instead of HTML where asked.

    Never raises. Idempotent: `clean(clean(text)) == clean(text)`. The result has at most three times the characters
    of `text` (the bound of NFC).

    Args:
        text: Any text.
        html: Whether a text with HTML in it is shown by a browser or mail program, so that its tags, comments and
            scripts are not seen. Where it is shown as it is written, they are, and must not hide anything.

    Returns:
        The text that is embedded; empty when nothing readable is in it.
    """
    for _ in range(_MAX_ROUNDS):
        cleaned = _clean_once(text, html=html)
        if cleaned == text:
            return text
        text = cleaned
    # Markup that unfolds into more markup, round after round, is somebody's trick: take its characters as text.
    return _clean_once(text.replace("<", " ").replace("&", " "), html=html)


def _clean_once(text: str, *, html: bool) -> str:
    text = _CONTROLS.sub("", text)
    if html and looks_like_html(text):
        text = html_to_text(text)
        if looks_like_html(text):  # tags that were spelled out for a reader to see: they hide nothing
            text = text.replace("<", " ")
    if not text.isascii():
        text = unicodedata.normalize("NFC", _limit_marks(text))
    text = " ".join(text.split())
    return text if _is_readable(text) else ""


def _limit_marks(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        # By category: a few marks that decompose into several have no combining class of their own.
        marks = marks + 1 if unicodedata.category(character)[0] == "M" else 0
        if marks <= _MAX_MARKS:
            kept.append(character)
    return "".join(kept)


def _is_readable(text: str) -> bool:
    """Whether there is a letter, digit, punctuation mark or symbol: not only marks and what can't be seen."""
    return any(unicodedata.category(character)[0] in "LNPS" for character in text)
