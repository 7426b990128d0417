"""Work in a process of its own, for what takes memory that would stay, or holds the interpreter: a program of ours."""

import ctypes
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog

from nearvote.errors import Interrupted, NearvoteError

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
_MOST_LOGGED = 4_000  # characters, of what was written last

_log = structlog.get_logger(__name__)


class Interruption:
    """Whether nobody waits any more for what is done, and the processes that do it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._given_up = False

    @property
    def given_up(self) -> bool:
        """Whether it was given up."""
        return self._given_up

    def give_up(self) -> None:
        """Interrupts what runs apart, now and from now on."""
        with self._lock:
            self._given_up = True
            for process in self._running:
                process.send_signal(signal.SIGINT)

    @contextmanager
    def of(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Has a process interrupted when it is given up, or at once where it was."""
        with self._lock:
            self._running.add(process)
            if self._given_up:
                process.send_signal(signal.SIGINT)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(process)


_INTERRUPTION: ContextVar[Interruption | None] = ContextVar("interruption", default=None)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """What is done in here, also by threads that `asyncio.to_thread` starts, can be given up from outside."""
    interruption = Interruption()
    token = _INTERRUPTION.set(interruption)
    try:
        yield interruption
    finally:
        _INTERRUPTION.reset(token)


def check_interrupted() -> None:
    """Raises `Interrupted` where nobody waits any more: for what takes long in this process."""
    interruption = _INTERRUPTION.get()
    if interruption is not None and interruption.given_up:
        raise Interrupted("nobody waits for it any more")


def run_apart(work: str, *told: str, failure: Callable[[str], NearvoteError]) -> Any:
    """Runs a function of nearvote in a process of its own, to its end. What it prints is logged.

    On Linux the process is killed when the thread that waits for it ends, so also when this process does.

    Args:
        work: The function, as `module:name`. It takes strings, and returns what JSON can write.
        told: Its arguments.
        failure: Makes the error to raise from a text that says what failed.

    Returns:
        What it returned.

    Raises:
        NearvoteError: That of `failure`: it failed, ended without an answer, or could not be started.
        KeyboardInterrupt: It was interrupted, as all processes of a terminal are, and this is the main thread.
        Interrupted: It was interrupted, and this is another thread; or it was given up.
    """
    check_interrupted()
    interruption = _INTERRUPTION.get() or Interruption()
    # Not multiprocessing: that leaves a process that looks after its resources for as long as the service runs.
    # -P: what lies in the working directory is no module of ours.
    command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), work, *told]
    try:
        process = subprocess.Popen(  # noqa: S603 - ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise failure(f"no process can be started for it: {error.strerror}") from error
    with process, interruption.of(process):
        try:
            answered, printed = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGINT)  # it clears away what it has begun
            raise
    try:
        answer: dict[str, Any] = json.loads(answered)
    except ValueError:
        answer = {"failed": _end(process.returncode)}
    if "failed" in answer:
        check_interrupted()  # an interrupt may end it in other ways, as in the middle of an import
    if "failed" in answer and process.returncode == -signal.SIGINT:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        raise Interrupted(f"{work} was interrupted")
    if printed.strip():
        log = _log.warning if "failed" in answer else _log.info
        log("printed_apart", work=work, output=printed.strip()[-_MOST_LOGGED:])
    if "failed" in answer:
        raise failure(answer["failed"])
    return answer["returned"]


def _end(code: int) -> str:
    if code < 0:
        return f"the process was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"the process ended with {code}, and did not answer"


def _work() -> None:
    """The program. If the process that started it is gone, it ends at once with exit code 1."""
    parent, work, *told = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we could ask
        sys.exit(1)
    to_answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        answer = {"returned": pkgutil.resolve_name(work)(*told)}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the embedded store is no Exception
        traceback.print_exc()
        answer = {"failed": f"{type(error).__name__}: {error}"}
    with os.fdopen(to_answer, "w") as write:
        json.dump(answer, write)


if __name__ == "__main__":
    _work()
