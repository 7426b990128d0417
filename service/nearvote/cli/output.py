"""What all commands share: where the service is, how things are printed, and how commands end."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nearvote.cli.access import ADDRESS_VARIABLE, given
from nearvote.client.calls import DEFAULT_ADDRESS
from nearvote.client.errors import ClientError, ServiceError, ServiceUnreachable
from nearvote.client.sync import Client
from nearvote.errors import InvalidExample, NearvoteError
from nearvote.examples.files import time_of_text

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class Exit(IntEnum):
    """How a command ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_SERVICE = 3
    INVALID_LINES = 4


Address = Annotated[
    str,
    typer.Option("--address", "-a", envvar=ADDRESS_VARIABLE, help="Where the service is: host:port, or unix:path."),
]
Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON object a line.")]

ADDRESS = DEFAULT_ADDRESS

_LEAST_WIDTH = 20  # of a table's last column, however narrow the terminal


def moment(text: str) -> int:
    """An option's time, in microseconds since 1970-01-01 UTC."""
    try:
        return time_of_text(text)
    except InvalidExample:
        raise typer.BadParameter(f"'{text}' is no time such as 2026-11-21 or 2026-11-21T12:00:00Z") from None


@contextlib.contextmanager
def service(address: str) -> Iterator[Client]:
    """A client; its errors, and the parts' own, end the command with a line for people and a code for scripts."""
    with endings():
        try:
            client = Client(address, **given())
        except (ClientError, ValueError) as error:  # what was said of certificates and keys can't be right
            fail(str(error), Exit.USAGE)
        with client:
            yield client


@contextlib.contextmanager
def endings() -> Iterator[None]:
    """Errors end the command with a line for people and a code for scripts."""
    try:
        yield
    except ServiceUnreachable as error:
        fail(str(error), Exit.NO_SERVICE)
    except ServiceError as error:
        fail(str(error), Exit.FAILED)
    except NearvoteError as error:
        fail(f"{error.field}: {error.message}" if error.field else error.message, Exit.FAILED)
    except BrokenPipeError:  # whoever read us has seen enough
        sys.stderr.close()
        raise typer.Exit(Exit.DONE) from None


def fail(message: str, code: Exit) -> NoReturn:
    """Ends the command.

    Raises:
        typer.Exit: Always.
    """
    err.print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """Prints a JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table whose last column gives way where the terminal is too narrow; the others keep their width.

    Args:
        title: What stands above it; may be empty.
        columns: Their heads.
        rows: Cells, each of one line or more.
    """
    table = Table(title=Text(title) if title else None, title_justify="left", title_style="bold", box=SIMPLE)
    left = out.width - 2  # what the box takes
    for i, head in enumerate(columns):
        width = max(cell_len(line) for cell in (head, *(row[i] for row in rows)) for line in cell.split("\n"))
        if i == len(columns) - 1:
            width = min(width, max(left - 3, _LEAST_WIDTH))
        left -= width + 3  # and what lies between columns
        table.add_column(head, no_wrap=True, width=width, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=max(out.width, out.width - left)).print(table)


def write_whole(output: Path, lines: Iterable[str]) -> int:
    """Writes a file that appears whole or not at all, for its owner alone. Returns how many lines it has."""
    count = 0
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=output.parent, delete=False) as draft:
            try:
                for line in lines:
                    draft.write(line + "\n")
                    count += 1
                Path(draft.name).rename(output)
            except BaseException:
                Path(draft.name).unlink()
                raise
    except OSError as error:
        fail(f"{output} can't be written: {error.strerror}", Exit.USAGE)
    return count


def encodable(text: str) -> str:
    """A text as UTF-8 can carry it: bytes of an argument that are not UTF-8 become question marks."""
    return text.encode(errors="replace").decode()


def shortened(text: str, length: int = 100) -> str:
    """A text on one line, without what a terminal would take for orders, cut to a length in characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def time_of(micros: int) -> str:
    """A time for people, in UTC."""
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="seconds") if micros else "never"


class Bar:
    """A progress bar on standard error, drawn at a terminal; elsewhere a line when it is done.

    Args:
        what: What is being done, and in which unit.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._task = self._progress.add_task(what, total=None)
        self._started = self._ended = False

    def __call__(self, done: int, total: int) -> None:
        """Shows how far it is."""
        if self._ended:
            return
        if not self._started:
            self._progress.start()
            self._started = True
        self._done = done
        self._progress.update(self._task, completed=done, total=total)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._started and not self._ended:
            self._ended = True
            self._progress.stop()
            if not err.is_terminal:
                err.print(f"{self._what}: {self._done} done", highlight=False)
