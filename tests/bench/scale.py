"""Measures large embedded stores, kept in each way there is, and writes docs/scaling.json and docs/scaling.md.

    python -m tests.bench.scale --counts 10000 100000
    nice -n 10 taskset -c 0 python -m tests.bench.scale --counts 1000000 --kept memory "disk, int8"
    python -m tests.bench.scale --counts                  writes the page anew from what was measured

A run replaces the figures of its counts, and leaves those of others. Each part is a process of its own, so that its
memory is its own. A million examples take some 15 GB of disk while an index is built, and hours of one core.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.bench import scale_report
from tests.bench.performance import run
from tests.bench.scale_store import KEPT
from tests.bench.sets import measure_with
from tests.bench.store import real

_DOCS = Path(__file__).parents[2] / "docs"
_DISK_BYTES = 20_000  # an example takes while an index is built, and its exact vector beside it
_INDEX = (
    "import sys; from pathlib import Path; from nearvote.examples.edge_engine import build_indexes; "
    "from tests.bench.scale_store import KEPT; build_indexes(Path(sys.argv[1]), KEPT[sys.argv[2]])"
)


def index(folder: Path, kept: str) -> dict[str, float]:
    """Builds the index: seconds of a core, and the most memory of any process that has come to its end so far."""
    began = _core_seconds()
    subprocess.run([sys.executable, "-c", _INDEX, str(folder / "data"), kept], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"index_seconds": _core_seconds() - began, "index_peak_mib": peak}


def _core_seconds() -> float:
    """What processes that this one has started have taken, those that have come to their end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def disk(folder: Path) -> dict[str, float]:
    """MiB on the disk, by what it is of."""
    found: dict[str, float] = {}
    for path in (folder / "data" / "collections").rglob("*"):
        if path.is_file():
            kind = next((name for part, name in scale_report.PARTS.items() if part in str(path)), "other")
            kind = scale_report.QUANTIZED if "quantized" in path.name else kind
            found[kind] = found.get(kind, 0.0) + path.stat().st_blocks * 512 / 2**20
    return found


def measured(count: int, kept: list[str], vectors: Path, folder: Path) -> dict[str, Any]:
    """The figures of stores of so many examples."""
    free = shutil.disk_usage(folder).free
    if free < count * _DISK_BYTES:
        raise SystemExit(
            f"{count:,} examples take {count * _DISK_BYTES / 1e9:.0f} GB in {folder}: {free / 1e9:.0f} free"
        )
    with tempfile.TemporaryDirectory(dir=folder) as own:
        place = Path(own)
        shutil.copy(vectors, place / "real.npz")
        row: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), **run("scale_store", "fill", place, count)}
        print(count, row, file=sys.stderr, flush=True)
        row["kept"] = {}
        for name in kept:
            figures: dict[str, Any] = index(place, name)
            figures |= run("scale_store", "look", place, count, name)
            row["kept"][name] = {**figures, "disk_mib": disk(place)}
            print(count, name, row["kept"][name], file=sys.stderr, flush=True)
        return row


async def main() -> None:
    """Measures, and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--kept", nargs="+", choices=KEPT, default=list(KEPT))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where stores are made")
    parser.add_argument("--docs", type=Path, default=_DOCS)
    asked = parser.parse_args()
    file = asked.docs / "scaling.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if asked.counts:
        of = await real()
        with tempfile.TemporaryDirectory() as folder:
            vectors = Path(folder) / "real.npz"
            np.savez(vectors, vectors=of.vectors, asked=of.asked)
            del of
            for count in asked.counts:
                known[str(count)] = measured(count, asked.kept, vectors, asked.folder)
                file.write_text(json.dumps(dict(sorted(known.items(), key=lambda one: int(one[0]))), indent=1) + "\n")
    performance = json.loads((_DOCS / "performance.json").read_text())
    (asked.docs / "scaling.md").write_text(scale_report.document(known, performance), encoding="utf-8")


if __name__ == "__main__":
    measure_with(main)
