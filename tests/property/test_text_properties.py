from functools import reduce
from html import escape
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nearvote.text.clean import clean
from nearvote.text.html import html_to_text
from nearvote.text.windows import window_spans

_many = settings(max_examples=200)

_MARKUP = [
    *("<", ">", "</", "/>", "&", ";", "&#", "&#x", "lt;", "amp;", "gt;", "#60;", "'", '"', "=", "-", "!", "?"),
    *("<!--", "-->", "<!-->", "--!>", "<![CDATA[", "<!doctype html>", "<?xml?>"),
    *("<script>", "</script", "</script>", "<style ", "</style>", "<title>", "</title>", "<head>", "</head>"),
    *("<div>", "</div>", "<p>", "<br/>", "<a href=", "<b>", "</b>", "<template/>"),
    *("&lt;", "&gt;", "&amp;", "&amp;lt;", "&#60;", "&#x3c;", "&nbsp;", "&#0;", "&#xD800;", "&#x81;", "&#x344;"),
]
_ODD = [
    *("\0", "\x07", "\x1b", "\x81", "\ud800", "\udc00", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\ufffd"),
    *("\u0301", "\u0316", "\u0338", "\u0344", "\u0f73", "\u0f81", "\u0345", "\u0301" * 31, "\u0344" * 20),
    *("\u0958", "\ufb2c", "\u0390", "\u212b", "\u1fef", "\u037e", "\U0001d160", "\u1100", "\u1161", "\u11a8"),
    *(" ", "\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2000", "\u2028", "\u3000", "a", "Z", "1", "é", "你", "😀"),
]
_pieces = st.lists(st.sampled_from(_MARKUP + _ODD), max_size=30).map("".join)
_html = st.lists(st.sampled_from(_MARKUP), max_size=20).map(lambda pieces: "<p>" + "".join(pieces) + "a")
_any = st.text(st.characters())  # surrogates too
_texts = st.one_of(_any, _pieces, _html, st.lists(st.one_of(_any, _pieces, _html), max_size=4).map("".join))


@_many
@given(_texts)
@example("\ufb2c" * 5)
@example("<p>" + "&amp;" * 5 + "lt;p>")
@example(reduce(lambda inner, _: "<p>" + escape(inner).replace("&lt;", "&lt;&#x81;"), range(8), "<p>a"))  # unfolds
def test_clean_is_idempotent_and_bounded(text: str) -> None:
    """A cleaned text is clean, at most three times as long as before, and has no controls and no double spaces."""
    for html in (False, True):
        cleaned = clean(text, html=html)
        assert cleaned == clean(cleaned, html=html)
    assert len(cleaned) <= 3 * len(text)
    assert cleaned == " ".join(cleaned.split())
    cleaned.encode()  # no surrogates
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in cleaned)


@_many
@given(_texts)
def test_clean_starts_from_what_is_seen(text: str) -> None:
    """White space and controls around a text change nothing of what it becomes."""
    assert clean(text, html=True) == clean(f" \n\0{text}\t\x07 ", html=True)


@_many
@given(st.text("ab <>&;=é", max_size=60))
def test_text_without_html_keeps_its_characters(text: str) -> None:
    """A text that is no HTML loses nothing but white space."""
    assert text.split() == clean(text).split()


@_many
@given(_pieces, st.sampled_from(["b", "i", "u", "em"]))
def test_inline_tags_leave_no_trace(text: str, name: str) -> None:
    """An empty inline element between two words of a markup-free text joins them without a gap."""
    words = " ".join(text.replace("<", "").replace(">", "").replace("&", "").split())
    assert html_to_text(f"{words}<{name}></{name}>{words}") == words + words


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "a" + "\u0301" * 60_000,
        "a" + "\u0301\u0316" * 30_000,
        "a" + "\u0344" * 30_000,
        "a" + "\u0f73" * 20_000,
        "\ud800" * 60_000,
        "\0" * 60_000,
        "\u202e" * 60_000,
        "\ufb2c" * 60_000,
        " \u3000" * 30_000,
        "<" * 60_000,
        "<p>" + "<" * 60_000,
        "</" * 30_000 + "<p>",
        "<a " * 20_000,
        "<a" + " " * 60_000,
        "<a href" * 8_000,
        "<p " * 20_000,
        "<p" + " a=<" * 15_000,
        "<script>" * 50_000,
        "<script>" * 4_000 + "</script>" * 4_000,
        "<title>" + "</b>" * 15_000,
        "<p>" + "<!--" * 100_000,
        "<p>" + "<!---->" * 8_000,
        "<p>" + "<!" * 30_000,
        "<p>" + "&" * 60_000,
        "<p>" + "&a" * 30_000,
        "<p>" + "&amp;" * 10_000,
        "<p>&" + "amp;" * 15_000 + "lt;p>",
        "<p>" + "&lt;p&gt;" * 6_000,
        "<p>&#x" + "f" * 60_000,
        "<p>&#" + "1" * 60_000 + ";",
    ],
    ids=lambda text: ascii(text[:14] + "..." + text[-4:]),
)
def test_adversarial_texts_take_linear_time(text: str) -> None:
    """A text made to cost quadratic time is cleaned like any other: a test that is stuck here has failed."""
    for html in (False, True):
        cleaned = clean(text, html=html)
        assert cleaned == clean(cleaned, html=html)
    assert len(cleaned) <= 3 * len(text)


_sizes = st.integers(1, 300).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@_many
@given(st.integers(1, 5_000), _sizes)
def test_windows_cover_all_tokens(token_count: int, size_and_overlap: tuple[int, int]) -> None:
    """Windows cover all tokens in order, none is too long, and neighbours share as much as was asked."""
    size, overlap = size_and_overlap
    spans = window_spans(token_count, size, overlap)
    assert (spans[0][0], spans[-1][1]) == (0, token_count)
    assert {end - start for start, end in spans} == {min(size, token_count)}
    for before, after in pairwise(spans):
        assert before[0] < after[0]
        assert before[1] - after[0] >= overlap


@_many
@given(st.integers(1, 5_000), _sizes)
def test_windows_are_evenly_spread_and_as_few_as_it_takes(token_count: int, size_and_overlap: tuple[int, int]) -> None:
    """Steps between windows differ by one token at most, and with one window less some tokens would be left out."""
    size, overlap = size_and_overlap
    spans = window_spans(token_count, size, overlap)
    steps = [after[0] - before[0] for before, after in pairwise(spans)]
    assert max(steps, default=0) - min(steps, default=0) <= 1
    if steps:
        assert size + (len(steps) - 1) * (size - overlap) < token_count
