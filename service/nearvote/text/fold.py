"""A text with its disguises taken off, for comparing it by its characters."""

import json
import re
import string
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import regex

# Goes up when the same text is folded to something else, so that what was made from folded texts is known to be old.
FOLD_VERSION = 1

# Joined letters may be a disguise in turn, as in "f.r.3.3", so that a text is folded until it stays as it is. Two
# rounds will do but for texts that were made to need more.
_MAX_ROUNDS = 3

# Characters that are there but not seen. Kashida (U+0640) is seen, but only draws a word out, as "freeeee" does.
_UNSEEN = regex.compile(r"[\p{Default_Ignorable_Code_Point}\u0640]+")
# Normalizing takes quadratic time in the length of a run of marks, see clean.py. The half-width kana marks become
# marks only when they are normalized.
_MANY_MARKS = regex.compile(r"([\p{M}\uff9e\uff9f]{30})[\p{M}\uff9e\uff9f]+")
_LATIN_MARKS = regex.compile(r"(?<=[\p{Script=Latin}\p{Nd}])\p{M}+")

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}@$]+")
_FOREIGN = regex.compile(r"(?V1)[\p{L}--\p{Script=Latin}]")
_NOT_CYRILLIC = regex.compile(r"(?V1)[\p{L}--\p{Script=Cyrillic}]")
_LATIN = regex.compile(r"\p{Script=Latin}")

# Case is what tells a script whose letters can be set apart or drawn out from one like kana, where both are ordinary.
_REPEATED = regex.compile(r"(\p{Ll})\1+")
_SPACED = regex.compile(
    r"(?<![\p{L}\p{M}\p{N}@$!'’])([\p{Ll}01345789@$!])( ?[-._*~|/\\·•–—] ?| )[\p{Ll}01345789@$!]"
    r"(?:\2[\p{Ll}01345789@$!])+(?![\p{L}\p{M}\p{N}])"
)
# A word of letters and what may stand for letters, at least one of each.
_MAYBE_LEET = regex.compile(
    r"(?<![\p{L}\p{M}\p{N}@$!])(?=[a-z]*[0-9@$!])(?=[0-9@$!]*[a-z])[a-z0-9@$!]+(?![\p{L}\p{M}\p{N}])"
)
# The same three for ASCII, where they take a quarter of the time.
_ASCII_REPEATED = re.compile(r"([a-z])\1+")
_ASCII_SPACED = re.compile(
    r"(?<![a-z0-9@$!'])([a-z01345789@$!])( ?[-._*~|/\\] ?| )[a-z01345789@$!]"
    r"(?:\2[a-z01345789@$!])+(?![a-z0-9])"
)
_ASCII_MAYBE_LEET = re.compile(r"(?<![a-z0-9@$!])(?=[a-z]*[0-9@$!])(?=[0-9@$!]*[a-z])[a-z0-9@$!]+")

_MIN_SPACED = 4  # by spaces; one less by anything else, which nobody sets between real words of one letter
_CASED = regex.compile(r"\p{Ll}")

# A word of letters and what may stand for letters, at least one of each.
_MAYBE_LEET = regex.compile(
    r"(?<![\p{L}\p{M}\p{N}@$!])(?=[a-z]*[0-9@$!])(?=[0-9@$!]*[a-z])[a-z0-9@$!]+(?![\p{L}\p{M}\p{N}])"
)
_LEET = str.maketrans("0345789@$!", "oeastbgasi")
_LEET_WORD = re.compile(r"[a-z][013-57-9@$!]{1,4}[a-z]|^[013-57-9@$!].*[013-57-9@$!]$")
_PRICE = re.compile(r"\$[0-9]+[a-z]*$")
_ADDRESS_GOES_ON = regex.compile(r"[-\w.]{0,63}\.[a-z]{2}")
_L_AS_ONE = re.compile(r"11|(?<=[aeiou])1(?=[aeiou])|1$")


def fold(text: str) -> str:
    """Folds a text, so that a disguised text and the plain one become the same or nearly so.

    What is undone: case, compatibility forms, what can't be seen, accents on Latin letters, look-alikes of Latin
    letters from other scripts, digits and symbols for letters, letters set apart, and letters repeated. All texts are
    folded alike, so the result need not be good spelling ("free" becomes "fre"), but ordinary words stay apart.

    Never raises, and takes linear time. Idempotent but for texts that were made to unfold round after round.

    Args:
        text: A text that `clean` has cleaned; any other is folded too, with its white space as it is.

    Returns:
        The folded text. At most eighteen times the characters of `text` (the bound of NFKC), and mostly fewer.
    """
    for _ in range(_MAX_ROUNDS):
        if text.isascii():
            plain = _ASCII_REPEATED.sub(r"\1", text.lower())
            folded = _ASCII_MAYBE_LEET.sub(_undo_leet, _ASCII_SPACED.sub(_join, plain))
            if folded == plain:  # nearly always, and a second round would find nothing
                return folded
            folded = _ASCII_REPEATED.sub(r"\1", folded)
        else:
            folded = _fold_once(text)
        if folded == text:
            break
        text = folded
    return text


def _fold_once(text: str) -> str:
    text = _REPEATED.sub(r"\1", _fold_characters(text))
    text = _SPACED.sub(_join, text)
    text = _MAYBE_LEET.sub(_undo_leet, text)
    return _REPEATED.sub(r"\1", text)


def _fold_characters(text: str) -> str:
    text = _MANY_MARKS.sub(r"\1", _UNSEEN.sub("", text))
    # Before case is folded: some letters look like Latin ones only as capitals.
    text = _unmask(unicodedata.normalize("NFKC", text))
    text = _LATIN_MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    # A letter may show only now what it is made of, such as the dotted I.
    return unicodedata.normalize("NFKC", text).casefold()


class _LookAlikes(NamedTuple):
    """Tables for `str.translate`, and the characters that can be translated."""

    latin: dict[int, str]
    """Letters of the Latin script, and symbols, that are nothing but an ASCII letter in another dress."""
    direct: dict[int, str]
    """Letters of other scripts that look just like an ASCII letter."""
    loose: dict[int, str]
    """The same, and those that pass for an ASCII letter within a word."""
    cyrillic: dict[int, str]
    """ASCII letters that look like Russian or Ukrainian ones."""


# What UTS #39 leaves out, as it asks whether letters can be told apart rather than whether they can be read.
_READ_AS = {"п": "n", "ӏ": "l"}
_READ_IN_WORDS = {"ς": "c", "η": "n", "π": "n", "ω": "w", "μ": "u", "ш": "w", "я": "r", "є": "e", "э": "e"}


# "SMALL CAPITAL" letters, and white ones on black, which NFKC keeps.
_DRESSED = (*range(0x250, 0x2B0), *range(0x1D00, 0x1D80), *range(0xA730, 0xA800), *range(0x1F150, 0x1F18A))
_DRESSED_NAME = regex.compile(
    r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER) ([A-Z])"
)


@cache
def _look_alikes() -> _LookAlikes:
    latin: dict[int, str] = {}
    direct: dict[int, str] = {}
    for character, base in _prototypes():
        if base == "l" and character.isupper():
            base = "i"  # noqa: PLW2901 - a capital I looks the same, and only it is a capital
        (latin if _LATIN.match(character) else direct)[ord(character)] = base.lower()
    for code in _DRESSED:
        if name := _DRESSED_NAME.fullmatch(unicodedata.name(chr(code), "")):
            latin[code] = name[1].lower()
    direct |= {ord(character): base for character, base in _READ_AS.items()}
    loose = direct | {ord(character): base for character, base in _READ_IN_WORDS.items()}
    for code in range(0x3B1, 0x460):  # the small letters of Greek and Cyrillic, and a few others
        capital = ord(chr(code).upper()[0])
        if capital in direct:  # "т" is no "t", but "Т" is a "T"
            loose.setdefault(code, direct[capital])
    cyrillic: dict[int, str] = {}
    for character in "асеорхуігвнкмт":  # in this order: where two look like one letter, the nearer comes first
        cyrillic.setdefault(ord(loose[ord(character)]), character)
    cyrillic |= {ord(chr(code).upper()): character for code, character in cyrillic.items()}
    return _LookAlikes(latin, direct, loose, cyrillic)


def _prototypes() -> Iterator[tuple[str, str]]:
    """Letters and the one ASCII letter that each looks like, from the data of UTS #39."""
    # Only the package's data is read: its own code would keep all of it in memory.
    data = json.loads(files("confusable_homoglyphs").joinpath("confusables.json").read_bytes())
    for character, others in data.items():
        # What NFKC sees to comes never here.
        if not character.isalpha() or unicodedata.normalize("NFKC", character) != character or character.isascii():
            continue
        for other in others:
            # A stroke or a hook is a mark here: "ø" is like "o" with a stroke.
            base = _LATIN_MARKS.sub("", unicodedata.normalize("NFKD", other["c"]))
            if len(character) == len(base) == 1 and base in string.ascii_letters:
                yield character, base
                break


def _unmask(text: str) -> str:
    """Puts one script in place of look-alikes from several, in words that nobody would write with several."""
    tables = _look_alikes()
    text = text.translate(tables.latin)
    if not _FOREIGN.search(text) or not _LATIN.search(text):
        return text
    words = {word: _unmask_word(word, tables) for word in set(_WORD.findall(text)) if _FOREIGN.search(word)}
    wholly = {word: bare for word in words if (bare := _read_as_latin(word, tables.direct)) and not _LATIN.search(word)}
    # A whole word of look-alikes is taken for Latin only where other words are: "рау" is a word in Russian as well.
    latin = foreign = 0
    for word in _WORD.findall(text):
        if word not in words or words[word] != word:
            latin += _LATIN.search(word) is not None
        elif word not in wholly:
            foreign += 1
    if latin > foreign:
        words |= wholly
    return _WORD.sub(lambda match: words.get(match[0], match[0]), text)


def _unmask_word(word: str, tables: _LookAlikes) -> str:
    """A word of Latin and other letters, all in one script if they can be; any other word as it is."""
    if not _LATIN.search(word):
        return word
    if bare := _read_as_latin(word, tables.loose):
        return bare
    cyrillic = word.translate(tables.cyrillic)
    return word if _NOT_CYRILLIC.search(cyrillic) else cyrillic


def _read_as_latin(word: str, table: dict[int, str]) -> str:
    """The word in Latin letters; empty where one of its letters looks like none, or a lone letter may be a symbol."""
    bare = word.translate(table)
    if _FOREIGN.search(bare):  # an accent hides no likeness
        bare = _LATIN_MARKS.sub("", unicodedata.normalize("NFD", word).translate(table))
    return "" if len(word) == 1 or _FOREIGN.search(bare) else bare


def _join(match: "re.Match[str] | regex.Match[str]") -> str:
    """Letters set apart, joined; numbers and a few words of one letter as they are."""
    run = match[0]
    letters = run[:: 1 + len(match[2])]
    enough = _MIN_SPACED if match[2] == " " else _MIN_SPACED - 1
    if len(letters) < enough or 2 * len(_CASED.findall(letters)) < len(letters):
        return run
    return letters


def _undo_leet(match: "re.Match[str] | regex.Match[str]") -> str:
    """A word with letters in place of the digits and symbols that stand for them, if any do.

    They do where they stand between letters ("m0ney") or at both ends ("5el1"), and then everywhere ("l0an5"). At one
    end alone a digit is mostly a number (3pm, 2nd, 10kg, mp3, covid19), except for a doubled vowel ("fr33") and a zero
    in front ("0ffer"); a symbol in front or behind is an S only if it is a dollar sign ("$ave", "deal$").
    """
    word = match[0].rstrip("!")
    tail = match[0][len(word) :]
    letters = sum(character in string.ascii_lowercase for character in word)
    # With few letters, or digits that stand for no letter, it is a code.
    if letters < max(2, len(word) / 4) or "2" in word or "6" in word:
        return match[0]
    if "@" in word and _ADDRESS_GOES_ON.match(match.string, match.end()):
        return match[0]
    if not _PRICE.match(word) and _LEET_WORD.search(word):
        return _L_AS_ONE.sub("l", word.translate(_LEET)).replace("1", "i") + tail
    if word.startswith("$") and word[1:].isalpha():
        word = "s" + word[1:]
    elif word.startswith("0") and word[1:].isalpha() and letters > 2:  # noqa: PLR2004 - 0am, 0kg
        word = "o" + word[1:]
    if word.endswith("$") and word[:-1].isalpha() and letters > 2:  # noqa: PLR2004 - us$
        word = word[:-1] + "s"
    elif (stem := word.rstrip(word[-1])).isalpha() and word[len(stem) :] in {"33", "00"}:
        word = stem + 2 * ("e" if word[-1] == "3" else "o")
    return word + tail
