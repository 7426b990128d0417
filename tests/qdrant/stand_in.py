"""The stand-in as a process: started, told what to do, killed, started again on the same port and folder."""

import json
import select
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.server import free_port

_SECONDS = 60  # to start or to answer, on machines that are busy


class StandIn:
    """A Qdrant server for tests, on a port of its own.

    Args:
        folder: Where it keeps its data; what is there is opened again.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "StandIn":
        """Starts it, and returns when it serves."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.qdrant.server", str(self.port), self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._line() == "ready", "the stand-in did not start"
        return self

    def tell(self, command: str) -> str:
        """Has a command obeyed, see `tests.qdrant.server`, and returns the answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        answer = self._line()
        assert not answer.startswith("not known"), answer
        return answer

    def calls(self) -> dict[str, int]:
        """How often each method was called."""
        counted: dict[str, int] = json.loads(self.tell("calls"))["calls"]
        return counted

    def retries(self) -> dict[str, int]:
        """How often a call of each method was a client's further try."""
        counted: dict[str, int] = json.loads(self.tell("calls"))["retries"]
        return counted

    def stop(self, number: signal.Signals | None = None) -> None:
        """Ends it: by a signal, or by the end of its input, which lets it close its files."""
        process, self._process = self._process, None
        if process is None:
            return
        if number is not None:
            process.send_signal(number)
        try:
            process.communicate(timeout=_SECONDS)
        finally:
            process.kill()

    def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _SECONDS)
        return self._process.stdout.readline().strip() if readable else ""
