"""Measures what an on-call engineer relies on, and writes docs/reliability.md and docs/reliability.json.

    python -m tests.bench.reliability                     all of it: more than an hour
    python -m tests.bench.reliability overload soak       some of it; the rest stays as it was measured last

Parts: `overload` (with restarts), `kills`, `failures`, `inputs`, `soak`. Each is written as soon as it is measured.
"""

import argparse
import datetime as dt
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.bench import sets
from tests.bench.reliability_report import DISKS, LAWS, Part, page

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_FUZZ_SECONDS = 300


def _run(command: Sequence[str], *, may_fail: bool = False) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _written(*arguments: str) -> Part:
    """What a script writes to the file that it is given."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        _run(_python(*arguments, "--output", file.name))
        found: Part = json.loads(Path(file.name).read_text())
    return found


def overload() -> Part:
    """Load above what the service can do, and restarts under load."""
    found: Part = json.loads(_run(_python("tests.bench.overload")))
    return found


def kills() -> Part:
    """SIGKILL at moments drawn by chance."""
    return _written("tests.bench.kills", "--kills", "120")


def failures() -> Part:
    """Failures of the store under load, and of disks, each a test."""
    found = _written("tests.bench.failures")
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        _run(_python("pytest", "-q", DISKS, f"--junitxml={file.name}"))
        cases = list(ET.parse(file.name).iter("testcase"))  # noqa: S314 - we wrote it
    ran = [case.attrib["name"] for case in cases if case.find("skipped") is None]
    skipped = [case.attrib["name"] for case in cases if case.find("skipped") is not None]
    return {**found, "disks": ran, "skipped": skipped}


def inputs() -> Part:
    """What the service was not made for, over the wire; laws of its parts; and what a fuzzer finds."""
    found = _written("tests.bench.inputs")
    told = _run(_python("pytest", "-q", *LAWS, "--hypothesis-show-statistics"))
    tried = sum(map(int, re.findall(r"(\d+) passing", told)))
    with tempfile.TemporaryFile("w+") as log:  # libFuzzer writes to its standard error
        command = ["make", "fuzz", f"FUZZ_SECONDS={_FUZZ_SECONDS}"]
        subprocess.run(command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT, check=True)
        log.seek(0)
        done = re.search(r"Done (\d+) runs", log.read())
    fuzzed = int(done.group(1)) if done else 0
    return {**found, "properties": tried, "fuzzed": fuzzed, "fuzz_seconds": _FUZZ_SECONDS}


def soak() -> Part:
    """Half an hour of everything at once; what it found is told whether or not memory was flat."""
    found: Part = json.loads(_run(_python("tests.bench.soak"), may_fail=True))
    return found


PARTS: dict[str, Callable[[], Part]] = {
    "overload": overload,
    "kills": kills,
    "failures": failures,
    "inputs": inputs,
    "soak": soak,
}


async def main() -> None:
    """Measures, and writes after each part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    file = _DOCS / "reliability.json"
    for name in parser.parse_args().parts or PARTS:
        found = {**PARTS[name](), "date": dt.datetime.now(dt.UTC).date().isoformat()}
        # Read only now: half an hour later other parts may have been measured by somebody else.
        measured: dict[str, Part] = json.loads(file.read_text()) if file.exists() else {}
        measured[name] = found
        file.write_text(json.dumps(measured, indent=1) + "\n")
        (_DOCS / "reliability.md").write_text(page(measured))


if __name__ == "__main__":
    sets.measure_with(main)
