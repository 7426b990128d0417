"""Programs of ours in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearvote.apart import run_apart

_PROGRAM = """
import os, signal, sys, time
from nearvote.apart import arguments
told = arguments()
if told[0] == "wait":
    print(os.getpid(), file=open(told[1], "w"), flush=True)
    time.sleep(60)
if told[0] == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
print(*told)
sys.exit(len(told))
"""


@pytest.fixture(autouse=True)
def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_program.py").write_text(_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path[1:]]))


def test_what_it_is_told_and_says() -> None:
    """It gets the arguments, and its output and exit code come back."""
    done = run_apart("a_program", "one", "two words")
    assert (done.stdout, done.returncode) == ("one two words\n", 2)


def test_the_working_directory_has_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies where the service was started is not run."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "another_program.py").touch()
    monkeypatch.chdir(tmp_path / "here")
    done = run_apart("another_program")
    assert done.returncode == 1
    assert "No module named another_program" in done.stderr


def test_interrupted_from_the_keyboard() -> None:
    """An interrupt reaches all processes of a terminal: we end, too, and take it for no failure."""
    with pytest.raises(KeyboardInterrupt):
        run_apart("a_program", "interrupt")


def test_it_ends_with_us(tmp_path: Path) -> None:
    """When we are killed it ends, too, and it does not begin for one that is no longer there."""
    code = f"from nearvote.apart import run_apart; run_apart('a_program', 'wait', '{tmp_path}/pid')"
    ours = subprocess.Popen([sys.executable, "-c", code])
    pid = _number_in(tmp_path / "pid")
    ours.send_signal(signal.SIGKILL)
    ours.wait(10)
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.02)
    late = subprocess.run([sys.executable, "-m", "a_program", str(ours.pid), "late"], capture_output=True, check=False)
    assert (late.returncode, late.stdout) == (1, b"")


def _number_in(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"nothing came to {path}"
        time.sleep(0.02)
    return int(path.read_text())


def _runs(pid: int) -> bool:
    """Whether a process is there, and not one that has ended and that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
