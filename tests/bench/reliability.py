"""Measures what an on-call engineer relies on, and writes docs/reliability.md and docs/reliability.json.

    python -m tests.bench.reliability                     all of it: more than an hour
    python -m tests.bench.reliability overload faults     some of it; the rest stays as it was measured last

Parts: `overload` (with restarts), `kills`, `faults`, `inputs`, `soak`.
"""

import argparse
import datetime as dt
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.bench import sets

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_FAULTS = ("tests/integration/test_store_failures.py", "tests/integration/test_disk.py")
_INPUTS = ("tests/property", "tests/integration/test_privacy.py")
_FUZZ_SECONDS = 300

Part = dict[str, Any]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout + done.stderr


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def overload() -> Part:
    """Load above what the service can do, and restarts under load."""
    found: Part = json.loads(_run(_python("tests.bench.overload")))
    return found


def kills() -> Part:
    """SIGKILL at moments drawn by chance."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        _run(_python("tests.bench.kills", "--kills", "120", "--output", file.name))
        found: Part = json.loads(Path(file.name).read_text())
    return found


def faults() -> Part:
    """Failures of what the service stands on, each a test."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        _run(_python("pytest", "-q", *_FAULTS, f"--junitxml={file.name}"))
        cases = list(ET.parse(file.name).iter("testcase"))  # noqa: S314 - we wrote it
    ran = [case.attrib["name"] for case in cases if case.find("skipped") is None]
    skipped = [case.attrib["name"] for case in cases if case.find("skipped") is not None]
    return {"seen": ran, "skipped": skipped}


def inputs() -> Part:
    """Requests, texts and files drawn at random, and a fuzzer's."""
    told = _run(_python("pytest", "-q", *_INPUTS, "--hypothesis-show-statistics"))
    tried = sum(map(int, re.findall(r"(\d+) passing examples", told)))
    fuzzed = _run(["make", "fuzz", f"FUZZ_SECONDS={_FUZZ_SECONDS}"])
    done = re.search(r"Done (\d+) runs", fuzzed)
    return {"properties": tried, "fuzzed": int(done.group(1)) if done else 0, "fuzz_seconds": _FUZZ_SECONDS}


def soak() -> Part:
    """Half an hour of everything at once."""
    found: Part = json.loads(_run(_python("tests.bench.soak")))
    return found


PARTS: dict[str, Callable[[], Part]] = {
    "overload": overload,
    "kills": kills,
    "faults": faults,
    "inputs": inputs,
    "soak": soak,
}


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
    names = ("offered", "answered, of the best", "refused", "p50 of an answer", "p99 of a refusal", "errors", "memory")
    table = [
        f"| {row['times']}x | {row['share']:.0%} | {row['refused']:.0f} | {row['p50']:.2f} s | "
        f"{row['refused_p99'] * 1000:.0f} ms | {row['errors']:.0f} | {row['memory_mib']:.0f} MiB |"
        for row in rows
    ]
    return [
        "## More than it can do",
        "",
        *_paragraph(
            "`python -m tests.bench.overload`: comments of some length come at random times, so many times as often as "
            f"the service can answer them ({best['rate']:.0f} a second, 64 at a time), for eight seconds. Client and "
            "service share the cores. Medians of five turns."
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


def _faults(part: Part) -> list[str]:
    skipped = f", {len(part['skipped'])} could not be tried here" if part["skipped"] else ""
    return [
        "## Failures injected",
        "",
        *_paragraph(
            f"`pytest {' '.join(_FAULTS)}`: a Qdrant server's protocol on top of the embedded engine, behind a proxy "
            "that delays, cuts, hangs and spoils; and disks that are full or read-only. "
            f"{len(part['seen'])} injected, each answered as it should be{skipped}:"
        ),
        "",
        *(f"- {_sentence(name)}" for name in part["seen"]),
    ]


def _inputs(part: Part) -> list[str]:
    return [
        "## Bad input",
        "",
        *_paragraph(
            f"`pytest {' '.join(_INPUTS)}` and `make fuzz FUZZ_SECONDS={part['fuzz_seconds']}`: {part['properties']:,} "
            f"requests, texts and files drawn at random, over every RPC, and {part['fuzzed']:,} by a fuzzer guided by "
            "coverage. None was answered with an internal error, none crashed, and nothing of a text was written down."
        ),
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
        *_paragraph(
            f"Memory: {part['first_third_mib']:.0f} MiB in the first third after the warm-up, "
            f"{part['last_third_mib']:.0f} MiB in the last, {part['most_mib']:.0f} MiB at most. "
            f"Internal errors: {part['internal_errors']}. Exit code: {part['exit_code']}."
        ),
        "",
        "| calls | how many |",
        "|---|---|",
        *(f"| {name} | {count:,} |" for name, count in part["calls"].items()),
    ]


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)


_SECTIONS: dict[str, Callable[[Part], list[str]]] = {
    "overload": _overload,
    "kills": _kills,
    "faults": _faults,
    "inputs": _inputs,
    "soak": _soak,
}


async def main() -> None:
    """Measures, and writes after each part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    file = _DOCS / "reliability.json"
    measured: dict[str, Part] = json.loads(file.read_text()) if file.exists() else {}
    for name in parser.parse_args().parts or PARTS:
        measured[name] = {**PARTS[name](), "date": dt.datetime.now(dt.UTC).date().isoformat()}
        file.write_text(json.dumps(measured, indent=1) + "\n")
        (_DOCS / "reliability.md").write_text(page(measured))


if __name__ == "__main__":
    sets.measure_with(main)
