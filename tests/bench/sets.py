"""The public sets and their protocols: which texts are examples, and which are to be labelled.

Sets are found by NEARVOTE_EVAL_DATA (default ../shared/data); its README has their sources and licences.
"""

import asyncio
import gzip
import json
import os
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("NEARVOTE_EVAL_DATA", "../shared/data"))
DRAWS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled text of a public set."""

    text: str
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """What is learned from, and what is judged.

    Attributes:
        name: Of the protocol.
        draw: Which of its draws, from 0.
        examples: What is learned from.
        messages: What is judged.
        validation: What floors are set on; empty where the protocol has none.
        benign: The benign label; empty for none.
        out_of_scope: Label of messages that are out of scope; empty for none.
        html: Whether texts are shown by a mail program.
    """

    name: str
    draw: int
    examples: Sequence[Row]
    messages: Sequence[Row]
    validation: Sequence[Row] = field(default_factory=tuple)
    benign: str = ""
    out_of_scope: str = ""
    html: bool = False


def rows_of(name: str, file: str = "data.jsonl") -> list[Row]:
    """A set's rows."""
    path = DATA / name / file
    if not path.exists():
        path = path.with_name(f"{file}.gz")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return [
        # A few labels have characters that a label's name may not have.
        Row(one["text"], re.sub(r"[^A-Za-z0-9_.-]", "_", one["label"]), one.get("split", ""), one.get("group", ""))
        for one in records
    ]


def same(text: str) -> str:
    """What duplicates have in common."""
    return " ".join(text.lower().split())


def without_duplicates(rows: Sequence[Row]) -> list[Row]:
    """The first of each text."""
    return list({same(row.text): row for row in reversed(rows)}.values())[::-1]


def _of(rows: Sequence[Row], *splits: str) -> list[Row]:
    return [row for row in rows if row.split in splits]


def _draw(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    return [
        by_label[label][i] for label in sorted(by_label) for i in rng.choice(len(by_label[label]), count, replace=False)
    ]


def banking77_full() -> Iterator[Split]:
    """All training texts."""
    rows = rows_of("banking77")
    yield Split("banking77-full", 0, _of(rows, "train"), _of(rows, "test"))


def few(name: str, count: int) -> Iterator[Split]:
    """So many training texts a label."""
    rows = rows_of(name)
    for seed in range(DRAWS):
        yield Split(f"{name}-{count}", seed, _draw(_of(rows, "train"), count, seed), _of(rows, "test"))


def clinc150(*, validated: bool) -> Iterator[Split]:
    """Out of scope as well; floors set on the validation texts, or on the examples alone."""
    rows = rows_of("clinc150")
    name = "clinc150, floor set on validation" if validated else "clinc150"
    validation = _of(rows, "val", "oos_val") if validated else ()
    yield Split(name, 0, _of(rows, "train"), _of(rows, "test", "oos_test"), validation, out_of_scope="oos")


def sms() -> Iterator[Split]:
    """Seven tenths against three, five times."""
    rows = without_duplicates(rows_of("sms_spam_collection"))
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(rows))
        count = int(0.3 * len(rows))
        test, train = order[:count], order[count:]
        yield Split("sms", seed, [rows[i] for i in train], [rows[i] for i in test], benign="ham")


def hatexplain() -> Iterator[Split]:
    """Training texts against test texts."""
    rows = rows_of("hatexplain")
    yield Split("hatexplain", 0, _of(rows, "train"), _of(rows, "test"), benign="normal")


def spamassassin_time() -> Iterator[Split]:
    """Earlier mail against later mail, what was seen earlier left out."""
    rows = without_duplicates(rows_of("spamassassin"))
    early = [row for row in rows if row.group in {"easy-ham-1", "spam-1"}]
    late = [row for row in rows if row.group in {"easy-ham-2", "hard-ham-1", "spam-2"}]
    yield Split("spamassassin-time", 0, early, late, benign="ham", html=True)


def measure_with(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Runs a script that needs the sets, without asking a model hub for anything; says so where there are none."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if DATA.is_dir():
        asyncio.run(main())
    else:
        print(f"no public sets at {DATA}: name their folder in NEARVOTE_EVAL_DATA")
