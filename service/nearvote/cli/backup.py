"""`nearvote backup` and `nearvote restore`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearvote.cli.output import Bar, Exit, fail, out, time_of
from nearvote.cli.serve import Config, DataDir, LogLevel, QdrantUrl, logged_endings, settings_of

if TYPE_CHECKING:
    from nearvote.backup import Contents


def backup(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file; replaced where there is one.")],
    data_dir: DataDir = None,
    qdrant_url: QdrantUrl = None,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Write everything that is stored to one file: examples with their vectors, tasks, fits, corrections.

    The embedded store is backed up while the service is stopped; a Qdrant server's also while nobody writes.
    """
    settings = settings_of(config, data_dir=data_dir, qdrant_url=qdrant_url, log_level=log_level)
    from nearvote.wiring import back_up_to  # noqa: PLC0415

    with logged_endings():
        try:
            contents = asyncio.run(back_up_to(settings, output, Bar("backing up, points")))
        except OSError as error:
            fail(f"{output} can't be written: {error.strerror}", Exit.USAGE)
    out.print(f"{_told(contents)} backed up to {output}", highlight=False)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of what is stored; else the store has to be empty.")
    ] = False,
    data_dir: DataDir = None,
    qdrant_url: QdrantUrl = None,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Put a backup into a store, of either kind, while the service is stopped.

    It is checked whole before anything is written. Cut short, the store has all of the old or all of the new.
    """
    settings = settings_of(config, data_dir=data_dir, qdrant_url=qdrant_url, log_level=log_level)
    from nearvote.wiring import restore_from  # noqa: PLC0415

    with logged_endings():
        try:
            contents = asyncio.run(restore_from(settings, file, Bar("restoring, points"), replace=replace))
        except OSError as error:
            fail(f"{file} can't be read: {error.strerror}", Exit.USAGE)
    out.print(
        f"{_told(contents)} restored, of {contents.space.model}, backed up {time_of(contents.created_us)}",
        highlight=False,
    )


def _told(contents: "Contents") -> str:
    return (
        f"{contents.point_count} windows of examples, {contents.document_count} documents "
        f"and {contents.feedback_count} corrections"
    )
