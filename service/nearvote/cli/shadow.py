"""`nearvote shadow`."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from nearvote.cli.output import ADDRESS, Address, Exit, Json, fail, out, print_json, print_table, service, time_of
from nearvote.voting.policy import Policy

app = typer.Typer(help="Try a policy or an encoder on live messages beside the one that serves.", no_args_is_help=True)

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
    """Begin to try a policy, or another encoder; its answers are counted, and told to nobody."""
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
        if shadow.encoder_model:
            differing.insert(0, f"encoder: {shadow.encoder_model}")
        changed = "the task was changed" + (", or the encoder is not about to serve" if shadow.encoder_model else "")
        state = f"outdated: {changed}, start again" if shadow.outdated else "trying"
        if as_json:
            print_json(
                {
                    "task": shadow.task,
                    "share": shadow.share,
                    "policy_version": shadow.policy_version,
                    "start_time": time_of(shadow.started_us),
                    "outdated": shadow.outdated,
                    "differs_in": differing,
                    "encoder_model": shadow.encoder_model,
                    "policy": _POLICY.dump_python(shadow.policy, mode="json"),
                }
            )
        version, since = str(shadow.policy_version), time_of(shadow.started_us)
        rows.append((shadow.task, f"{shadow.share:.1%}", version, since, ", ".join(differing), state))
    if not as_json:
        print_table("", ("task", "share", "beside version", "since", "differs in", "state"), rows)


@app.command()
def promote(task: Task, address: Address = ADDRESS) -> None:
    """Let the policy serve that is tried."""
    with service(address) as client:
        promoted = client.promote_shadow(task)
    out.print(f"task {task} is at version {promoted.policy_version}", highlight=False)


@app.command()
def stop(task: Task, address: Address = ADDRESS) -> None:
    """End a trial; what serves stays."""
    with service(address) as client:
        client.stop_shadow(task)
    out.print(f"nothing is tried for {task} any more", highlight=False)


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
