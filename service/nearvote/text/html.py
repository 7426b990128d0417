"""The readable text of HTML, in one pass.

The standard library's parser takes quadratic time on some broken markup, and mail is full of broken markup; this one
does not parse a document, it only leaves out what no reader sees.
"""

import html
import re

_HTML_TELL = re.compile(
    r"<(?:!doctype html|html|head|body|div|p|br|table|td|tr|span|font|img|style|script|center|a\s+href)\b[^<>]*+>",
    re.IGNORECASE,
)
# The start of a comment, or a tag. Possessive quantifiers: no backtracking, so linear time whatever the input.
_TOKEN = re.compile(r"<!--|<(?P<close>/?)(?P<name>[a-zA-Z!?][^\s<>/]*+)[^<>]*+>")
_COMMENT_END = re.compile(r"--!?>")
_UNSEEN_ENDS = {
    name: re.compile(rf"</{name}\b[^<>]*+>", re.IGNORECASE) for name in ("script", "style", "head", "title", "template")
}
_INLINE = frozenset({"a", "b", "i", "u", "em", "strong", "font", "span", "small", "big", "sub", "sup", "tt", "code"})
# A numeric reference, apart from the zeros that it begins with. The decoder refuses very long numbers.
_NUMERIC_REFERENCE = re.compile(r"&#(?:0*+([0-9]++)|([xX])0*+([0-9a-fA-F]++));?")
_MOST_DIGITS = 7  # no character's number has more


def looks_like_html(text: str) -> bool:
    """Whether the text has a tag that only HTML has."""
    return "<" in text and _HTML_TELL.search(text) is not None


def html_to_text(markup: str) -> str:
    """Leaves out tags, comments, scripts and styles, and decodes character references.

    Args:
        markup: HTML, well-formed or not. An element or comment that is never closed hides nothing.

    Returns:
        What a reader would see, blocks separated by spaces.
    """
    seen: list[str] = []
    unclosed: set[str] = set()  # what has no end further on, and need not be looked for again
    position = 0
    while (token := _TOKEN.search(markup, position)) is not None:
        seen.append(markup[position : token.start()])
        position = token.end()
        name = (token["name"] or "").lower()
        if name not in _INLINE:
            seen.append(" ")
        if name in unclosed or token["close"] or token[0].endswith("/>"):
            continue
        if name == "":
            # From within the start on: `<!-->` is a whole comment.
            end = _COMMENT_END.search(markup, token.start() + 2)
        elif name in _UNSEEN_ENDS:
            end = _UNSEEN_ENDS[name].search(markup, position)
        else:
            continue
        if end is None:
            unclosed.add(name)
        else:
            position = end.end()
    seen.append(markup[position:])
    return html.unescape(_NUMERIC_REFERENCE.sub(_shortened, "".join(seen)))


def _shortened(reference: re.Match[str]) -> str:
    digits = reference[1] or reference[3]
    return f"&#{reference[2] or ''}{digits};" if len(digits) <= _MOST_DIGITS else "\N{REPLACEMENT CHARACTER}"
