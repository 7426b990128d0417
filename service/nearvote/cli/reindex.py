"""`nearvote reindex`: another encoder, by a service that runs or on a store that none has open."""

import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nearvote.cli.access import ADDRESS_VARIABLE
from nearvote.cli.direct import Direct
from nearvote.cli.output import (
    ADDRESS,
    Bar,
    Exit,
    Json,
    err,
    fail,
    out,
    print_json,
    print_table,
    service,
    shortened,
)
from nearvote.cli.serve import (
    Config,
    DataDir,
    Device,
    LogLevel,
    Model,
    QdrantUrl,
    Revision,
    logged_endings,
    settings_of,
)
from nearvote.client.errors import ServiceUnreachable
from nearvote.client.reindex import Reindex, Reindexing
from nearvote.reindex.status import Phase

_LOOK_SECONDS = 0.2
_WORKING = (Phase.LOADING, Phase.EMBEDDING, Phase.COMPARING)

_Doing = Reindexing | Direct


def reindex(
    context: typer.Context,
    model: Model = None,
    model_revision: Revision = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Switch as soon as it is ready, without asking.")] = False,
    switch: Annotated[bool, typer.Option("--switch", help="Switch to what was embedded.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Go back to the encoder that served before.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Let go of what was embedded.")] = False,
    drop_former: Annotated[
        bool, typer.Option("--drop-former", help="Let go of what served before: no going back then.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show how far it is.")] = False,
    changes: Annotated[int, typer.Option(min=0, max=100, help="Show so many changes of each task.")] = 5,
    as_json: Json = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            envvar=ADDRESS_VARIABLE,
            help=f"Where the service is. Not named, and nobody at {ADDRESS}: the store itself is opened.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    qdrant_url: QdrantUrl = None,
    device: Device = None,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Change the encoder: embed all examples again, compare, and switch.

    A service that runs does it, and answers throughout; with --data-dir, --qdrant-url or --config, or where no service
    answers, the store is opened directly. Cut short, the next run goes on.
    """
    if sum((switch, back, cancel, drop_former, status)) > 1:
        fail("one of --switch, --back, --cancel, --drop-former and --status at a time", Exit.USAGE)
    flags = {
        "model": model,
        "model_revision": model_revision,
        "data_dir": data_dir,
        "qdrant_url": qdrant_url,
        "device": device,
        "log_level": log_level,
    }
    names_store = any(value is not None for value in (data_dir, qdrant_url, config))
    with contextlib.ExitStack() as stack:
        source = context.get_parameter_source("address")
        asked = source is not None and source.name == "COMMANDLINE"
        reached = None if names_store else _service(stack, address or ADDRESS, must_answer=asked)
        doing: _Doing
        if reached is not None:
            doing = reached
        else:
            stack.enter_context(logged_endings())
            settings = settings_of(config, **flags)
            doing = stack.enter_context(Direct(settings))
            model, model_revision = settings.model, settings.model_revision
        if cancel or drop_former or status:
            _print((doing.cancel if cancel else doing.drop_former if drop_former else doing.status)(), changes, as_json)
            return
        _change(doing, model, model_revision, changes, switch=switch, back=back, yes=yes, as_json=as_json)


def _service(stack: contextlib.ExitStack, address: str, *, must_answer: bool) -> Reindexing | None:
    """What does it in the service at an address; None where none answers, and none has to."""
    client = stack.enter_context(service(address))
    try:
        client.reindex.status()
    except ServiceUnreachable:
        if must_answer:
            raise
        return None
    return client.reindex


def _change(
    doing: _Doing,
    model: str | None,
    revision: str | None,
    changes: int,
    *,
    switch: bool,
    back: bool,
    yes: bool,
    as_json: bool,
) -> None:
    now = doing.status()
    if not (switch and now.phase is Phase.READY):
        if now.phase not in _WORKING:
            named = "" if switch or back else _as_seen_there(model or "")
            now = doing.start(named, "" if switch or back else revision or "", back=back)
        now = _followed(doing, now)
    if now.phase is Phase.FAILED:
        fail(str(now.error) if now.error else "it failed; why is in the service's log", Exit.FAILED)
    if now.phase is not Phase.READY:
        fail("it was stopped, or has been switched to elsewhere", Exit.FAILED)
    if not as_json:
        _print(now, changes, as_json)
    if switch or back or yes or _asked(as_json=as_json):
        now = doing.switch()
        _print(now, changes, as_json)
    elif as_json:
        _print(now, changes, as_json)
    else:
        err.print(
            "nothing has changed yet: `nearvote reindex --switch` switches, `--cancel` lets go of it", highlight=False
        )


def _as_seen_there(model: str) -> str:
    """A folder's name as it is known whatever the service's own folder is."""
    return str(Path(model).resolve()) if model and Path(model).is_dir() else model


def _asked(*, as_json: bool) -> bool:
    return not as_json and err.is_terminal and typer.confirm("Switch to it?", err=True)


def _followed(doing: _Doing, now: Reindex) -> Reindex:
    """Shows how far it is, until it is ready, or has failed."""
    bar = Bar("embedding examples")
    try:
        while now.phase in _WORKING:
            if now.phase is Phase.EMBEDDING and now.total:
                bar(now.done, now.total)
            doing.wait(_LOOK_SECONDS) if isinstance(doing, Direct) else time.sleep(_LOOK_SECONDS)
            now = doing.status()
        if now.phase is Phase.READY:
            bar(now.total, now.total)
    finally:
        bar.close()
    return now


def _print(now: Reindex, changes: int, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                **asdict(now),
                "phase": now.phase.value,
                "comparisons": [asdict(one) for one in now.comparisons],
                "error": str(now.error) if now.error else None,
            }
        )
        return
    out.print(f"{now.serving_model} serves", highlight=False)
    if now.building_model:
        out.print(f"{now.building_model}: {now.phase.value}, {now.done} of {now.total} examples", highlight=False)
    if now.former_model:
        out.print(
            f"{now.former_model} served before: `--back` goes back, `--drop-former` lets go of it", highlight=False
        )
    if now.left_out_count:
        err.print(
            f"{now.left_out_count} examples are left out: the other encoder reads nothing in them", highlight=False
        )
    for task in now.unfitted_tasks:
        err.print(f"{task}: its fit was of the former encoder; fit it again", highlight=False)
    if now.comparisons:
        _print_comparisons(now, changes)


def _print_comparisons(now: Reindex, changes: int) -> None:
    print_table(
        "accuracy on the examples, each judged by the others",
        ("task", "examples", now.serving_model, now.building_model, "changed", ""),
        [
            (
                one.task,
                str(one.judged_count),
                f"{one.accuracy_before:.3f}",
                f"{one.accuracy_after:.3f}",
                str(one.changed_count),
                "fitted: fit it again after the switch" if one.is_fitted else "",
            )
            for one in now.comparisons
        ],
    )
    shown = [(one.task, changed) for one in now.comparisons for changed in one.changed[:changes]]
    if shown:
        print_table(
            "some of what changes",
            ("task", "is", "was called", "would be", "text"),
            [
                (
                    task,
                    _labels(one.labels),
                    _labels(one.before),
                    _labels(one.after),
                    shortened(one.text),
                )
                for task, one in shown
            ],
        )


def _labels(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) or "-"
