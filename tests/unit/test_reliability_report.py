"""The page of reliability says what was measured."""

import json
from pathlib import Path

from tests.bench.reliability_report import page
from tests.bench.soak import flatness, is_flat, shown
from tests.integration.failures import Outcome

DOCS = Path(__file__).parents[2] / "docs"

MADE_UP = {
    "failures": {
        "seconds": 8.0,
        "failures": [
            {
                **Outcome("down").figures(),
                "classified": {"right": 11, "UNAVAILABLE": 38, "wrong": 2, "INTERNAL": 4},
                "added": {"UNAVAILABLE": 9},
                "lost": 1,
                "told_seconds": 3.21,
            }
        ],
        "disks": ["test_a_full_disk[broken]"],
        "skipped": [],
        "date": "2030-01-01",
    },
    "inputs": {
        "rpcs": 36,
        "kinds": [
            {"kind": "bytes", "ends": {"INVALID_ARGUMENT": 1_500, "OK": 7}, "mib": [100.2, 101.7]},
            {"kind": "files", "ends": {"files": 60, "lines stored": 40, "lost": 0}, "mib": [1, 1]},
        ],
        "our_fault": [],
        "internal_errors": 0,
        "alive": True,
        "properties": 12_345,
        "fuzzed": 1_000_000,
        "fuzz_seconds": 300,
        "date": "2030-01-01",
    },
    "soak": {
        "minutes": 30.0,
        "memory": [{"minute": 0.0, "mib": 400}, {"minute": 30.0, "mib": 650}],
        "files": [{"minute": 0.0, "mib": 270}, {"minute": 30.0, "mib": 480}],
        "written": 4_321,
        "first_third_mib": 640.0,
        "last_third_mib": 648.0,
        "most_mib": 660.0,
        "mib_an_hour": 84.4,
        "internal_errors": 0,
        "exit_code": 0,
        "calls": {"burst: done": 7},
        "date": "2030-01-01",
    },
}


def test_the_page_is_written_of_its_figures() -> None:
    """docs/reliability.md is what the figures in docs/reliability.json make, to the letter."""
    assert page(json.loads((DOCS / "reliability.json").read_text())) == (DOCS / "reliability.md").read_text()


def test_each_part_has_its_figures_on_the_page() -> None:
    """Calls by outcome, what is wrong or lost, inputs by end, memory over time, each with its command."""
    said = page(MADE_UP)
    assert "| down | 11 | 38 | 0 | 9 | 7 | 0.0 s | 3.2 s | 0.0 s | 0.0 s |" in said, (
        "2 wrong, 1 lost, 4 of another status"
    )
    assert "| bytes | 1,507 | INVALID_ARGUMENT 1,500, OK 7 | 100 to 102 MiB |" in said
    assert "| lines of 60 files of examples | 40 | lines stored 40, lost 0 | 1 to 1 MiB |" in said
    assert "| minute 0 | minute 30 |" in said
    assert "| its own memory | 400 MiB | 650 MiB |" in said
    assert "| pages of files | 270 MiB | 480 MiB |" in said
    assert "4,321 examples" in said
    assert "takes 10 KiB an example at most" in said
    assert "a full disk (broken)" in said
    assert "not flat" not in said
    grown = page(MADE_UP | {"soak": MADE_UP["soak"] | {"last_third_mib": 704.0}})
    assert "**not flat**" in grown
    for command in ("python -m tests.bench.failures", "python -m tests.bench.inputs", "make soak", "make fuzz"):
        assert f"`{command}" in said


def test_memory_that_grows_is_seen() -> None:
    """Memory is looked at from the warm-up on: a service that stays is flat, one that grows is not."""
    flat = [(5.0 * i, 300.0 if i < 40 else 500.0 + i % 7) for i in range(361)]
    grows = [(seconds, mib + 0.1 * seconds) for seconds, mib in flat]
    assert is_flat(flatness(flat))
    assert not is_flat(flatness(grows))
    assert flatness(grows)["mib_an_hour"] > 300
    assert [at["minute"] for at in shown(flat)] == [0, 5, 10, 15, 20, 25, 30]
    short_of_it = [(0.998 * seconds, mib) for seconds, mib in [*flat, (1_804.0, 500.0)]]
    assert [round(at["minute"]) for at in shown(short_of_it)] == [0, 5, 10, 15, 20, 25, 30]
