"""docs/scaling.md of what `tests.bench.scale` has measured, and what is reckoned from it."""

import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

# Files of a shard by a part of their path, and what they are of; copies in 8 bits stand beside the vectors.
PARTS = {
    "vector_storage-meaning": "vectors",
    "vector_storage-metric": "two slots for a metric",
    "vector_storage-surface": "n-grams",
    "vector_index-surface": "index of n-grams",
    "vector_index": "graphs",
    "payload_storage": "texts and labels",
    "payload_index": "indexes of tenant, task and labels",
    "/wal/": "log",
}
QUANTIZED = "copies in 8 bits"
_FIXED = {"log", "other"}  # does not grow with the examples
_MIB, _GIB = 2**20, 2**30
_MS = 1000
_MILLIONS = (1, 10, 100)
_COPIES = 2
_LEAST_NODES = 3  # so that a node may fail and the others agree
_NODE_GIB = 64
_NODE_SHARE = 0.7  # of its memory; the rest is for what is being indexed, and for the kernel
_RATES = (100, 1_000, 10_000)
_SPARE = 1.5

Row = Mapping[str, Any]
Rows = Mapping[int, Row]


def document(known: Mapping[str, Row], performance: Row) -> str:
    """The page.

    Args:
        known: What was measured, by the number of examples.
        performance: What `tests.bench.performance` has measured.
    """
    rows = {int(count): known[count] for count in sorted(known, key=int)}
    sections = [
        _head(rows),
        _writing(rows),
        _searching(rows),
        _bytes(rows),
        _reckoned(rows),
        _messages(performance),
        _where_edge_ends(performance),
        _partitions(rows),
    ]
    return "\n\n".join("\n\n".join(section) for section in sections) + "\n"


def _head(rows: Rows) -> list[str]:
    text_bytes = statistics.mean(row["text_bytes"] for row in rows.values())
    ngrams = statistics.mean(row["ngrams"] for row in rows.values())
    counts = _list([f"{count:,}" for count in rows])
    larger = "" if max(rows) >= 1_000_000 else "No larger store was measured: of those, all here is reckoned."
    return [
        "# Scaling",
        _text(f"""
            `python -m tests.bench.scale` has measured stores of {counts} examples in Qdrant Edge. From them, and from
            [performance](performance.md), it reckons what is called reckoned here. Examples are made of vectors of
            real texts with noise, and of halves of 30,000 real chat messages, drawn by stated seeds: {text_bytes:.0f}
            bytes and {ngrams:.0f} n-grams a text. Longer texts take more of both, and one of several windows takes a
            vector for each. A shard of a Qdrant server has the same files; no server was measured.
        """),
        *([larger] if larger else []),
        _text("""
            Times are seconds of a core, without waiting for the disk or for a turn. The machine had other work
            meanwhile, which makes a core slower, too: compare these rows with one another. A search here is the
            engine's alone; [performance](performance.md) has searches with all that nearvote does for them.
        """),
    ]


def _writing(rows: Rows) -> list[str]:
    head = (
        "examples",
        "kept",
        "written, a second of a core",
        "indexed",
        "memory for that",
        "on disk",
        "own memory",
        "pages of files",
        "opened",
        "read for that",
        "read by searches",
    )
    lines = []
    for count, row in rows.items():
        for i, (name, one) in enumerate(row["kept"].items()):
            lines.append(
                (
                    f"{count:,}",
                    name,
                    f"{count / row['write_seconds']:,.0f}" if i == 0 else "",
                    f"{one['index_seconds']:,.0f} s",
                    f"{one['index_peak_mib']:,.0f} MiB" if i == 0 else "",
                    f"{sum(one['disk_mib'].values()):,.0f} MiB",
                    f"{one['own_mib']:,.0f} MiB",
                    f"{one['files_mib']:,.0f} MiB",
                    f"{one['load_seconds']:.2f} s",
                    f"{one['load_read_mib']:,.0f} MiB",
                    f"{one['search_read_mib']:,.0f} MiB",
                )
            )
    return [
        "## Written, indexed, opened",
        _text("""
            `kept` is what `vectors_on_disk` and `quantization` say. Own memory is the process's. Pages of files are
            those that it has read, or that were read for it when it was opened; the kernel takes them back where
            memory is short. Both stand after some hundred searches, without the encoder. It was opened as after a
            start of the machine, with nothing of its files in memory.
        """),
        _table(head, lines),
        _text("""
            The first way of each size was written and indexed from nothing; each other one is the change of a
            setting, which builds the index anew.
        """),
    ]


def _searching(rows: Rows) -> list[str]:
    head = (
        "examples",
        "kept",
        "meaning",
        "surface",
        "both",
        "both, small task",
        "recall",
        "recall, small task",
        "recall with 1 and 3 times the candidates",
    )
    lines = [
        (
            f"{count:,}",
            name,
            *(_times(one, kind) for kind in ("large meaning", "large surface", "large both", "small both")),
            f"{one['large recall']:.3f}",
            f"{one['small recall']:.3f}",
            f"{one['recall x1']:.3f}, {one['recall x3']:.3f}" if "recall x1" in one else "",
        )
        for count, row in rows.items()
        for name, one in row["kept"].items()
    ]
    return [
        "## Searched",
        _text("""
            Milliseconds of a core that a search for 20 neighbours takes, alone, median and 99th percentile: in a task
            of 99 in 100 examples, and in one of 1 in 100. Recall is the share found of the 20 that are exactly
            nearest in the meaning view; the surface view is searched exactly. With 8 bits twice as many candidates
            are compared in full; the last column has the recall with as many as asked for, and with three times as
            many.
        """),
        _table(head, lines),
        *(_text(row["remark"]) for row in rows.values() if "remark" in row),
    ]


def _times(one: Row, name: str) -> str:
    return f"{one[f'{name} p50'] * _MS:.2f}, {one[f'{name} p99'] * _MS:.2f}"


def _bytes(rows: Rows) -> list[str]:
    ways = _ways(rows)
    lines = [
        (name, *(f"{_each(rows, way, partial(_part, name)):,.0f}" for way in ways))
        for name in (*PARTS.values(), QUANTIZED)
        if name not in _FIXED
    ]
    for name, of in (("all on disk", _disk), ("own memory", _own), ("own memory and pages", _memory)):
        lines.append((f"**{name}**", *(f"**{_each(rows, way, of):,.0f}**" for way in ways)))
    small, large = min(rows), max(rows)
    fixed = sum(rows[large]["kept"][ways[0]]["disk_mib"].get(name, 0.0) for name in _FIXED)
    fewer = "".join(f"; {way}: to {most:,}" for way in ways if (most := max(_having(rows, way))) < large)
    return [
        "## What an example takes",
        (
            f"Bytes that an example adds, from {small:,} to {large:,} of them{fewer}."
            if len(rows) > 1
            else f"Bytes an example, of {large:,}; what a store takes anyway is in them, so they are too high:"
        ),
        _table(("on disk", *ways), lines),
        _text(f"""
            Beside these {fixed:.0f} MiB of log and small files. The slots take their place on the disk before a task
            is fitted, too, and are read as they are searched: no task was fitted here. A fit adds pages of one slot, 4
            bytes a dimension, where the meaning view's are read less then, and a graph as large as that view's.
        """),
    ]


def _ways(rows: Rows) -> list[str]:
    """The ways to keep vectors that were measured, first of the smallest store."""
    return [*rows[min(rows)]["kept"]]


def _having(rows: Rows, way: str) -> list[int]:
    """The sizes at which a way was measured."""
    return [count for count, row in rows.items() if way in row["kept"]]


def _each(rows: Rows, way: str, of: Callable[[Row], float]) -> float:
    """Bytes that an example adds to what is measured in MiB, by the smallest and the largest store."""
    small, large = min(_having(rows, way)), max(_having(rows, way))
    if small == large:
        return of(rows[large]["kept"][way]) * _MIB / large
    return (of(rows[large]["kept"][way]) - of(rows[small]["kept"][way])) * _MIB / (large - small)


def _part(name: str, one: Row) -> float:
    return float(one["disk_mib"].get(name, 0.0))


def _disk(one: Row) -> float:
    return float(sum(size for name, size in one["disk_mib"].items() if name not in _FIXED))


def _own(one: Row) -> float:
    return float(one["own_mib"])


def _memory(one: Row) -> float:
    return float(one["own_mib"] + one["files_mib"])


def _reckoned(rows: Rows) -> list[str]:
    lines = []
    for millions in _MILLIONS:
        for way in _ways(rows):
            memory, own, disk = (millions * 1e6 * _each(rows, way, of) / _GIB for of in (_memory, _own, _disk))
            nodes = max(_LEAST_NODES, math.ceil(_COPIES * memory / (_NODE_SHARE * _NODE_GIB)))
            lines.append(
                (
                    f"{millions} million",
                    way,
                    f"{memory:,.1f} GiB",
                    f"{own:,.1f} GiB",
                    f"{disk:,.1f} GiB",
                    str(nodes),
                    f"{2 * _COPIES * disk / nodes:,.0f} GiB",
                )
            )
    return [
        "## 1, 10 and 100 million examples, reckoned",
        _text(f"""
            From the bytes that an example adds, times the examples. Memory is what lets searches
            find their pages there, own memory and pages; with less than that, but more than own memory, they read
            from the disk. With {_COPIES} copies on nodes of {_NODE_GIB} GiB, filled to {_NODE_SHARE:.0%}, at least
            {_LEAST_NODES}:
        """),
        f"    nodes = max({_LEAST_NODES}, {_COPIES} x memory of a copy / ({_NODE_SHARE} x {_NODE_GIB} GiB))",
        f"    disk a node = 2 x {_COPIES} x disk of a copy / nodes",
        _text("""
            Disk is twice the examples, since an index, a reindex and a restore write beside what is there. Shards are
            as many as nodes: so Qdrant makes a collection that is not told otherwise, of the nodes that are there at
            that time. More nodes later take copies of these shards; for more shards make the collection anew, by
            `nearvote restore --replace` of a backup.
        """),
        _table(
            (
                "examples",
                "kept",
                "memory, one copy",
                "own memory of that",
                "disk, one copy",
                "nodes, shards",
                "disk a node",
            ),
            lines,
        ),
    ]


def _messages(performance: Row) -> list[str]:
    cores, figures = performance["cores"], performance["figures"]
    rates = {
        name: statistics.median(figures[key]) / cores
        for name, key in (
            ("the encoder alone, mixed lengths", "engine alone"),
            ("a call each, 64 at a time, mixed lengths", "unary, 64 at a time"),
            ("a stream, 64 at a time, mixed lengths", "stream, 64 at a time"),
            ("a call each, 32 at a time, chat messages", "unary, 32 at a time, chat"),
        )
    }
    chat = list(rates.values())[-1]
    needed = _list([f"{math.ceil(rate / chat * _SPARE):,} for {rate:,}" for rate in _RATES])
    return [
        "## Messages a second",
        _text(f"""
            Of a core, from [performance](performance.md): the medians there, among 10,000 examples, by its {cores}
            cores, which also made the load.
        """),
        _table(("", "a core", "a GPU"), [(name, f"{rate:.0f}", "") for name, rate in rates.items()]),
        "No GPU was at hand. This fills its column, with a JSON array of texts:",
        "    nearvote serve --device cuda --data-dir data",
        "    python -m tests.bench.load 127.0.0.1:50051 texts.json --kind stream --concurrency 512 --task intent",
        _text(f"""
            Reckoned, cores for chat messages, half as many again to spare (messages a second / {chat:.0f} x {_SPARE},
            rounded up): {needed}. These are cores of replicas, which keep nothing, before one Qdrant cluster; its
            searches come on top.
        """),
    ]


def _where_edge_ends(performance: Row) -> list[str]:
    alone = performance["cores"] / statistics.median(performance["figures"]["engine alone"])
    searched = {row["examples"]: row["search_p50"] for row in performance["growth"]}
    found = _list([f"{taken * _MS:.1f} ms among {count:,}" for count, taken in searched.items()])
    within = [count for count, taken in searched.items() if taken <= alone]
    said = f"""
        Edge searches on the one thread that also speaks to clients, and holds Python's lock meanwhile, so that no
        second core helps it. By [performance](performance.md) the encoder takes {alone * _MS:.1f} ms of a core for a
        message of mixed lengths, and a search in both views {found}. Up to {within[-1]:,} examples searching is the
        smaller part; beyond, let a server take its place. And before, wherever a restart must not be seen, since a
        folder takes one process.
    """
    return ["## When Edge should give way to a server", _text(said)]


def _text(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def _partitions(rows: Rows) -> list[str]:
    count = max(rows)
    one = next(iter(rows[count]["kept"].values()))
    parts = {view: one[f"small {view} p50"] / one[f"large {view} p50"] for view in ("meaning", "surface")}
    return [
        "## Tenants and tasks",
        _text("""
            All tenants share one collection. A tenant is a value of the payload field `tenant`, whose index has
            `is_tenant`: Qdrant lays its points next to one another, so that a search reads the pages of one tenant. A
            task is a value of `task` beside it. Every search, count and deletion names both. That is what Qdrant
            advises for many tenants; a collection for each would cost each its own files and memory.
        """),
        _text(f"""
            What that costs: among {count:,} examples, a search in a task of one in 100 takes {parts["meaning"]:.1f}
            times what it takes in the task of all others in the meaning view, and {parts["surface"]:.1f} times in the
            surface view, where lists of n-grams are of all tasks. `max_task_examples` bounds each task, `max_tasks` a
            tenant's tasks, and a client has half of the calls at most. A tenant as large as all others together wants
            a cluster of its own, since shards go by a point's id and not by its tenant.
        """),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
