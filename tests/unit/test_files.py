"""Files of examples: JSON Lines and CSV."""

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearvote.errors import InvalidExample, NearvoteError
from nearvote.examples.example import MAX_TIME_US, Draft, Example
from nearvote.examples.files import ExampleFile, example_to_line, looks_like_csv

# What UTF-8 can say, and so what a store can hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def read(file: bytes, task: str = "spam", *, is_csv: bool = False) -> dict[int, Draft | NearvoteError]:
    """What stands on each line."""
    return dict(ExampleFile(io.BytesIO(file), task, is_csv=is_csv))


def drafts(file: bytes, task: str = "spam", *, is_csv: bool = False) -> dict[int, Draft]:
    """What stands on each line, all of it right."""
    lines = read(file, task, is_csv=is_csv)
    assert not [line for line in lines.values() if isinstance(line, NearvoteError)]
    return {number: line for number, line in lines.items() if isinstance(line, Draft)}


def problem(line: bytes, *, is_csv: bool = False) -> InvalidExample:
    """What is wrong with the second line of a file whose third is right; the third is read all the same."""
    head, last = (b"text,label,weight\n", b"x,ham,1\n") if is_csv else (b"\n", b'{"text": "x", "label": "ham"}\n')
    lines = read(head + line + b"\n" + last, is_csv=is_csv)
    assert lines.pop(3) == Draft("spam", "x", ("ham",))
    ((number, error),) = lines.items()
    assert number == 2
    assert isinstance(error, InvalidExample)
    return error


def test_json_line() -> None:
    """A JSON line gives text, labels, task, weight and source; the last three have defaults."""
    full = b'{"text": "a", "labels": ["x", "y"], "task": "abuse", "weight": 2, "source": "mail"}'
    short = '{"label": "ß", "text": "été"}'.encode()
    assert drafts(full + b"\n" + short) == {
        1: Draft("abuse", "a", ("x", "y"), 2.0, "mail"),
        2: Draft("spam", "été", ("ß",), 1.0, ""),
    }


def test_csv_line() -> None:
    """A CSV line gives the same by the header's names; an empty cell is as if it were not there."""
    file = b"weight,source,text,task,labels\r\n2,mail,a,abuse,x|y\r\n,,b,,ham\r\n"
    assert drafts(file, is_csv=True) == {
        2: Draft("abuse", "a", ("x", "y"), 2.0, "mail"),
        3: Draft("spam", "b", ("ham",), 1.0, ""),
    }


@pytest.mark.parametrize("column", ["label", "labels"])
def test_several_labels_in_a_cell(column: str) -> None:
    """A bar separates labels in a CSV cell, and is a plain character in a text and in JSON."""
    file = f"text,{column}\na|b,x|y\n".encode()
    assert drafts(file, is_csv=True) == {2: Draft("spam", "a|b", ("x", "y"))}
    assert drafts(b'{"text": "a|b", "label": "x|y"}') == {1: Draft("spam", "a|b", ("x|y",))}


def test_labels_before_label() -> None:
    """Where JSON gives both, the list counts."""
    assert drafts(b'{"text": "a", "label": "x", "labels": ["y", "z"]}')[1].labels == ("y", "z")


def test_no_labels() -> None:
    """An example without labels is read as one, for the task to refuse."""
    assert drafts(b'{"text": "a"}')[1].labels == ()
    assert drafts(b"text,label\na,\n", is_csv=True)[2].labels == ()


def test_line_numbers() -> None:
    """Line numbers count from 1 and count blank lines, which are skipped."""
    line = b'{"text": "a", "label": "x"}\n'
    assert list(read(b"\n" + line + b" \t\r\n\n" + line)) == [2, 5]
    assert list(read(b"text,label\n\na,x\n\n\nb,x\n", is_csv=True)) == [3, 6]
    assert read(b"") == read(b"", is_csv=True) == read(b"\n\n") == read(b"text,label\n", is_csv=True) == {}


def test_byte_order_mark() -> None:
    """A byte order mark at the beginning of a file is no part of its first field."""
    assert drafts(b'\xef\xbb\xbf{"text": "a", "label": "x"}') == {1: Draft("spam", "a", ("x",))}
    assert drafts(b"\xef\xbb\xbftext,label\na,x\n", is_csv=True) == {2: Draft("spam", "a", ("x",))}


def test_csv_quoting() -> None:
    """A quoted CSV cell holds commas, quotes and line ends; later line numbers count its lines."""
    file = b'text,label\n"a, ""b""\nc",x\nd,y\n'
    lines = drafts(file, is_csv=True)
    assert list(lines.values()) == [Draft("spam", 'a, "b"\nc', ("x",)), Draft("spam", "d", ("y",))]
    assert list(lines)[1] == 4


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b'{"label": "x"}', "text"),
        (b'{"text": 1, "label": "x"}', "text"),
        (b'{"text": null, "label": "x"}', "text"),
        (b'{"text": "a", "labels": "x"}', "labels"),
        (b'{"text": "a", "label": 1}', "labels"),
        (b'{"text": "a", "labels": ["x", null]}', "labels"),
        (b'{"text": "a", "label": "x", "task": 1}', "task"),
        (b'{"text": "a", "label": "x", "task": ""}', "task"),
        (b'{"text": "a", "label": "x", "weight": "2"}', "weight"),
        (b'{"text": "a", "label": "x", "weight": true}', "weight"),
        (b'{"text": "a", "label": "x", "weight": null}', "weight"),
        (b'{"text": "a", "label": "x", "source": ["mail"]}', "source"),
    ],
)
def test_wrong_types(line: bytes, field: str) -> None:
    """A value of the wrong type is refused by its field's name, and the next line is read."""
    assert problem(line).field == field


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b'"text"',
        b"1",
        b"null",
        b"{",
        b'{"text": "a"} {}',
        b"hello",
        b'{"text": "tab\there"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda line: line[:16].decode(errors="replace"),
)
def test_not_an_object(line: bytes) -> None:
    """What is no JSON object, however deep, is refused as such, and the next line is read."""
    assert "not a JSON object" in problem(line).message


def test_place_in_a_line() -> None:
    """Where JSON breaks off is told by its column, never by the text itself."""
    error = problem(b'{"text": "secret words", oops}')
    assert "column 26" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize("digits", [400, 5_000])
def test_enormous_weight(digits: int) -> None:
    """A weight of more digits than a number can have is refused, and the next line is read."""
    assert problem(b'{"text": "a", "label": "x", "weight": 1' + b"0" * digits + b"}")


def test_bad_utf8_in_json() -> None:
    """A line that is not UTF-8 is refused with the byte at fault, and the next line is read."""
    assert "byte 11 is not UTF-8" in problem(b'{"text": "\xff", "label": "x"}').message


def test_bad_utf8_in_csv() -> None:
    """A line of CSV that is not UTF-8 is refused by its own number."""
    lines = read(b"text,label\na,x\n\xff,x\n", is_csv=True)
    assert lines.pop(2) == Draft("spam", "a", ("x",))
    assert list(lines) == [3]
    assert isinstance(lines[3], InvalidExample)


def test_rest_after_bad_utf8_in_csv() -> None:
    """After a line of CSV that is not UTF-8 the next line is read."""
    lines = read(b"text,label\n\xff,x\nb,x\n", is_csv=True)
    assert Draft("spam", "b", ("x",)) in lines.values()


def test_bad_header_in_csv() -> None:
    """A CSV header that is not UTF-8 is refused as line 1."""
    lines = read(b"text,\xff\na,x\n", is_csv=True)
    assert list(lines) == [1]


@pytest.mark.parametrize(
    ("line", "field"),
    [(b"a,x,heavy", "weight"), (b",x,1", "text"), (b"a" * 200_000 + b",x,1", "")],
    ids=["weight", "text", "overlong"],
)
def test_wrong_cells(line: bytes, field: str) -> None:
    """A CSV line that can't be right is refused, and the next line is read."""
    assert problem(line, is_csv=True).field == field


def test_more_or_fewer_cells_than_the_header() -> None:
    """Cells that are missing, or too many and empty, are passed over; others would be the rest of a text."""
    assert drafts(b"text,label,source\na,x,mail,, \nb,x\n", is_csv=True) == {
        2: Draft("spam", "a", ("x",), 1.0, "mail"),
        3: Draft("spam", "b", ("x",)),
    }
    assert "more cells" in problem(b"hello,x,1,and so on", is_csv=True).message


def test_a_quote_that_is_never_closed() -> None:
    """It is refused where it opens, and what follows is not taken for its text."""
    lines = read(b'label,text\ncalm,hi\ncalm,"so he said\ncalm,see you\nurgent,fire\n', is_csv=True)
    assert list(lines) == [2, 3]
    refused = lines[3]
    assert isinstance(refused, InvalidExample)
    assert "never closed" in refused.message


@pytest.mark.parametrize(
    ("first_line", "is_csv"),
    [
        (b"label,text\n", True),
        (b"\xef\xbb\xbftext\r\n", True),
        (b'"text","label"\n', True),
        (b'{"text": "a", "label": "b"}\n', False),
        (b'{"label": "x,text"}\n', False),
        (b"so he said, a text\n", False),
        (b"", False),
        (b"\xff\xfe\x00text", False),
        (b"label,text\rspam,win\r", False),
    ],
)
def test_csv_is_known_by_its_header(first_line: bytes, is_csv: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A header with a column of texts tells CSV from JSON Lines, whatever the file's name."""
    assert looks_like_csv(first_line) == is_csv


def test_no_task() -> None:
    """An example that names no task, in a file without one, is refused with what to do."""
    error = read(b'{"text": "a", "label": "x"}', task="")[1]
    assert isinstance(error, InvalidExample)
    assert (error.field, "--task" in error.message) == ("task", True)


def test_half_of_a_surrogate_pair() -> None:
    """Half a surrogate pair, which JSON can spell and UTF-8 can't, becomes a question mark; a whole one is kept."""
    line = rb'{"text": "a\ud83d b\ud83d\ude00", "label": "\udc00", "source": "\udfff"}'
    assert drafts(line) == {1: Draft("spam", "a? b😀", ("?",), 1.0, "?")}


def test_ignored_fields() -> None:
    """Fields that mean nothing here are passed over and told of; those of an export are not worth telling."""
    file = ExampleFile([b'{"text": "a", "label": "x", "lang": "en", "id": "1", "created_us": 1}', b'{"lnag": 1}'])
    assert file.ignored_fields == set()
    assert len(list(file)) == 2
    assert file.ignored_fields == {"lang", "lnag"}
    as_csv = ExampleFile([b"text,label,lang,updated_us\n", b"a,x,en,5\n"], "spam", is_csv=True)
    assert len(list(as_csv)) == 1
    assert as_csv.ignored_fields == {"lang"}


def test_export_has_everything() -> None:
    """An exported line is readable JSON with all that is stored but the tenant."""
    example = Example("an-id", "acme", "spam", "été", ("x", "y"), 0.5, "mail", 1, 2)
    line = example_to_line(example)
    assert "été" in line
    assert json.loads(line) == {
        "text": "été",
        "labels": ["x", "y"],
        "task": "spam",
        "weight": 0.5,
        "source": "mail",
        "id": "an-id",
        "created_us": 1,
        "updated_us": 2,
    }


ENDS = st.none() | st.integers(0, MAX_TIME_US)


@given(
    st.lists(st.builds(Draft, TEXTS.filter(bool), TEXTS, st.tuples(TEXTS), st.floats(1e-9, 100), TEXTS, TEXTS, ENDS))
)
def test_round_trip(written: list[Draft]) -> None:
    """What is exported is read back as it was, one line for each example."""
    lines = [example_to_line(replace(d.stored_for("acme"), labels=d.labels)) for d in written]
    file = ExampleFile(io.BytesIO("".join(line + "\n" for line in lines).encode()))
    assert list(file) == list(enumerate(written, 1))
    assert file.ignored_fields == set()


@pytest.mark.parametrize(
    ("written", "expires_us"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01 00:00:00.000001", 1),
    ],
)
def test_ends(written: str, expires_us: int) -> None:
    """An end is a time as in ISO 8601, of UTC where it names no zone, in JSON as in CSV."""
    line = json.dumps({"text": "a", "label": "x", "expires": written, "subject": "p"}).encode()
    expected = Draft("spam", "a", ("x",), subject="p", expires_us=expires_us)
    assert list(ExampleFile([line], "spam")) == [(1, expected)]
    as_csv = [b"text,label,expires,subject\n", f"a,x,{written},p\n".encode(), b"b,x,,\n"]
    assert [draft for _, draft in ExampleFile(as_csv, "spam", is_csv=True)] == [expected, Draft("spam", "b", ("x",))]


@pytest.mark.parametrize(
    ("field", "value"), [("expires", "soon"), ("expires", 5), ("expires", []), ("expires", ""), ("subject", 5)]
)
def test_wrong_ends_and_subjects(field: str, value: object) -> None:
    """An end that is no time, or a subject that is no text, is an invalid line."""
    ((_, problem),) = ExampleFile([json.dumps({"text": "a", "label": "x", field: value}).encode()], "spam")
    assert isinstance(problem, InvalidExample)
    assert problem.field == field


@given(st.lists(st.tuples(TEXTS.filter(str.strip), TEXTS.filter(bool)), min_size=1))
def test_csv_round_trip(written: list[tuple[str, str]]) -> None:
    """Any text and source that is written as CSV is read back as it was."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "source", "label"), *((text, source, "x") for text, source in written)])
    # In lines, as a file gives them.
    lines = io.BytesIO(file.getvalue().encode())
    read_back = [draft for _, draft in ExampleFile(lines, "spam", is_csv=True)]
    assert read_back == [Draft("spam", text, ("x",), 1.0, source) for text, source in written]


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes(file: bytes, is_csv: bool) -> None:  # noqa: FBT001 - drawn
    """No bytes at all make reading fail: every line is an example, a problem, or blank."""
    for number, line in ExampleFile(io.BytesIO(file), "spam", is_csv=is_csv):
        assert 0 < number <= file.count(b"\n") + 1
        assert isinstance(line, Draft | NearvoteError)
