"""docs/performance.md of what `tests.bench.performance` has measured, and a picture of where a call's time goes."""

import json
import platform
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import scale_report

Figures = Mapping[str, Sequence[float]]

_MS = 1000
_BULK = "stream, 64 at a time"  # the way for many texts


def _per_turn(figures: Figures, one: str, other: str) -> list[float]:
    """A ratio in each turn: what was measured within a minute is compared."""
    return [a / b for a, b in zip(figures[one], figures[other], strict=True)]


def _added(figures: Figures, quantile: str) -> list[float]:
    pairs = zip(figures[f"one at a time, {quantile}"], figures[f"engine, one text, {quantile}"], strict=True)
    return [(whole - engine) * _MS for whole, engine in pairs]


def _memory(figures: Figures) -> list[float]:
    return list(figures["resident memory"])


# What is promised: name, values, floor, aim, unit, and whether more is better.
_PROMISES: tuple[tuple[str, Callable[[Figures], list[float]], float, float, str, bool], ...] = (
    (
        "unary, 64 at a time, mixed lengths: share of the engine alone",
        lambda f: _per_turn(f, "unary, 64 at a time", "engine alone"),
        0.75,
        0.90,
        "",
        True,
    ),
    ("the same by stream", lambda f: _per_turn(f, "stream, 64 at a time", "engine alone"), 0.85, 0.95, "", True),
    ("the same in batches", lambda f: _per_turn(f, "batches of 32, 4 at a time", "engine alone"), 0.85, 0.95, "", True),
    (
        "against the plain server, chat messages, 32 at a time",
        lambda f: _per_turn(f, "unary, 32 at a time, chat", "plain server, 32 at a time, chat"),
        4,
        6,
        "x",
        True,
    ),
    (
        "in bulk through gRPC against `encode` in bulk, fp32",
        lambda f: _per_turn(f, _BULK, "encode in bulk"),
        1.2,
        1.5,
        "x",
        True,
    ),
    (
        "the same, `encode` given all of each text, too",
        lambda f: _per_turn(f, _BULK, "encode in bulk, whole texts"),
        1.2,
        1.5,
        "x",
        True,
    ),
    (
        "in bulk through gRPC against `encode` in bulk, int8",
        lambda f: _per_turn(f, f"{_BULK}, int8", "encode in bulk"),
        1.6,
        2.2,
        "x",
        True,
    ),
    (
        "the same, `encode` given all of each text, too, int8",
        lambda f: _per_turn(f, f"{_BULK}, int8", "encode in bulk, whole texts"),
        1.6,
        2.2,
        "x",
        True,
    ),
    ("one at a time: added to the engine's own time, p50", lambda f: _added(f, "p50"), 3, 1.5, " ms", False),
    ("the same, p99", lambda f: _added(f, "p99"), 8, 4, " ms", False),
    (
        "p99 of short texts while mails load the service to 70 %, against idle",
        lambda f: _per_turn(f, "short texts, mails at 70 %, p99", "short texts, idle, p99"),
        3,
        2,
        "x",
        False,
    ),
    (
        "four in five texts came before: against no cache",
        lambda f: _per_turn(f, "repeats, cache", "repeats, no cache"),
        4,
        5,
        "x",
        True,
    ),
    ("resident memory, warm, 10,000 examples", _memory, 450, 300, " MiB", False),
    (
        "import, mixed lengths, the command's own start included: share of the engine's rate",
        lambda f: _per_turn(f, "import", "engine alone, texts of the import"),
        0.85,
        0.95,
        "",
        True,
    ),
    ("ready after a warm start, 10,000 examples", lambda f: list(f["warm start"]), 3, 1.5, " s", False),
)
# Of the growing stores: number of examples, name, key, floor, aim, unit, more is better.
_SEARCHES = (
    (10_000, "nearest examples, both views, p50", "search_p50", 1, 0.6, " ms", False),
    (100_000, "nearest examples, both views, p50", "search_p50", 4, 2, " ms", False),
    (10_000, "recall of the 20 nearest", "search_recall", 0.98, 0.995, "", True),
    (100_000, "recall of the 20 nearest", "search_recall", 0.98, 0.995, "", True),
)


def write(measured: Mapping[str, Any], folder: Path) -> None:
    """Writes performance.md, performance.json and performance.png."""
    folder.mkdir(exist_ok=True)
    (folder / "performance.json").write_text(json.dumps(measured, indent=1) + "\n")
    (folder / "performance.md").write_text(document(measured), encoding="utf-8")
    draw_stages(measured["stages"], folder / "performance.png")
    scaling = json.loads((folder / "scaling.json").read_text())
    (folder / "scaling.md").write_text(scale_report.document(scaling, measured), encoding="utf-8")  # reckons with these


def _when(dates: Mapping[str, str]) -> str:
    first, last = min(dates.values()), max(dates.values())
    return f"on {first}" if first == last else f"from {first} to {last}, some parts later than others,"


def document(measured: Mapping[str, Any]) -> str:
    """The page."""
    figures = measured["figures"]
    turns = len(figures["engine alone"])
    lines = [
        "# Performance",
        "",
        (
            f"Measured {_when(measured['dates'])} by `python -m tests.bench.performance`, on "
            f"{measured['cores']} cores ({platform.machine()}), with {measured['model']}"
        ),
        "on a CPU and 10,000 examples in the embedded store, both views searched. The load generator runs on the same",
        f"cores. Each figure is the median of {turns} turns in which all that is compared was measured one after",
        "the other, with the lowest and highest beside it. Mixed lengths are 70 % chat messages, 25 % comments and 5 %",
        "mails of up to 4,000 characters, of public sets, drawn with seed 0 (`tests/bench/texts.py`).",
        "",
        *([*textwrap.wrap(measured["remark"], 120), ""] if "remark" in measured else []),
        "## Floors and aims",
        "",
        "| what | nearvote | floor | aim | |",
        "|---|---|---|---|---|",
    ]
    int8 = measured["int8"]
    verdict = "it was served" if int8["served"] else "less than 98.5 %, so that it is refused"
    for name, values_of, floor, aim, unit, more in _PROMISES:
        if "int8" in name and not int8["served"]:
            lines.append(f"| {name} | refused | {floor:g}{unit} | {aim:g}{unit} | **below the floor** |")
            continue
        try:
            values = values_of(figures)
        except KeyError:  # of a part that was left out
            lines.append(f"| {name} | not measured | {floor:g}{unit} | {aim:g}{unit} | |")
        else:
            lines.append(_promise(name, values, floor, aim, unit, more=more))
    by_count = {row["examples"]: row for row in measured["growth"]}
    for count, name, key, floor, aim, unit, more in _SEARCHES:
        if count in by_count:
            value = by_count[count][key] * (_MS if unit == " ms" else 1)
            lines.append(_promise(f"{name}, {count:,} examples", [value], floor, aim, unit, more=more))
    lines += ["", "## Texts a second, mixed lengths", "", "| | texts a second | of the engine alone |", "|---|---|---|"]
    for name in (
        "encode in bulk",
        "encode in bulk, whole texts",
        "engine alone",
        "engine alone, int8",
        "unary, 64 at a time",
        "stream, 64 at a time",
        "batches of 32, 4 at a time",
        "batches of 32, 4 at a time, int8",
        "stream, 64 at a time, int8",
        "unary, 32 at a time",
        "plain server, 32 at a time",
        "unary, 32 at a time, chat",
        "plain server, 32 at a time, chat",
    ):
        if "int8" in name and not int8["served"]:
            continue
        # Of chat messages the engine takes many more: their share of its rate of mixed lengths would say nothing.
        share = "" if name.endswith("chat") else _spread(_per_turn(figures, name, "engine alone"), 2)
        lines.append(f"| {name} | {_spread(figures[name], 0)} | {share} |")
    local = figures["plain server on local mode, 32 at a time"]
    lines.append(f"| plain server on qdrant-client's local mode, once | {local[0]:.0f} | |")
    lines += [
        "",
        *textwrap.wrap(
            "The same 1,000 texts for each, until the last is done. `encode in bulk` is sentence-transformers' own, in "
            "batches of 32. Of a text it embeds the first 256 tokens and leaves out the rest, which is most of a mail; "
            "with `whole texts` it gets all windows, as the service does. `engine alone` tokenizes, cuts, sorts and "
            "encodes, a batch a core, and nothing else: the limit. `plain server` is one `encode` (of the first 256 "
            "tokens) and one search in the same store a request, in a pool of threads behind grpc.aio "
            "(`tests/bench/plain_server.py`).",
            120,
        ),
        f"In 8 bits {int8['share']:.1%} of {int8['examples']:,} training texts of banking77 and clinc150 keep their",
        f"label, at a mean cosine of {int8['cosine']:.4f}: {verdict}.",
        "",
        *_cores(figures, measured["cores"]),
        "## With more examples",
        "",
        "Chat messages, 32 at a time; a search is that of one message in both views, alone, after some hundred others;",
        "`first` is the median of the first hundred after a start with nothing of the store in the kernel's cache.",
        "",
        (
            "| examples | texts a second | p99 | memory | search p50 | search p99 | first | recall of 20 | written in "
            "| indexed in | on disk |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['examples']:,} | {row['rate']:.0f} | {row['p99'] * _MS:.0f} ms | {row['memory_mib']:.0f} MiB "
        f"| {row['search_p50'] * _MS:.2f} ms | {row['search_p99'] * _MS:.2f} ms "
        f"| {row['search_first_p50'] * _MS:.2f} ms | {row['search_recall']:.3f} "
        f"| {row['write_seconds']:.0f} s | {_seconds(row['index_seconds'])} | {row['disk_mib']:.0f} MiB |"
        for row in measured["growth"]
    ]
    lines += _peers(measured.get("peers"))
    lines += [
        "",
        *textwrap.wrap(_give_way({row["examples"]: row["rate"] for row in measured["growth"]}), 120),
        "",
        "## Where the time of one call goes",
        "",
        "![Stages of a call](performance.png)",
        "",
        "## On a GPU",
        "",
        "Not measured: no GPU was at hand, and the bench loads the encoder on a CPU alone.",
        "",
    ]
    return "\n".join(lines)


def _cores(figures: Figures, cores: int) -> list[str]:
    """On what the cores' time goes at saturation; nothing of figures from before that was measured."""
    ways = ("unary, 64 at a time", "stream, 64 at a time", "batches of 32, 4 at a time")
    parts = ("encoder", "else", "client", "idle")
    if f"{ways[0]}: idle" not in figures:
        return []

    def medians(values: Sequence[Sequence[float]]) -> str:
        return " | ".join(f"{statistics.median(own) * _MS:.2f}" for own in values)

    alone = statistics.median(cores / rate for rate in figures["engine alone"]) * _MS
    return [
        "## Where the cores' time goes",
        "",
        "Milliseconds of a core for a text of mixed lengths, at saturation.",
        "",
        "| | encoder | event loop, and threads that clean | client | idle |",
        "|---|---|---|---|---|",
        f"| engine alone | {alone:.2f} | | | |",
        *(f"| {way} | {medians([figures[f'{way}: {part}'] for part in parts])} |" for way in ways),
        "",
        *textwrap.wrap(
            "The event loop reads and answers calls, cleans, tokenizes and counts n-grams, searches twice, and lets "
            "some forty neighbours a text vote; how its time is shared out among these is told in DECISIONS 115.",
            120,
        ),
        "",
    ]


def _give_way(rates: dict[int, float]) -> str:
    few, many, most = (rates[count] for count in (10_000, 100_000, 300_000))
    return (
        "Where Edge should give way: it searches on the one thread that also speaks to clients, and holds the "
        f"interpreter meanwhile. With 100,000 examples the service labels {many / few:.0%} as many messages as with "
        f"10,000, with 300,000, of which no index was built, {most / few:.0%}. From some 100,000 on let a Qdrant "
        "server take its place (`NEARVOTE_QDRANT_URL`)."
    )


def _peers(figures: Figures | None) -> list[str]:
    """What others reach; none when it was not measured."""
    if figures is None:
        return []
    shares = _per_turn(figures, "infinity-emb", "engine alone")
    routed, ours = figures["semantic-router, routing alone"][0], figures["nearvote, search and vote alone"][0]
    return [
        "",
        "## Beside others' parts",
        "",
        "Measured by `python -m tests.bench.peers_speed`, in turns of their own.",
        "",
        "| | texts a second | |",
        "|---|---|---|",
        f"| engine alone, mixed lengths | {_spread(figures['engine alone'], 0)} | |",
        (
            f"| infinity-emb 0.0.78, torch, the same texts | {_spread(figures['infinity-emb'], 0)} "
            f"| {_spread(shares, 2)} of the engine alone |"
        ),
        f"| semantic-router 1.1.1, routing among 10,000 utterances, vectors known | {routed:.0f} | |",
        (
            f"| nearvote, search in both views and vote among 10,000 examples, vectors known | {ours:.0f} "
            f"| {ours / routed:.1f}x |"
        ),
    ]


def _seconds(taken: float) -> str:
    return f"{taken:.0f} s" if taken >= 1 else "no index"


def _promise(name: str, values: Sequence[float], floor: float, aim: float, unit: str, *, more: bool) -> str:
    value = statistics.median(values)
    sign = 1 if more else -1
    verdict = "aim" if sign * (value - aim) >= 0 else "floor" if sign * (value - floor) >= 0 else "**below the floor**"
    digits = 3 if name.startswith("recall") else 2
    return f"| {name} | {_spread(values, digits)}{unit} | {floor:g}{unit} | {aim:g}{unit} | {verdict} |"


def _spread(values: Sequence[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def draw_stages(stages: Mapping[str, float], path: Path) -> None:
    """A bar of one call's stages, in milliseconds."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where a picture is drawn

    figure = Figure(figsize=(8, 1.9), layout="constrained")
    axes = figure.subplots()
    left = 0.0
    for name, seconds in stages.items():
        axes.barh(0, seconds * _MS, left=left, label=f"{name}, {seconds * _MS:.2f} ms")
        left += seconds * _MS
    axes.set_yticks([])
    axes.set_xlabel("milliseconds of one chat message, alone, medians")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.6), frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
