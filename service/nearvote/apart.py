"""Work in a process of its own, for what takes memory that would stay, or holds the interpreter: a program of ours."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import structlog

from nearvote.errors import NearvoteError
from nearvote.startup_errors import Interrupted

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
_MOST_TOLD = 2_000  # characters of a failure: far less than a pipe holds before somebody reads

_log = structlog.get_logger(__name__)


def run_apart(module: str, *told: str, failure: Callable[[str], NearvoteError]) -> Any:
    """Runs a module of nearvote as a program, to its end.

    On Linux it is killed when the thread that waits for it here ends, and with it when this process does.

    Args:
        module: Its name. It answers by `answer`.
        told: What it is to work on.
        failure: Makes what is raised where it fails, of the cause.

    Returns:
        What its work returned, through JSON.

    Raises:
        NearvoteError: That of `failure`: its work failed, or it ended without an answer.
        KeyboardInterrupt: It was interrupted from the keyboard, and we with it, in the main thread.
        Interrupted: It was interrupted or told to stop, in any other case.
    """
    answers, to_answer = os.pipe()
    # Not multiprocessing: that leaves a process that looks after its resources for as long as the service runs.
    # -P: what lies in the working directory is no module of ours.
    command = [sys.executable, "-P", "-m", module, str(os.getpid()), str(to_answer), *told]
    with os.fdopen(answers) as read:
        try:
            done = subprocess.run(  # noqa: S603 - ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                pass_fds=(to_answer,),
                check=False,
            )
        finally:
            os.close(to_answer)
        answer = read.read()
    said = done.stdout.strip()[-_MOST_TOLD:]
    if done.returncode < 0:
        raise _ended_by(-done.returncode, said, failure)
    if done.returncode or not answer:
        raise failure(f"the process ended with {done.returncode}: {said.rpartition(chr(10))[-1]}")
    told_back = json.loads(answer)
    if "failed" in told_back:
        raise failure(told_back["failed"])
    if said:
        _log.info("said_apart", module=module, output=said)
    return told_back["found"]


def _ended_by(number: int, said: str, failure: Callable[[str], NearvoteError]) -> BaseException:
    if number == signal.SIGINT and threading.current_thread() is threading.main_thread():
        return KeyboardInterrupt()
    name = signal.Signals(number).name
    if number in {signal.SIGINT, signal.SIGTERM}:
        return Interrupted(f"the process that did this was ended by {name}")
    return failure(f"the process was ended by {name}: {said.rpartition(chr(10))[-1]}")


def answer(work: Callable[..., object]) -> None:
    """Does what this program is for, with what `run_apart` was told, and answers with what that returns.

    Ends the program (exit code 1) before that where who ran it is already gone.

    Args:
        work: Takes what was told, returns what JSON can write.
    """
    parent, to_answer, *told = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we could ask
        sys.exit(1)
    try:
        found = {"found": work(*told)}
    except Exception as error:  # noqa: BLE001 - who ran us says what is done about it
        found = {"failed": f"{type(error).__name__}: {error}"[:_MOST_TOLD]}
    with os.fdopen(int(to_answer), "w") as write:
        json.dump(found, write)
