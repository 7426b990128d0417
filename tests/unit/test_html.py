import pytest

from nearvote.text.html import html_to_text, looks_like_html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<!DOCTYPE html>", True),
        ("see <a href='http://x'>here", True),
        ("one<br/>two", True),
        ("<P ALIGN=left>", True),
        ("<p", False),
        ("a < b and c > d", False),
        ("<3", False),
        ("<john@example.com>", False),
        ("<pin>", False),
        ("<a>", False),
        ("List<String> x = f<T>()", False),
        ("", False),
    ],
)
def test_tell(text: str, *, expected: bool) -> None:
    """Only a tag that nothing but HTML has makes a text HTML."""
    assert expected == looks_like_html(text)


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<p>Dear <b>cust</b>omer</p>", "Dear customer"),
        ("fr<span></span>ee", "free"),
        ("<td>one</td><td>two</td>", "one two"),
        ("one<br>two", "one two"),
        ("&#0000000097;&#X000000062;&#x1F600;", "ab\N{GRINNING FACE}"),  # leading zeros do not count
        ("&lt;b&gt; &amp; &eacute; &#33; &#x21;", "<b> & é ! !"),
        ("a<script>var x = '<b>';</script>b", "a b"),
        ("a<STYLE type=x>p { }</style >b", "a b"),
        ("<head><title>t</title></head>body", "body"),
        ("a<!-- <p>hidden</p> > -->b", "a b"),
        ("a<!-- <script> -->b", "a b"),
        ("a<script/>b", "a b"),
        ("a<?xml version=1?>b", "a b"),
        ("a < b", "a < b"),
        ("a<p class='x", "a<p class='x"),
        ("", ""),
    ],
)
def test_what_a_reader_sees(markup: str, expected: str) -> None:
    """Tags, comments, scripts and styles go; blocks are set apart, inline elements are not."""
    assert expected == " ".join(html_to_text(markup).split())


@pytest.mark.parametrize("opening", ["<script>", "<style>", "<title>", "<head>", "<!--"])
def test_what_is_never_closed_hides_nothing(opening: str) -> None:
    """Text behind an element or comment that is never closed can still be read."""
    assert "read me" in html_to_text(f"<p>a{opening} read <b>me</b>")


def test_only_its_own_end_closes() -> None:
    """A hidden element is closed by its own closing tag alone."""
    assert html_to_text("<script>a</style>b</p>--></script>c").strip() == "c"


@pytest.mark.parametrize(
    "markup",
    [
        "<p>a</p><!-->seen<!-- b -->",
        "<p>a</p><!--->seen<!-- b -->",
        "<p>a</p><!--[if !mso]><!-->seen<!--<![endif]-->",
        "<p>a</p><!--[if mso]><table><![endif]-->seen<!-- b -->",
        "<p>a</p><!-- <b -->seen<!-- b -->",
        "<p>a</p><!-- b --!>seen<!-- b -->",
    ],
)
def test_comments_end_where_they_do_for_a_reader(markup: str) -> None:
    """Comments end at once when they are empty, and inside what looks like a tag, as in mail for Outlook."""
    assert html_to_text(markup).split() == ["a", "seen"]
