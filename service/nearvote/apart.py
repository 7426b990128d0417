"""Work in a process of its own, for what takes memory that would stay, or holds the interpreter: a program of ours."""

import ctypes
import os
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


def run_apart(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of nearvote as a program, to its end. It ends with this process, if that is earlier.

    Args:
        module: Its name. It reads its arguments by `arguments`.
        arguments: What it is told.

    Returns:
        How it ended, and what it wrote.

    Raises:
        KeyboardInterrupt: It was interrupted from the keyboard, and we with it.
    """
    # Not multiprocessing: that leaves a process that looks after its resources for as long as the service runs.
    # -P: what lies in the working directory is no module of ours.
    command = [sys.executable, "-P", "-m", module, str(os.getpid()), *arguments]
    done = subprocess.run(  # noqa: S603 - ours
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    return done


def arguments() -> list[str]:
    """What `run_apart` was told, in the program that it runs. From here on the program ends with who runs it: on Linux.

    Other systems only see to it that whoever runs it is there now.
    """
    parent, *told = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we could ask
        sys.exit(1)
    return told
