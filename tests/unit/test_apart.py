"""Programs of ours in processes of their own."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nearvote.apart import interruptible, run_apart
from nearvote.errors import Interrupted, InvalidField

_MODULE = r"""
import atexit, os, sys, time

print("at import")

def echo(*told):
    print("a line \xe9")
    os.write(2, b"\xff")
    return list(told)

def much(size):
    os.write(2, b"." * int(size))
    return "." * int(size)

def wait(path):
    print(os.getpid(), file=open(path, "w"), flush=True)
    time.sleep(60)

def end_by(number):
    os.kill(os.getpid(), int(number))
    time.sleep(60)

def end_later():
    atexit.register(os.abort)
    return "done"

def fail():
    print("a hint")
    raise ValueError("not\nso")

class Panic(BaseException):
    pass

def panic():
    raise Panic("lost")

def leave():
    sys.exit("in the middle")
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "works.py").write_text(_MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path[1:]]))
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def _run(work: str, *told: str) -> Any:
    return run_apart(work, *told, failure=InvalidField)


def test_what_it_is_told_and_returns() -> None:
    """It gets the arguments, what it returns comes back, and what it printed meanwhile is logged: it is no answer."""
    with capture_logs() as logs:
        assert _run("works:echo", "one", "two words") == ["one", "two words"]
    (line,) = logs
    assert (line["event"], line["work"], line["log_level"]) == ("printed_apart", "works:echo", "info")
    assert [part for part in ("at import\n", "a line é", "\ufffd") if part not in line["output"]] == []


def test_any_amount() -> None:
    """Neither a long answer nor much output makes it wait for us; the log has the end of it."""
    with capture_logs() as logs:
        assert _run("works:much", "1000000") == "." * 1_000_000
    assert len(logs[0]["output"]) <= 4_000


@pytest.mark.parametrize(
    ("work", "cause", "printed"),
    [
        ("works:fail", "^ValueError: not\nso$", ["a hint", 'raise ValueError("not\\nso")']),
        ("works:panic", "^Panic: lost$", ["Traceback", "Panic: lost"]),
        ("works:leave", "^the process ended with 1, and did not answer$", ["in the middle"]),
        ("works:nothing", "^AttributeError: ", ["at import"]),
    ],
)
def test_why_it_failed(work: str, cause: str, printed: list[str]) -> None:
    """The error says what failed, and the log has all else that it said."""
    with capture_logs() as logs, pytest.raises(InvalidField, match=cause):
        _run(work)
    assert logs[0]["log_level"] == "warning"
    assert [part for part in printed if part not in logs[0]["output"]] == []


def test_an_end_after_the_answer() -> None:
    """What was done is done, also when the process crashes on its way out."""
    assert _run("works:end_later") == "done"


def test_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started, that is what failed."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(InvalidField, match=r"can be started for it: Resource temporarily unavailable"):
        _run("works:echo")


def test_the_working_directory_has_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies where the service was started is not run."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other_works.py").write_text("def echo(): return 1")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InvalidField, match="No module named 'other_works'"):
        _run("other_works:echo")


def test_interrupted_from_the_keyboard() -> None:
    """An interrupt reaches all processes of a terminal: we end, too, and take it for no failure."""
    with pytest.raises(KeyboardInterrupt):
        _run("works:end_by", str(int(signal.SIGINT)))


def test_interrupted_beside_what_serves(tmp_path: Path) -> None:
    """In another thread than the main one an interrupt is an error as any: there it would end the loop that drains."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_run, "works:wait", str(tmp_path / "pid"))
        pid = _number_in(tmp_path / "pid")
        os.kill(pid, signal.SIGINT)
        with pytest.raises(Interrupted, match="works:wait"):
            waiting.result(10)


async def test_given_up_while_it_runs(tmp_path: Path) -> None:
    """Who no longer waits has it interrupted, and no one else's."""
    with interruptible() as interruption:
        waiting = asyncio.create_task(asyncio.to_thread(_run, "works:wait", str(tmp_path / "pid")))
        pid = await asyncio.to_thread(_number_in, tmp_path / "pid")
    with interruptible():
        other = asyncio.create_task(asyncio.to_thread(_run, "works:echo", "other"))
        await asyncio.sleep(0)
    interruption.give_up()
    with pytest.raises(Interrupted):
        await asyncio.wait_for(waiting, 10)
    assert not _runs(pid)
    assert await other == ["other"]


def test_given_up_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given up early is not begun, and ends if it was just about to be."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], text=True)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was begun"))
    with interruptible() as interruption:
        interruption.give_up()
        with pytest.raises(Interrupted):
            _run("works:echo")
    with interruption.of(process):
        assert process.wait(10)


@pytest.mark.parametrize("work", ["works:fail", "works:leave"])
def test_given_up_and_failed(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may end it in other ways than by its signal: it is no failure either."""
    communicate = subprocess.Popen.communicate
    with interruptible() as interruption:

        def given_up_at_the_end(process: Any) -> Any:
            said = communicate(process)
            interruption.give_up()
            return said

        monkeypatch.setattr(subprocess.Popen, "communicate", given_up_at_the_end)
        with pytest.raises(Interrupted):
            _run(work)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "15 .Terminated"), (signal.SIGKILL, "9 .Killed")])
def test_ended_by_a_signal(number: signal.Signals, name: str) -> None:
    """Ended by somebody else, as for want of memory, it has failed, and by which signal is told."""
    with pytest.raises(InvalidField, match=f"was ended by signal {name}"):
        _run("works:end_by", str(int(number)))


def test_it_ends_with_us(tmp_path: Path) -> None:
    """When we are killed it ends, too, and it does not begin for one that is no longer there."""
    code = f"from nearvote.apart import run_apart; run_apart('works:wait', '{tmp_path}/pid', failure=ValueError)"
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
    command = [sys.executable, "-m", "nearvote.apart", str(ours.pid), "works:echo"]
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
