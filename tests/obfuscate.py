"""Disguises that a spammer would put on the content words of a text, by kind, to measure what still meets its like.

Made without regard to what `nearvote.text.fold` undoes: what it misses here is to be seen.
"""

import re
from collections.abc import Callable

from numpy.random import Generator

SHARE = 0.5
"""How many of the words longer than three letters are disguised, unless told otherwise."""

_CONTENT_WORD = re.compile(r"[^\W\d_]{4,}")

_LEET = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "l": "1", "g": "9", "b": "8"}
# Cyrillic, Greek, Armenian, full-width and mathematical letters, small capitals, and letters with marks.
_HOMOGLYPHS = {
    "a": "аαａ𝐚𝖺ᴀàǎ",
    "b": "ЬƄｂ𝐛ʙвβ",
    "c": "сϲｃ𝐜ᴄç",
    "d": "ԁｄ𝐝ᴅđ",
    "e": "еｅ𝐞ᴇєéε",
    "f": "ｆ𝐟ꜰƒ",
    "g": "ɡｇ𝐠ցɢğ",
    "h": "һｈ𝐡ʜհн",
    "i": "іιｉ𝐢ɪíї",
    "j": "јϳｊ𝐣ᴊ",
    "k": "кκｋ𝐤ᴋ",
    "l": "ⅼӏｌ𝐥ʟł",
    "m": "ｍ𝐦ᴍм",
    "n": "пոηｎ𝐧ɴñ",
    "o": "оοօｏ𝐨ᴏöø",
    "p": "рρｐ𝐩ᴘ",
    "q": "ԛｑ𝐪զ",
    "r": "гｒ𝐫ʀя",
    "s": "ѕｓ𝐬ꜱš",
    "t": "ｔ𝐭ᴛтτ",
    "u": "υսｕ𝐮ᴜüц",
    "v": "ѵνｖ𝐯ᴠ",
    "w": "ԝѡｗ𝐰ᴡωш",
    "x": "хχｘ𝐱×",
    "y": "уγｙ𝐲ʏý",
    "z": "ｚ𝐳ᴢž",
}
_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_SEPARATORS = " .-_*"


def leet(text: str, rng: Generator, share: float = SHARE) -> str:
    """Puts digits and symbols in place of most letters that have one."""
    return _disguise(text, rng, share, lambda word: _substitute(word, _LEET, 0.7, rng))


def homoglyph(text: str, rng: Generator, share: float = SHARE) -> str:
    """Puts letters that look alike in place of some."""
    return _disguise(text, rng, share, lambda word: _substitute(word, _HOMOGLYPHS, 0.5, rng))


def zero_width(text: str, rng: Generator, share: float = SHARE) -> str:
    """Puts characters that are not seen within words."""

    def hide(word: str) -> str:
        at = {int(place) for place in rng.integers(1, len(word), size=int(rng.integers(1, 4)))}
        return "".join((_pick(_UNSEEN, rng) if place in at else "") + letter for place, letter in enumerate(word))

    return _disguise(text, rng, share, hide)


def spaced(text: str, rng: Generator, share: float = SHARE) -> str:
    """Sets the letters of words apart, in each word by a separator of its own."""
    return _disguise(text, rng, share, lambda word: _pick(_SEPARATORS, rng).join(word))


def repeated(text: str, rng: Generator, share: float = SHARE) -> str:
    """Repeats one or two letters of words, two to four times more."""

    def draw_out(word: str) -> str:
        letters = list(word)
        for place in rng.choice(len(word), size=int(rng.integers(1, 3)), replace=False):
            letters[place] *= 1 + int(rng.integers(2, 5))
        return "".join(letters)

    return _disguise(text, rng, share, draw_out)


OBFUSCATORS: dict[str, Callable[[str, Generator], str]] = {
    "leet": leet,
    "homoglyph": homoglyph,
    "zero_width": zero_width,
    "spaced": spaced,
    "repeated": repeated,
}


def _disguise(text: str, rng: Generator, share: float, disguise: Callable[[str], str]) -> str:
    return _CONTENT_WORD.sub(lambda match: disguise(match[0]) if rng.random() < share else match[0], text)


def _substitute(word: str, table: dict[str, str], share: float, rng: Generator) -> str:
    """At least one letter is substituted, if the table has any of the word's."""
    places = [place for place, letter in enumerate(word) if letter.lower() in table]
    if not places:
        return word
    chosen = {place for place in places if rng.random() < share} or {places[int(rng.integers(len(places)))]}
    return "".join(
        _pick(table[letter.lower()], rng) if place in chosen else letter for place, letter in enumerate(word)
    )


def _pick(characters: str, rng: Generator) -> str:
    return characters[int(rng.integers(len(characters)))]
