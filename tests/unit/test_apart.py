"""Programs of ours in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog

from nearvote.apart import run_apart
from nearvote.errors import InvalidField, NearvoteError
from nearvote.startup_errors import Interrupted

_PROGRAM = r"""
import os, signal, sys, time
from nearvote.apart import answer

def work(what, *told):
    print("a line\nanother \xe9", flush=True)
    if what == "wait":
        print(os.getpid(), file=open(told[0], "w"), flush=True)
        time.sleep(60)
    if what == "be ended":
        os.kill(os.getpid(), int(told[0]))
        time.sleep(60)
    if what == "fail":
        raise ValueError("not\nso")
    if what == "exit":
        sys.exit("it was " + told[0])
    os.write(2, b"\xff")
    return list(told)

answer(work)
"""


@pytest.fixture(autouse=True)
def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_program.py").write_text(_PROGRAM)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path[1:]]))


def _run(*told: str, module: str = "a_program") -> Any:
    return run_apart(module, *told, failure=InvalidField)


def test_what_it_is_told_and_answers() -> None:
    """It gets the arguments, what it returns comes back, and what it wrote meanwhile is logged: it is no answer."""
    with structlog.testing.capture_logs() as logs:
        assert _run("return", "one", "two words") == ["one", "two words"]
    assert [(line["event"], line["output"]) for line in logs] == [("said_apart", "a line\nanother \xe9\n\ufffd")]


def test_why_it_failed() -> None:
    """An error comes back whole; of any other end its code and its last line."""
    with pytest.raises(InvalidField, match=r"^ValueError: not\nso$"):
        _run("fail")
    with pytest.raises(InvalidField, match=r"^the process ended with 1: it was nothing$"):
        _run("exit", "nothing")


def test_the_working_directory_has_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies where the service was started is not run."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "another_program.py").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidField, match="No module named another_program"):
        _run(module="another_program")


def test_interrupted_from_the_keyboard() -> None:
    """An interrupt reaches all processes of a terminal: we end, too, and take it for no failure."""
    with pytest.raises(KeyboardInterrupt):
        _run("be ended", str(int(signal.SIGINT)))


def test_interrupted_beside_what_serves() -> None:
    """In another thread than the main one an interrupt is an error as any: there it would end the loop that drains."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(Interrupted, match="SIGINT"):
        pool.submit(_run, "be ended", str(int(signal.SIGINT))).result()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Interrupted), (signal.SIGKILL, InvalidField)])
def test_ended_by_a_signal(number: signal.Signals, error: type[NearvoteError]) -> None:
    """Told to stop is no failure; killed, as for want of memory, is one, and named whatever was written before."""
    with pytest.raises(error, match=f"was ended by {number.name}"):
        _run("be ended", str(int(number)))


def test_it_ends_with_us(tmp_path: Path) -> None:
    """When we are killed it ends, too, and it does not begin for one that is no longer there."""
    code = f"from nearvote.apart import run_apart; run_apart('a_program', 'wait', '{tmp_path}/pid', failure=ValueError)"
    ours = subprocess.Popen([sys.executable, "-c", code])
    with contextlib.ExitStack() as stack:
        stack.callback(ours.kill)
        pid = _number_in(tmp_path / "pid")
        ours.kill()
        ours.wait(10)
        deadline = time.monotonic() + 10
        while _runs(pid):
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.02)
    command = [sys.executable, "-m", "a_program", str(ours.pid), "2", "return"]
    late = subprocess.run(command, capture_output=True, check=False)
    assert (late.returncode, late.stdout, late.stderr) == (1, b"", b"")


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
