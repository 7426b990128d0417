"""Backup and restore by the command line, of what a real server has stored."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.integration.server import NEARVOTE, Server, run
from tests.integration.stored import whats_wrong
from tests.integration.test_learning import ASKED, _fill, _say


def test_a_service_answers_from_a_backup_as_it_did_before(plain: Server, tmp_path: Path) -> None:
    """Backed up, restored elsewhere and served: the same labels and scores, by the same fit; and what waits, waits."""
    _fill(plain, tmp_path)
    assert plain.cli("fit", "-t", "spam").returncode == 0
    before = _say(plain)
    waiting = plain.cli("feedback", "submit", "-t", "spam", "-l", "ham", "--source", "m", "a text that waits").stdout
    file = tmp_path / "backup"
    locked = run("backup", "-o", str(file), "--data-dir", str(plain.folder))
    assert locked.returncode == 1
    assert "stop it" in locked.stderr
    plain.stop()
    done = run("backup", "-o", str(file), "--data-dir", str(plain.folder))
    assert done.returncode == 0, done.stderr
    assert f"50 windows of examples, 3 documents and 1 corrections backed up to {file}" in done.stdout
    other = Server(tmp_path / "other", "--model", "hashing", "--no-seeds")
    done = run("restore", str(file), "--data-dir", str(other.folder))
    assert done.returncode == 0, done.stderr
    assert "50 windows of examples, 3 documents and 1 corrections restored, of hashing, backed up 20" in done.stdout
    assert whats_wrong(other.folder) == []
    other.start()
    try:
        assert _say(other) == before
        assert len(before) == len(ASKED)
        assert other.cli("feedback", "promote", "-t", "spam", waiting.split()[1]).stdout.startswith("1 promoted")
    finally:
        other.stop()
    refused = run("restore", str(file), "--data-dir", str(other.folder))
    assert refused.returncode == 1
    assert "--replace" in refused.stderr
    assert run("restore", str(file), "--replace", "--data-dir", str(other.folder)).returncode == 0


def test_a_damaged_file_touches_nothing(tmp_path: Path) -> None:
    """What is no backup, or is not there, is refused in words, and no folder is made for it."""
    file = tmp_path / "backup"
    file.write_text("not one")
    done = run("restore", str(file), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "no backup" in done.stderr
    assert run("restore", str(tmp_path / "none"), "--data-dir", str(tmp_path / "data")).returncode == 2
    assert run("backup", "-o", str(file), "--data-dir", str(tmp_path / "data")).returncode == 1
    assert not (tmp_path / "data").exists()


def test_a_restore_that_is_killed_leaves_old_or_new(plain: Server, tmp_path: Path) -> None:
    """Killed at many moments, the store has all of the old or all of the new, and the next run brings the new."""
    _fill(plain, tmp_path, 400)
    plain.stop()
    file = tmp_path / "backup"
    assert run("backup", "-o", str(file), "--data-dir", str(plain.folder)).returncode == 0
    other = Server(tmp_path / "other", "--model", "hashing", "--no-seeds").start()
    for command in (
        ("tasks", "create", "old", "-l", "a", "-l", "b"),
        ("examples", "add", "-t", "old", "-l", "a", "what was there"),
    ):
        done = other.cli(*command)
        assert done.returncode == 0, done.stderr
    assert other.stop() == 0
    began = time.monotonic()
    shutil.copytree(other.folder, tmp_path / "timed")
    assert run("restore", str(file), "--replace", "--data-dir", str(tmp_path / "timed")).returncode == 0
    whole_seconds = time.monotonic() - began
    for step in range(6):
        with subprocess.Popen(
            [NEARVOTE, "restore", file, "--replace", "--data-dir", other.folder], stdout=subprocess.DEVNULL
        ) as restoring:
            time.sleep(whole_seconds * (0.4 + 0.1 * step))
            restoring.send_signal(signal.SIGKILL)
        other.start()
        with other.client() as client:
            counts = {task.name: len(list(client.list_examples(task.name))) for task in client.list_tasks()}
        assert other.stop() == 0
        assert counts in ({"old": 1}, {"spam": 800}), other.log.read_text()[-3000:]
        assert whats_wrong(other.folder) == []
    assert run("restore", str(file), "--replace", "--data-dir", str(other.folder)).returncode == 0
    other.start()
    with other.client() as client:
        assert len(list(client.list_examples("spam"))) == 800
    other.stop()
