"""`nearvote keys`: who may call a service."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from nearvote.access.caller import DEFAULT_TENANT, Role
from nearvote.access.key_file import ROLE_NAMES, change_keys, read_keys
from nearvote.access.keys import Entry, new_key
from nearvote.cli.output import Exit, Json, endings, err, fail, out, print_json, print_table
from nearvote.startup_errors import InvalidSetting

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", help="The file of keys; that of the settings when not given. [env: NEARVOTE_API_KEYS]"
    ),
]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="A TOML file of settings. [env: NEARVOTE_CONFIG]")]
Name = Annotated[str, typer.Option("--name", "-n", help="What the caller is called.")]


@app.command()
def create(
    name: Name,
    role: Annotated[str, typer.Option("--role", "-r", metavar="|".join(ROLE_NAMES), help="What the caller may do.")],
    tenant: Annotated[str, typer.Option(help="Whose tasks and examples the caller reads and writes.")] = DEFAULT_TENANT,
    certificate: Annotated[
        str | None,
        typer.Option(metavar="CN", help="No key: the caller shows a client certificate of this common name."),
    ] = None,
    file: File = None,
    config: Config = None,
) -> None:
    """Create a key, and print it: it is shown this once, and the file has only its hash.

    classify labels messages; curate also reads and writes examples; admin also changes tasks and fits. A running
    service takes it up at once.
    """
    if role not in ROLE_NAMES:
        raise typer.BadParameter(f"'{role}' is not {', '.join(ROLE_NAMES[:-1])} or {ROLE_NAMES[-1]}")
    key, entry = new_key(name, Role[role.upper()], tenant)
    if certificate is not None:
        key, entry = "", Entry(name, entry.role, tenant, certificate=certificate)
    entry = replace(entry, created=datetime.now(UTC).isoformat(timespec="seconds"))

    def add(present: tuple[Entry, ...]) -> tuple[Entry, ...]:
        if any(one.name == name for one in present):
            raise InvalidSetting(
                f"there is a key of the name {name} already: revoke it, or choose another", field="name"
            )
        return (*present, entry)

    with endings():
        change_keys(_path(file, config), add)
    if key:
        typer.echo(key)
        err.print("this is the only time that the key is shown", highlight=False)
    else:
        err.print(f"certificates of {certificate} are {name}", markup=False, highlight=False)


@app.command("list")
def list_keys(as_json: Json = False, file: File = None, config: Config = None) -> None:
    """List the keys, without what they are."""
    with endings():
        entries = read_keys(_path(file, config)).entries
    rows = [
        {
            "name": entry.name,
            "role": entry.role.name.lower(),
            "tenant": entry.tenant,
            "begins": f"nearvote_{entry.id}" if entry.id else "",
            "certificate": entry.certificate,
            "created": entry.created,
        }
        for entry in entries
    ]
    if as_json:
        for row in rows:
            print_json(row)
        return
    heads = ("name", "role", "tenant", "key or certificate", "created")
    print_table(
        "",
        heads,
        [
            (row["name"], row["role"], row["tenant"], row["begins"] or f"CN={row['certificate']}", row["created"])
            for row in rows
        ],
    )


@app.command()
def revoke(name: Name, file: File = None, config: Config = None) -> None:
    """Revoke a key: a running service refuses it from the next call or request on."""

    def without(present: tuple[Entry, ...]) -> tuple[Entry, ...]:
        left = tuple(one for one in present if one.name != name)
        if left == present:
            raise InvalidSetting("there is no key of this name; `nearvote keys list` shows those that there are")
        return left

    with endings():
        change_keys(_path(file, config), without)
    out.print(f"revoked {name}", markup=False, highlight=False)


def _path(file: Path | None, config: Path | None) -> Path:
    from nearvote.settings import read_settings  # noqa: PLC0415 - it takes as long as all the rest

    try:
        path = read_settings({"api_keys": file}, config).api_keys
    except InvalidSetting as error:
        fail(error.message, Exit.USAGE)
    if path is None:
        fail("say which file: --file FILE, or NEARVOTE_API_KEYS, or api_keys in the --config", Exit.USAGE)
    return path
