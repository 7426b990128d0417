"""The command line."""

from typing import Annotated

import typer

from nearvote.cli import (
    audit,
    backup,
    check,
    classify,
    examples,
    feedback,
    health,
    keys,
    learn,
    reindex,
    serve,
    shadow,
    tasks,
)
from nearvote.cli import map as map_command
from nearvote.cli.access import ServiceGroup
from nearvote.version import VERSION

app = typer.Typer(
    name="nearvote",
    cls=ServiceGroup,
    help="Labels messages by the vote of their nearest labelled examples.",
    epilog="Exit codes: 0 done; 1 the service refused or failed; 2 wrong usage; 3 no service; 4 invalid lines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, which may hold texts
)
app.command("serve")(serve.serve)
app.command("reindex")(reindex.reindex)
app.command("optimize")(serve.optimize)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("classify")(classify.classify)
app.command("explain")(audit.explain)
app.command("fit")(learn.fit)
app.command("evaluate")(learn.evaluate)
app.command("map")(map_command.map_)
app.command("health")(health.health)
app.command("info")(tasks.info)
examples.app.command("check")(check.check)
app.add_typer(examples.app, name="examples")
app.add_typer(feedback.app, name="feedback")
app.add_typer(tasks.app, name="tasks")
app.add_typer(shadow.app, name="shadow")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if show:
        typer.echo(VERSION)
        raise typer.Exit


def main() -> None:
    """Runs the command line."""
    app()
