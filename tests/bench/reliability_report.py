"""The page of reliability, docs/reliability.md, of what `tests.bench.reliability` has measured."""

import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.bench.soak import is_flat

DISKS = "tests/integration/test_disk.py"
LAWS = ("tests/property", "tests/unit/test_files.py", "tests/contract/test_store_model.py")

Part = dict[str, Any]

_FINE = ("right", "UNAVAILABLE")


def _sentence(name: str) -> str:
    plain, _, case = name.removeprefix("test_").partition("[")
    return plain.replace("_", " ") + (f" ({case.rstrip(']')})" if case else "")


def page(measured: dict[str, Part]) -> str:
    """The page, of what was measured."""
    lines = [
        "# Reliability",
        "",
        "Figures by `python -m tests.bench.reliability`, or by the command that stands with each, on two cores. What",
        "survives what, and how a backup is made: [durability.md](durability.md).",
    ]
    for name, write in _SECTIONS.items():
        if name in measured:
            lines += ["", *write(measured[name]), "", f"Measured on {measured[name]['date']}."]
    return "\n".join(lines) + "\n"


def _overload(part: Part) -> list[str]:
    best, *rows = part["offered"]
    restarts = part["restarts"]
    names = ["offered", "answered, of the best", "refused", "p50 of an answer", "p99 of a refusal", "errors", "memory"]
    names += ["cores: client, service"]
    table = [
        f"| {row['times']}x | {row['share']:.0%} ({row['shares'][0]:.0%} to {row['shares'][-1]:.0%}) | "
        f"{row['refused']:.0f} | {row['p50']:.2f} s | {row['refused_p99'] * 1000:.0f} ms | {row['errors']:.0f} | "
        f"{row['memory_mib']:.0f} MiB | {row['cores']:.2f}, {row['own_cores']:.2f} |"
        for row in rows
    ]
    return [
        "## More than it can do",
        "",
        *_paragraph(
            "`python -m tests.bench.overload`: comments of some length come at random times, so many times as often as "
            f"the service can answer them ({best['rate']:.0f} a second, 64 at a time), for eight seconds. The best is "
            f"measured before and after each. The service has {part['cores']} of the cores, the client one to itself. "
            f"Medians of {len(rows[0]['shares'])} turns, and ranges. At 1x the "
            "service is idle whenever chance brings less."
        ),
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        *table,
        "",
        "## Restarted in turn",
        "",
        *_paragraph(
            f"The same command: two replicas, each restarted {restarts['restarts'] // 2} times in turn while 16 "
            "callers that heed the health protocol call without trying again: "
            f"{restarts['answered']:,} calls answered, {sum(restarts['failed'].values())} lost."
        ),
    ]


def _kills(part: Part) -> list[str]:
    names = ("killed during", "kills", "acknowledged writes", "with anything lost, torn or doubled", "longest restart")
    return [
        "## Killed",
        "",
        *_paragraph(
            f"`python -m tests.bench.kills --kills {part['kills']}`: SIGKILL at moments drawn by chance, then every "
            "acknowledged write is looked for (durability.md has how)."
        ),
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        *(
            f"| {row['kind']} | {row['kills']} | {row['acknowledged'] or '-'} | {row['wrong']} | "
            f"{row['longest_restart_seconds']} s |"
            for row in part["kinds"]
        ),
    ]


def _failures(part: Part) -> list[str]:
    names = [
        *("what fails", "messages labelled", "refused", "added", "refused", "wrong or lost", "longest call"),
        *("health says so after", "answers again after", "health again after"),
    ]
    rows = []
    for row in part["failures"]:
        classified, added = Counter(row["classified"]), Counter(row["added"])
        fine = sum(counted[kind] for counted in (classified, added) for kind in _FINE)
        amiss = (classified + added).total() - fine + row["lost"]
        told = "-" if row["told_seconds"] is None else f"{row['told_seconds']:.1f} s"
        rows.append(
            f"| {row['name']} | {classified['right']} | {classified['UNAVAILABLE']} | {added['right']} | "
            f"{added['UNAVAILABLE']} | {amiss} | {row['longest_seconds']:.1f} s | {told} | "
            f"{row['answered_seconds']:.1f} s | {row['well_seconds']:.1f} s |"
        )
    skipped = f" {len(part['skipped'])} could not be tried here." if part["skipped"] else ""
    return [
        "## Failures of the store",
        "",
        *_paragraph(
            "`python -m tests.bench.failures`: a Qdrant server's protocol on top of the embedded engine, behind a "
            f"proxy that spoils what goes through it. Each failure lasts {part['seconds']:.0f} s, while messages "
            "that are examples, so that their labels are known, and new examples come 15 times a second in all; one "
            "process of the service, which gives its store 4 s, lives through all of it. Counted from the beginning of "
            "a failure until all is well again. Refused is UNAVAILABLE; any other status counts as wrong, so does "
            "an abstention; every acknowledged addition was "
            "looked for afterwards. Health is asked of the store every five seconds. Without TLS wrong bytes may be "
            "read as right ones, as HTTP/2 has no checksum."
        ),
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        *rows,
        "",
        *_paragraph(
            f"`pytest {DISKS}`, disks that are full or can't be written to, each answered as it should be:{skipped}"
        ),
        "",
        *(f"- {_sentence(name)}" for name in part["disks"]),
    ]


def _inputs(part: Part) -> list[str]:
    rows = [
        f"| {row['kind']} | {sum(row['ends'].values()):,} | "
        + ", ".join(f"{name} {count:,}" for name, count in row["ends"].items())
        + f" | {row['mib'][0]:.0f} to {row['mib'][1]:.0f} MiB |"
        for row in _without_sums(part["kinds"])
    ]
    return [
        "## Bad input",
        "",
        *_paragraph(
            f"`python -m tests.bench.inputs`: one process gets all of it, over all {part['rpcs']} RPCs. Calls that "
            f"ended as the service's fault: {len(part['our_fault'])}; internal errors in its log: "
            f"{part['internal_errors']}; it was {'alive' if part['alive'] else 'gone'} at the end. INTERNAL on a bare "
            "connection is gRPC's own answer to headers that can't be decompressed, before there is a call."
        ),
        "",
        "| what came | how many | how they ended | memory before and after |",
        "|---|---|---|---|",
        *rows,
        "",
        *_paragraph(
            f"`pytest {' '.join(LAWS)}` draws {part['properties']:,} more: texts, files, backups, keys, votes, courses "
            f"of writes; `make fuzz FUZZ_SECONDS={part['fuzz_seconds']}` feeds the parsers {part['fuzzed']:,} inputs "
            "guided by coverage. None broke a law, and none raised anything but the errors that are named."
        ),
    ]


def _without_sums(kinds: list[Part]) -> list[Part]:
    """Files are told of by their lines: that there were so many of them is another unit."""
    return [
        {
            **kind,
            "kind": f"lines of {ends['files']:,} files of examples",
            "ends": {k: v for k, v in ends.items() if k != "files"},
        }
        if "files" in (ends := kind["ends"])
        else kind
        for kind in kinds
    ]


def _soak(part: Part) -> list[str]:
    return [
        "## Half an hour of everything",
        "",
        *_paragraph(
            f"`make soak`, {part['minutes']:.0f} minutes: single messages, batches, streams, examples added and "
            "deleted, fits, clients that give up, vanish and send nonsense, and bursts above what can be done."
        ),
        "",
        "| | " + " | ".join(f"minute {at['minute']:.0f}" for at in part["memory"]) + " |",
        "|---" * (1 + len(part["memory"])) + "|",
        "| its own memory | " + " | ".join(f"{at['mib']:.0f} MiB" for at in part["memory"]) + " |",
        "| pages of files | " + " | ".join(f"{at['mib']:.0f} MiB" for at in part["files"]) + " |",
        "",
        *_paragraph(
            f"Its own memory: {part['first_third_mib']:.0f} MiB in the first third after the warm-up, "
            f"{part['last_third_mib']:.0f} MiB in the last, {part['most_mib']:.0f} MiB at most, "
            f"{part['mib_an_hour']:+.0f} MiB an hour by a line through all after the warm-up: "
            f"{'flat' if is_flat(part) else '**not flat**'}, by the bound of a tenth between the thirds. "
            f"Internal errors: {part['internal_errors']}. Exit code: {part['exit_code']}."
        ),
        "",
        *_paragraph(
            "Pages of files are the model's and the store's; the kernel takes them back when it is short of memory. "
            f"{part['written']:,} examples were added and deleted again: the embedded store writes each in a new "
            "place, as it does with the record of changes, and has the old ones until `nearvote optimize --vacuum`. "
            f"In its own memory that takes {_kib_a_write(part):.0f} KiB an example at most, by the line above."
        ),
        "",
        "| calls | how many |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in part["calls"].items()),
    ]


def _kib_a_write(part: Part) -> float:
    """How much memory grew for each example that was added and deleted, if it grew for nothing else."""
    hours = part["minutes"] / 60
    return float(max(0.0, part["mib_an_hour"]) * hours * 1024 / part["written"])


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)


_SECTIONS: dict[str, Callable[[Part], list[str]]] = {
    "overload": _overload,
    "kills": _kills,
    "failures": _failures,
    "inputs": _inputs,
    "soak": _soak,
}
