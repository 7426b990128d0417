"""`nearvote serve` and `nearvote optimize`: the commands that are the service, rather than talk to it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from nearvote.cli.output import Bar, Exit, endings, err, fail, out
from nearvote.errors import StoreUnavailable
from nearvote.memory import share_arenas
from nearvote.settings import Settings, ignored_variables, read_settings

Config = Annotated[Path | None, typer.Option("--config", "-c", help="A TOML file of settings. [env: NEARVOTE_CONFIG]")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the embedded store. [env: NEARVOTE_DATA_DIR]")]
QdrantUrl = Annotated[
    str | None, typer.Option(help="URL of a Qdrant server, instead of the embedded store. [env: NEARVOTE_QDRANT_URL]")
]
Model = Annotated[str | None, typer.Option(help="The encoder: hub id, or folder. [env: NEARVOTE_MODEL]")]
Revision = Annotated[str | None, typer.Option(help="Commit of a hub id. [env: NEARVOTE_MODEL_REVISION]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda. [env: NEARVOTE_DEVICE]")]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error. [env: NEARVOTE_LOG_LEVEL]")]


def serve(
    address: Annotated[
        str | None,
        typer.Option("--address", "-a", help="Where to serve: host:port, or unix:path. [env: NEARVOTE_ADDRESS]"),
    ] = None,
    metrics_address: Annotated[
        str | None,
        typer.Option(help="Where to serve /metrics: host:port, or `off`. [env: NEARVOTE_METRICS_ADDRESS]"),
    ] = None,
    data_dir: DataDir = None,
    qdrant_url: QdrantUrl = None,
    model: Model = None,
    model_revision: Revision = None,
    device: Device = None,
    seeds: Annotated[
        bool | None, typer.Option("--seeds/--no-seeds", help="Load the shipped examples at the first start.")
    ] = None,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Start the service.

    Flags come before the environment, the environment before the file. The README lists all settings.
    """
    settings = settings_of(
        config,
        address=address,
        metrics_address=metrics_address,
        data_dir=data_dir,
        qdrant_url=qdrant_url,
        model=model,
        model_revision=model_revision,
        device=device,
        seeds=seeds,
        log_level=log_level,
    )
    share_arenas()
    # Imported here: other commands need none of it.
    import uvloop  # noqa: PLC0415

    from nearvote.server import serve as run  # noqa: PLC0415

    with logged_endings():
        uvloop.run(run(settings, Bar("loading seeds") if err.is_terminal else _logged))


def optimize(
    data_dir: DataDir = None,
    vacuum: Annotated[
        bool,
        typer.Option("--vacuum", help="Write the store anew first, so that nothing deleted is left in its files."),
    ] = False,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Build the embedded store's search index, while the service is stopped.

    A start does it by itself for up to 20,000 new examples; 100,000 take a minute or two. Here other settings of
    vectors_on_disk and quantization come into force for what is stored.
    """
    settings = settings_of(config, data_dir=data_dir, log_level=log_level)
    from nearvote.examples.edge_engine import build_indexes, vacuum_collections  # noqa: PLC0415

    with logged_endings():
        if not (settings.data_dir / "collections").is_dir():
            fail(f"there is no store in {settings.data_dir}", Exit.USAGE)
        if vacuum:
            vacuum_collections(settings.data_dir)
        count = build_indexes(settings.data_dir, settings.vector_storage)
    out.print(f"{count} points indexed", highlight=False)
    raise typer.Exit(Exit.DONE)


@contextlib.contextmanager
def logged_endings() -> Iterator[None]:
    """As `endings`, and what the store's driver said goes to the log, where the message points to."""
    import structlog  # noqa: PLC0415

    from nearvote.rpc.status import cause_of  # noqa: PLC0415

    with endings():
        try:
            yield
        except StoreUnavailable as error:
            structlog.get_logger(__name__).error("store_unavailable", cause=cause_of(error))
            raise


def _logged(done: int, total: int) -> None:
    """Progress where nobody watches: in the log, which stays of one kind."""
    import structlog  # noqa: PLC0415

    structlog.get_logger(__name__).info("loading_seeds", done=done, total=total)


def settings_of(config: Path | None, **flags: Any) -> Settings:
    """The settings by flags, environment and file; a wrong one ends the command, an unknown variable is told of."""
    import structlog  # noqa: PLC0415

    from nearvote.observe.logs import configure_logs  # noqa: PLC0415
    from nearvote.startup_errors import InvalidSetting  # noqa: PLC0415

    try:
        settings = read_settings(flags, config)
    except InvalidSetting as error:
        fail(error.message, Exit.USAGE)
    configure_logs(settings.log_level, settings.log_format)
    for name, meant in ignored_variables(os.environ).items():
        structlog.get_logger(__name__).warning("variable_ignored", name=name, **({"meant": meant} if meant else {}))
    return settings
