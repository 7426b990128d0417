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
# A comment's ends, or a tag. Possessive quantifiers: no backtracking, so linear time whatever the input.
_TOKEN = re.compile(r"<!--|-->|<(?P<close>/?)(?P<name>[a-zA-Z!?][^\s<>/]*+)[^<>]*+>")
_UNSEEN = frozenset({"script", "style", "head", "title", "template"})
_INLINE = frozenset({"a", "b", "i", "u", "em", "strong", "font", "span", "small", "big", "sub", "sup", "tt", "code"})


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
    hidden: list[str] = []  # what stands in an element or comment that may yet turn out not to be closed
    hidden_by = ""
    position = 0
    for token in _TOKEN.finditer(markup):
        (hidden if hidden_by else seen).append(markup[position : token.start()])
        position = token.end()
        if hidden_by:
            if token[0] == hidden_by or (token["close"] and (token["name"] or "").lower() == hidden_by):
                hidden.clear()
                hidden_by = ""
            continue
        name = (token["name"] or "").lower()
        if token[0] == "<!--":
            hidden_by = "-->"
        elif name in _UNSEEN and not token["close"] and not token[0].endswith("/>"):
            hidden_by = name
        if name not in _INLINE:
            seen.append(" ")
    seen += hidden
    seen.append(markup[position:])
    return html.unescape("".join(seen))
