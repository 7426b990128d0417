"""Files of examples drawn at random, right and wrong lines mixed; and what becomes of each line of one."""

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from nearvote import Client
from nearvote.client import ServiceError
from nearvote.errors import NearvoteError
from nearvote.examples.example import Draft
from nearvote.examples.files import ExampleFile
from nearvote.tasks.task import Label, Task

TASK = "files"
LABELS = ("spam", "ham")

_TEXTS = st.sampled_from(["win a prize", "win a prize ", "", " ", "\x00", "\ud83d", "x" * 70_000]) | st.text(
    max_size=30
)
_LABELS_GIVEN = st.lists(st.sampled_from([*LABELS, "", "unknown", "x" * 300]), max_size=3)
_ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.lists(st.integers())
_RIGHT = st.fixed_dictionaries({"text": st.text(min_size=1, max_size=30), "label": st.sampled_from(LABELS)})
_RECORDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "text": _TEXTS | _ANYTHING,
        "label": st.sampled_from([*LABELS, "unknown"]) | _ANYTHING,
        "labels": _LABELS_GIVEN | _ANYTHING,
        "task": st.sampled_from([TASK, "", "no-such-task", "Ü!"]) | _ANYTHING,
        "weight": st.sampled_from([1, 0.5, 0, -1, 1e300, 10**400]) | _ANYTHING,
        "source": st.text(max_size=300) | _ANYTHING,
        "subject": st.text(max_size=300) | _ANYTHING,
        "expires": st.sampled_from(["2999-01-01", "1999-01-01", "9999-12-31T23:59:59-14:00", "soon"]) | _ANYTHING,
        "more": _ANYTHING,
    },
)
_JSON_LINES = (
    (_RIGHT | _RECORDS).map(lambda record: json.dumps(record).encode())
    | st.binary(max_size=40)
    | st.sampled_from([b"", b"{", b"[" * 5_000, b'{"text": "a", "label": "spam"}\r', b"\xef\xbb\xbf{}", b"null"])
)
_CELLS = st.sampled_from(["spam", "ham", "spam|ham", "1", "nan", "2999-01-01", '"', "", "a,b", "\x00"]) | st.text(
    max_size=9
)
_HEADERS = st.sampled_from(
    ["text,label", "text,labels,weight", "label,text,expires,more", "text", "", '"text,label', ","]
)


@st.composite
def import_files(draw: st.DrawFn) -> tuple[bytes, bool]:
    """The bytes of a file, and whether it is CSV."""
    if not draw(st.booleans()):
        return b"\n".join(draw(st.lists(_JSON_LINES, max_size=12))), False
    rows = draw(st.lists(st.lists(_CELLS, max_size=4).map(",".join), max_size=8))
    text = "\n".join([draw(_HEADERS), *rows])
    return text.encode(errors="replace") + draw(st.binary(max_size=8)), True


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a file.

    Attributes:
        accepted: The lines that were stored.
        refused_by_reader: Lines that the reader named.
        refused_by_service: Lines that the service named, each with its code.
        lost: Examples that were accepted and are not there as they were sent.
    """

    accepted: list[int]
    refused_by_reader: list[int]
    refused_by_service: dict[int, str]
    lost: list[str]


def imported(client: Client, file: bytes, *, is_csv: bool) -> Fate:
    """Imports a file into an empty task, as the command line does, and looks for what was accepted."""
    with contextlib.suppress(ServiceError):
        client.delete_task(TASK, force=True)
    client.create_task(Task(TASK, tuple(map(Label, LABELS))))
    read = list(ExampleFile(io.BytesIO(file), TASK, is_csv=is_csv))
    drafts = [(line, draft) for line, draft in read if isinstance(draft, Draft)]
    refused = {
        line: error.code
        for progress in (client.import_examples([drafts]) if drafts else ())
        for line, error in progress.rejections.items()
    }
    accepted = {line: draft for line, draft in drafts if line not in refused}
    # Of lines with one text the last one counts.
    expected = {(one := draft.stored_for("default")).text: one.labels for draft in accepted.values()}
    there = {example.text: example.labels for example in client.export_examples(TASK)}
    lost = [text for text in expected.keys() | there.keys() if expected.get(text) != there.get(text)]
    return Fate(sorted(accepted), [line for line, one in read if isinstance(one, NearvoteError)], refused, lost)
