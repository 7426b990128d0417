"""`nearvote audit` and `nearvote explain`."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from nearvote.audit.event import Event, ExampleState
from nearvote.audit.log import EventQuery
from nearvote.cli.classify import prediction_as_json, show_predictions
from nearvote.cli.output import (
    ADDRESS,
    Address,
    Json,
    moment,
    out,
    print_json,
    print_table,
    service,
    time_of,
    write_whole,
)
from nearvote.examples.files import text_of_time

app = typer.Typer(help="Who changed what, and when.", no_args_is_help=True)

Since = Annotated[
    int | None,
    typer.Option(
        parser=moment, metavar="TIME", help="Only from this time on, such as 2026-11-21 or 2026-11-21T12:00:00Z."
    ),
]
Until = Annotated[int | None, typer.Option(parser=moment, metavar="TIME", help="Only before this time.")]
OfTask = Annotated[str, typer.Option("--task", "-t", help="Only of this task.")]
By = Annotated[str, typer.Option("--actor", help="Only by this key or certificate.")]


@app.command("list")
def list_(
    since: Since = None,
    until: Until = None,
    task: OfTask = "",
    actor: By = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """List changes, in the order of time."""
    query = _query(since, until, task, actor)
    with service(address) as client:
        events = list(islice(client.audit_events(query), limit))
    if as_json:
        for event in events:
            print_json(event_as_json(event))
        return
    rows = [
        (time_of(event.time_us), event.actor or "-", event.address or "-", event.change.task, _told(event))
        for event in events
    ]
    print_table("", ("time", "actor", "address", "task", "what"), rows)


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="A file of JSON Lines.")],
    since: Since = None,
    until: Until = None,
    task: OfTask = "",
    actor: By = "",
    address: Address = ADDRESS,
) -> None:
    """Export changes as JSON Lines, in the order of time."""
    query = _query(since, until, task, actor)
    with service(address) as client:
        count = write_whole(output, (json.dumps(event_as_json(one)) for one in client.audit_events(query)))
    out.print(f"{count} events exported to {output}", highlight=False)


def explain(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="As `classify --json` shows it.")],
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Show what an answer was made of, where the service keeps that (`explain_hours`)."""
    with service(address) as client:
        explanation = client.explain(request_id)
    answer = explanation.classification
    if as_json:
        for prediction in answer.predictions:
            known = prediction_as_json("", prediction, answer.window_count, request_id)
            del known["text"]
            for neighbor in known["neighbors"]:
                del neighbor["text"], neighbor["source"]  # neither is kept
            print_json(
                {
                    "time": text_of_time(explanation.time_us),
                    "expires": text_of_time(explanation.expires_us),
                    "policy_version": prediction.policy_version,
                    "examples_version": prediction.examples_version,
                    "encoder_key": answer.encoder_key,
                    **known,
                }
            )
        return
    out.print(
        f"answered {time_of(explanation.time_us)}, known until {time_of(explanation.expires_us)}", highlight=False
    )
    show_predictions(request_id, answer.predictions, answer.window_count)


def event_as_json(event: Event) -> dict[str, Any]:
    """An event for programs; what does not apply is left out."""
    change = event.change
    document = {
        "id": event.id,
        "time": text_of_time(event.time_us),
        "actor": event.actor,
        "address": event.address,
        "action": change.action.value,
        "task": change.task,
        "example_count": change.example_count,
        "examples": [
            {"id": one.id, "before": _state(one.before), "after": _state(one.after)} for one in change.examples
        ],
        "policy_versions": list(change.policy_versions) if any(change.policy_versions) else [],
        "fit_versions": list(change.fit_versions) if any(change.fit_versions) else [],
        "changed_fields": list(change.changed_fields),
        "selected_by": list(change.selected_by),
        "failed_event_id": event.failed_event_id,
    }
    always = {"id", "time", "actor", "address", "action", "task"}
    return {name: value for name, value in document.items() if name in always or value}


def _state(state: ExampleState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {
        "labels": list(state.labels),
        "weight": state.weight,
        "source": state.source,
        **({} if state.expires_us is None else {"expires": text_of_time(state.expires_us)}),
    }


def _told(event: Event) -> str:
    """What was done, on a line."""
    change = event.change
    parts = (
        part
        for part in (
            f"failed: {change.action.value}" if event.failed_event_id else change.action.value,
            f"{change.example_count}" if change.example_count else "",
            ", ".join(change.changed_fields),
            "policy {} to {}".format(*change.policy_versions) if any(change.policy_versions) else "",
            "fit {} to {}".format(*change.fit_versions) if any(change.fit_versions) else "",
        )
        if part
    )
    return "; ".join(parts)


def _query(since: int | None, until: int | None, task: str, actor: str) -> EventQuery:
    return EventQuery(since or 0, until, task=task, actor=actor)
