"""Files of examples: JSON Lines, or CSV with a header.

A JSON line is an object with `text` and `labels` (a list) or `label` (a string), and optionally `task`, `weight`,
`source`, `subject` (who the text is about) and `expires` (when it ends: a time as in ISO 8601, UTC where it names no
other zone). A CSV file has columns of the same names; several labels in one cell are separated by `|`.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from nearvote.errors import InvalidExample, NearvoteError
from nearvote.examples.example import Draft, Example

_FIELDS = frozenset({"text", "label", "labels", "task", "weight", "source", "subject", "expires"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What an export has and an import does not need.
_EXPORTED = frozenset({"id", "created_us", "updated_us"})


def looks_like_csv(first_line: bytes) -> bool:
    """Whether a file begins with a header of CSV that has a column of texts; a line of JSON is no such header."""
    header = first_line.decode("utf-8-sig", errors="replace").strip()
    try:
        return not header.startswith("{") and "text" in next(csv.reader([header]), [])
    except csv.Error:  # such as a return within the line
        return False


class ExampleFile:
    """Reads examples, line by line, keeping none.

    Args:
        lines: The file's lines, as bytes.
        task: The task of examples that name none.
        is_csv: The file is CSV, not JSON Lines.
        source_field: The field that says where a text comes from, or which texts it is counted with.
    """

    def __init__(
        self, lines: Iterable[bytes], task: str = "", *, is_csv: bool = False, source_field: str = "source"
    ) -> None:
        self._lines = lines
        self._task = task
        self._is_csv = is_csv
        self._source_field = source_field
        self.ignored_fields: set[str] = set()
        """Names of fields that were met and mean nothing here."""

    def __iter__(self) -> Iterator[tuple[int, Draft | NearvoteError]]:
        """Line number, from 1, with the example that stands there or what is wrong with it; blank lines are skipped."""
        for number, record in self._csv_records() if self._is_csv else self._json_records():
            if isinstance(record, NearvoteError):
                yield number, record
                continue
            try:
                yield number, self._draft(record)
            except NearvoteError as error:
                yield number, error

    def _json_records(self) -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(self._lines, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if text:
                    yield number, json.loads(text)
            except UnicodeDecodeError as error:
                yield number, InvalidExample(f"byte {error.start + 1} is not UTF-8: save the file as UTF-8")
            except (ValueError, RecursionError) as error:
                where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                yield number, InvalidExample(f"this is not a JSON object{where}")

    def _csv_records(self) -> Iterator[tuple[int, Any]]:
        lines = _CountedLines(self._lines)
        reader = csv.DictReader(lines, strict=True)
        while True:
            before = lines.number
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if lines.ended:  # else all that follows would be taken for one text
                    yield before + 1, InvalidExample("a quotation mark that opens here is never closed")
                    return
                yield lines.number, InvalidExample(f"this is not a line of CSV: {error}")
                continue
            if any(_is_broken(name) for name in reader.fieldnames or ()):
                yield 1, InvalidExample("the header is not UTF-8: save the file as UTF-8")
                return
            yield lines.number, _record_of(record)

    def _draft(self, record: Any) -> Draft:
        if not isinstance(record, dict):
            raise InvalidExample("this is not a JSON object")
        self.ignored_fields |= record.keys() - _FIELDS - _EXPORTED - {self._source_field}
        labels = _labels_of(record)
        text, task = record.get("text"), record.get("task", self._task)
        weight, source = record.get("weight", 1.0), record.get(self._source_field, "")
        if not isinstance(text, str):
            raise InvalidExample("text is missing, or not a string", field="text")
        if not isinstance(task, str) or not task:
            raise InvalidExample("task is missing: name it in the file, or with --task", field="task")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InvalidExample("weight is not a number", field="weight")
        if self._source_field != "source" and isinstance(source, int | float):  # a year, say, or yes and no
            source = json.dumps(source)
        if not isinstance(source, str):
            raise InvalidExample(f"{self._source_field} is not a string", field=self._source_field)
        # JSON can spell half of a surrogate pair, which UTF-8 can't.
        try:
            number = float(weight)
        except OverflowError:
            raise InvalidExample("weight is out of all bounds", field="weight") from None
        subject, expires = record.get("subject", ""), record.get("expires")
        if not isinstance(subject, str):
            raise InvalidExample("subject is not a string", field="subject")
        return Draft(
            task,
            _encodable(text),
            tuple(map(_encodable, labels)),
            number,
            _encodable(source),
            _encodable(subject),
            None if expires is None else time_of_text(expires),
        )


def example_to_line(example: Example) -> str:
    """An example as a JSON line, as `ExampleFile` reads it."""
    return json.dumps(
        {
            "text": example.text,
            "labels": list(example.labels),
            "task": example.task,
            "weight": example.weight,
            "source": example.source,
            **({"subject": example.subject} if example.subject else {}),
            **({"expires": text_of_time(example.expires_us)} if example.expires_us is not None else {}),
            "id": example.id,
            "created_us": example.created_us,
            "updated_us": example.updated_us,
        },
        ensure_ascii=False,
    )


def time_of_text(text: Any) -> int:
    """A time as in ISO 8601, UTC where it names no zone, in microseconds since 1970-01-01 UTC.

    Raises:
        InvalidExample: It is no such time.
    """
    try:
        time = datetime.fromisoformat(text)
        return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
    except (TypeError, ValueError, OverflowError):
        raise InvalidExample("expires is not a time such as 2030-01-31T12:00:00Z", field="expires") from None


def text_of_time(micros: int) -> str:
    """A time in microseconds since 1970-01-01 UTC as in ISO 8601."""
    return (_EPOCH + micros * _MICROSECOND).isoformat()


def _labels_of(record: dict[str, Any]) -> list[str]:
    labels = record.get("labels", [record["label"]] if "label" in record else [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InvalidExample("labels is not a list of strings", field="labels")
    return labels


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


class _CountedLines:
    """Lines as text; bytes that are not UTF-8 become lone surrogates, so that the lines after them can be read."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.number = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.number += 1
        return line.decode("utf-8-sig" if self.number == 1 else "utf-8", errors="surrogateescape")


def _is_broken(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _record_of(cells: dict[str, Any]) -> Any:
    """A line of CSV as its JSON would be, or what is wrong with it."""
    if any(cell.strip() for cell in cells.get(None) or ()):  # type: ignore[call-overload]  # the reader's own key
        return InvalidExample("it has more cells than the header: a text with commas stands in quotation marks")
    record: dict[str, Any] = {name: cell for name, cell in cells.items() if name is not None and cell}
    if any(_is_broken(cell) for cell in record.values()):
        return InvalidExample("this line is not UTF-8: save the file as UTF-8")
    labels = record.pop("label", None) or record.get("labels")
    if labels is not None:
        record["labels"] = labels.split("|")
    if "weight" in record:
        try:
            record["weight"] = float(record["weight"])
        except ValueError:
            return InvalidExample("weight is not a number", field="weight")
    return record
