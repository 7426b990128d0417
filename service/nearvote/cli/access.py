"""How the commands that talk to a service show who calls: options that all of them have, declared once."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# By these a command is known that talks to a service.
ADDRESS_VARIABLE = "NEARVOTE_ADDRESS"

_given: dict[str, str | bool | None] = {}


def given() -> dict[str, Any]:
    """What was said on the command line or in the environment, as arguments of a client."""
    return dict(_given)


def _option(name: str, metavar: str | None, text: str) -> Any:
    def remember(value: str | bool | None) -> None:
        _given[name] = value or None

    return typer.Option(
        envvar=f"NEARVOTE_{name.upper()}",
        metavar=metavar,
        help=text,
        callback=remember,
        expose_value=False,
        rich_help_panel="Who calls",
    )


_declared = typer.Typer(add_completion=False)


@_declared.command()
def _options(
    api_key: Annotated[
        str | None, _option("api_key", "KEY", "A key of the service. On the command line others may see it.")
    ] = None,
    tls_ca: Annotated[
        str | None, _option("tls_ca", "FILE", "Speak TLS with a service that these authorities vouch for, in PEM.")
    ] = None,
    tls_client_cert: Annotated[
        str | None, _option("tls_client_cert", "FILE", "The client's own certificate, in PEM.")
    ] = None,
    tls_client_key: Annotated[str | None, _option("tls_client_key", "FILE", "Its key, in PEM.")] = None,
    allow_insecure: Annotated[
        bool, _option("allow_insecure", None, "Send the key to another machine without TLS.")
    ] = False,
) -> None:
    """Never called: what it declares is added to other commands."""


class ServiceGroup(TyperGroup):
    """Commands, of which those that take a service's address are told who calls too."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        _add_options(self, list(typer.main.get_command(_declared).params))


def _add_options(command: Any, options: list[Any]) -> None:
    for below in getattr(command, "commands", {}).values():
        _add_options(below, options)
    if any(parameter.envvar == ADDRESS_VARIABLE for parameter in command.params):
        command.params += [option for option in options if option.name != "help"]
