"""Kills the server at moments drawn by chance, and looks for what it had acknowledged.

    python -m tests.bench.kills [--kills 120] [--seed 0] [--output FILE]

A tenth of the kills hit the loading of the seeds into an empty folder, the rest a folder that lives through ten of
them: while a file is imported, batches are created, examples are deleted, a task is fitted, tasks change, all of it at
once, and while the service starts. After each kill the folder is read by the engine alone, then the service is started
on it; every example must have the labels last acknowledged (or asked for, where no answer came), each of its windows
once, the vectors of its text in both views and in the metric that serves, and each task the fit that it names.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from tests.integration.kills import KINDS, Kill, Victim

_KILLS_A_FOLDER = 10


def main() -> None:
    """Kills and prints; ends with 1 when anything was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    kills: list[Kill] = []
    while len(kills) < arguments.kills:
        with tempfile.TemporaryDirectory() as folder:
            victim = Victim(Path(folder), arguments.seed + len(kills))
            victim.begin()
            try:
                for _ in range(min(_KILLS_A_FOLDER, arguments.kills - len(kills))):
                    kill = victim.kill(KINDS[len(kills) % len(KINDS)])
                    kills.append(kill)
                    print(f"{len(kills):4} {kill.kind:8} {dict(kill.acknowledged)} {kill.wrong or ''}", flush=True)
            finally:
                victim.end()
    _report(kills, arguments.output)
    if any(kill.wrong for kill in kills):
        raise SystemExit(1)


def _report(kills: list[Kill], output: Path | None) -> None:
    by_kind: defaultdict[str, list[Kill]] = defaultdict(list)
    for kill in kills:
        by_kind[kill.kind].append(kill)
    rows = []
    for kind, own in by_kind.items():
        acknowledged: Counter[str] = sum((kill.acknowledged for kill in own), Counter())
        rows.append(
            {
                "kind": kind,
                "kills": len(own),
                "acknowledged": ", ".join(f"{name} {count}" for name, count in acknowledged.items()),
                "wrong": sum(bool(kill.wrong) for kill in own),
                "longest_restart_seconds": round(max(kill.restart_seconds for kill in own), 1),
            }
        )
    print("\n| killed during | kills | acknowledged writes | with anything lost, torn or doubled | longest restart |")
    print("|---|---|---|---|---|")
    for row in rows:
        written = row["acknowledged"] or "-"
        print(f"| {row['kind']} | {row['kills']} | {written} | {row['wrong']} | {row['longest_restart_seconds']} s |")
    if output is not None:
        output.write_text(json.dumps({"kills": len(kills), "kinds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
