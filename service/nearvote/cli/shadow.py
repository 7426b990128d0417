"""`nearvote shadow`."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from nearvote.cli.output import ADDRESS, Address, Exit, Json, fail, out, print_json, print_table, service, time_of
from nearvote.client.shadow import Shadow
from nearvote.voting.policy import Policy

app = typer.Typer(help="Try a policy, a fit or an encoder on live messages beside what serves.", no_args_is_help=True)

_POLICY: TypeAdapter[Policy] = TypeAdapter(Policy)

Task = Annotated[str, typer.Option("--task", "-t", help="The task.")]


@app.command()
def start(
    task: Task,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy as JSON; or a task with it, as `tasks show` prints it.")
    ] = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Try the encoder that `nearvote reindex` has made ready instead.")
    ] = False,
    share: Annotated[float, typer.Option(help="Share of the messages that it is tried on, above 0 and up to 1.")] = 0.1,
    address: Address = ADDRESS,
) -> None:
    """Begin to try a policy, or another encoder; its answers are counted, and told to nobody.

    `nearvote fit --shadow` tries a fit.
    """
    if (policy is None) is not encoder:
        fail("name what is to be tried: --policy FILE, or --encoder", Exit.USAGE)
    candidate = _read(policy) if policy else None
    with service(address) as client:
        shadow = client.start_shadow(task, candidate, share) if candidate else client.start_encoder_shadow(task, share)
    out.print(
        f"trying {shadow.encoder_model or 'a policy'} on {shadow.share:.1%} of {task}'s messages, beside version "
        f"{shadow.policy_version}; nearvote_shadow_predictions_total counts what comes of it",
        highlight=False,
    )


@app.command()
def status(as_json: Json = False, address: Address = ADDRESS) -> None:
    """Show what is tried, and in what it differs from what serves."""
    with service(address) as client:
        shadows = client.list_shadows()
        serving = {task.name: task.policy for task in client.list_tasks()}
    rows = []
    for shadow in shadows:
        served = serving.get(shadow.task, Policy())
        differing = [
            one.name for one in fields(Policy) if getattr(served, one.name) != getattr(shadow.policy, one.name)
        ]
        if as_json:
            print_json(
                {
                    "task": shadow.task,
                    "share": shadow.share,
                    "policy_version": shadow.policy_version,
                    "fit_version": shadow.fit_version,
                    "encoder_model": shadow.encoder_model,
                    "start_time": time_of(shadow.started_us),
                    "outdated": shadow.outdated,
                    "differs_in": differing,
                    "policy": _POLICY.dump_python(shadow.policy, mode="json"),
                }
            )
        what, state = _told(shadow)
        version, since = str(shadow.policy_version), time_of(shadow.started_us)
        rows.append((shadow.task, what, f"{shadow.share:.1%}", version, since, ", ".join(differing), state))
    if not as_json:
        print_table("", ("task", "tried", "share", "beside version", "since", "differs in", "state"), rows)


@app.command()
def promote(task: Task, address: Address = ADDRESS) -> None:
    """Let serve what is tried."""
    with service(address) as client:
        promoted = client.promote_shadow(task)
    out.print(f"task {task} is at version {promoted.policy_version}", highlight=False)


@app.command()
def stop(task: Task, address: Address = ADDRESS) -> None:
    """End a trial; what serves stays."""
    with service(address) as client:
        client.stop_shadow(task)
    out.print(f"nothing is tried for {task} any more", highlight=False)


def _told(shadow: Shadow) -> tuple[str, str]:
    """What is tried, and how that stands."""
    if shadow.encoder_model:
        what, else_, again = f"encoder {shadow.encoder_model}", ", or the encoder is not about to serve", "start"
    elif shadow.fit_version:
        what, else_, again = f"fit {shadow.fit_version}", ", or another fit took its place", "fit"
    else:
        what, else_, again = "policy", "", "start"
    return what, f"outdated: the task was changed{else_}; {again} it again" if shadow.outdated else "trying"


def _read(file: Path) -> Policy:
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
        document = document.get("policy", document)
        unknown = document.keys() - {field.name for field in fields(Policy)}
        policy = _POLICY.validate_python(document)
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}", Exit.USAGE)
    except (ValueError, TypeError, AttributeError):
        fail(f"{file} is neither a policy nor a task as `nearvote tasks show` prints it", Exit.USAGE)
    if unknown:
        fail(f"{file} has fields that a policy has not: {', '.join(sorted(unknown))}", Exit.USAGE)
    return policy
