"""A dozen kills; `python -m tests.bench.kills` makes many more."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kills import KINDS, Victim
from tests.integration.server import NEARVOTE, Server
from tests.integration.stored import whats_wrong


@pytest.fixture
def victim(data_folder: Path) -> Iterator[Victim]:
    """A server to be killed, with two tasks, one of them fitted in a metric."""
    victim = Victim(data_folder, seed=5)
    victim.begin()
    yield victim
    victim.end()


def test_what_was_acknowledged_survives_kills_at_any_moment(victim: Victim) -> None:
    """Killed during each kind of work, nothing acknowledged is lost, nothing is doubled, and no fit is torn."""
    kills = [victim.kill(kind) for kind in KINDS]
    assert [kill.wrong for kill in kills] == [[]] * len(KINDS)
    assert sum(sum(kill.acknowledged.values()) for kill in kills) > 50


def test_what_was_acknowledged_is_looked_for(victim: Victim) -> None:
    """The ledger tells an example that is lost, one that nobody wrote, and one with another label than was written."""
    ledger = victim._ledger
    stored = {key: labels for key, labels in ledger.examples.items() if labels}
    first, second, *_ = stored
    lost = {key: labels for key, labels in stored.items() if key != first}
    relabelled = {**stored, second: ("other",)}
    unknown = {**stored, ("plain", "nobody wrote this"): ("spam",)}
    for found in (lost, relabelled, unknown):
        before = dict(ledger.examples)
        assert len(ledger.settle(found)) == 1
        ledger.examples = before
    ledger.asked(first, None)  # a deletion without an answer may have happened, or not
    assert ledger.settle(stored) == []
    ledger.asked(first, None)
    assert ledger.settle(lost) == []


def test_an_import_that_was_cut_off_goes_on(data_folder: Path) -> None:
    """The command says what was stored when the service dies; run again, it adds exactly the rest."""
    count = 3_000
    file = data_folder / "in.jsonl"
    lines = [{"text": f"line {i} of many", "label": ("spam", "ham")[i % 2]} for i in range(count)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    server = Server(data_folder / "data", "--model", "hashing", "--no-seeds").start()
    try:
        server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
        with subprocess.Popen(
            [NEARVOTE, "examples", "import", "--address", server.address, "-t", "spam", file],
            stderr=subprocess.PIPE,
            text=True,
        ) as importing:
            with server.client() as client:
                deadline = time.monotonic() + 60
                while client.info().tasks[0].example_count == 0:
                    assert time.monotonic() < deadline
            server.stop(signal.SIGKILL)
            _, said = importing.communicate(timeout=60)
        assert importing.returncode != 0
        assert "importing the file again adds the rest" in said
        server.start()
        with server.client() as client:
            kept = client.info().tasks[0].example_count
        assert 0 < kept < count
        done = server.cli("examples", "import", "-t", "spam", str(file))
        assert f"{count} examples imported, {count - kept} of them new" in done.stdout
    finally:
        server.stop(signal.SIGKILL)
    assert whats_wrong(data_folder / "data") == []


def test_what_is_torn_on_the_disk_is_seen(data_folder: Path) -> None:
    """What looks into folders after a kill sees points that are missing, in a copy of a folder that is whole."""
    server = Server(data_folder / "data", "--model", "hashing", "--no-seeds").start()
    try:
        server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham")
        with server.client() as client:
            client.add_example("spam", "word " * 300, ["spam"])
    finally:
        server.stop(signal.SIGKILL)
    assert whats_wrong(data_folder / "data") == []
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from nearvote.examples.edge_engine import EdgeEngine\n"
        "from nearvote.examples.spaces import stored_places\n"
        "async def main():\n"
        "    engine = EdgeEngine(Path(sys.argv[1]))\n"
        "    places = await stored_places(engine)\n"
        "    await engine.delete(places.examples, {'window': int(sys.argv[2])})\n"
        "    await engine.close()\n"
        "asyncio.run(main())\n"
    )
    for window, said in (("0", "no first window"), ("2", "has windows")):
        torn = data_folder / f"torn{window}"
        shutil.copytree(data_folder / "data", torn)
        subprocess.run([NEARVOTE.parent / "python", "-c", script, torn, window], check=True)
        (wrong,) = whats_wrong(torn)
        assert said in wrong
