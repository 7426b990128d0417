"""`nearvote feedback`."""

import hashlib
import json
from itertools import islice
from typing import Annotated, Any

import typer

from nearvote.cli.output import (
    ADDRESS,
    Address,
    Exit,
    Json,
    encodable,
    err,
    fail,
    moment,
    out,
    print_json,
    print_table,
    service,
    shortened,
    time_of,
)
from nearvote.client.feedback import Promotion
from nearvote.feedback.correction import Feedback, FeedbackState, Selection
from nearvote.learn.preview import Flip

app = typer.Typer(help="Submit corrections; list, preview, promote, reject and revoke them.", no_args_is_help=True)

_SHOWN = 20

Task = Annotated[str, typer.Option("--task", "-t", help="Their task.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `list` shows them.")]
Source = Annotated[str, typer.Option(help="Those of this source that are pending, instead of ids.")]
Since = Annotated[
    int | None, typer.Option(parser=moment, metavar="TIME", help="Submitted then or later, UTC where it names no zone.")
]
Until = Annotated[int | None, typer.Option(parser=moment, metavar="TIME", help="Submitted before then.")]


@app.command()
def submit(
    task: Annotated[str, typer.Option("--task", "-t", help="The task.")],
    label: Annotated[
        list[str], typer.Option("--label", "-l", help="The label it should have; several in a multi-label task.")
    ],
    source: Annotated[str, typer.Option(help="Who says so.")],
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="The text.")] = "",
    example: Annotated[str, typer.Option(metavar="ID", help="An example, instead of a text.")] = "",
    key: Annotated[str, typer.Option(help="Names the correction; made of what it says when not given.")] = "",
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Submit a correction. It waits, and does not vote until it is promoted. Submitted twice it is there once."""
    if bool(text) == bool(example):
        fail("give a TEXT or --example ID", Exit.USAGE)
    said = json.dumps([task, text, example, sorted(label), source]).encode()
    with service(address) as client:
        submitted = client.submit_feedback(
            encodable(key) or hashlib.sha256(said).hexdigest(),
            task,
            [encodable(one) for one in label],
            source=encodable(source),
            text=encodable(text),
            example_id=example,
        )
    feedback = submitted.feedback
    if as_json:
        print_json({**_document(feedback), "created": submitted.created})
    else:
        known = "" if submitted.created else ", submitted before"
        out.print(f"{feedback.state.value} {feedback.id}{known}", highlight=False)


@app.command("list")
def list_(
    task: Annotated[str, typer.Option("--task", "-t", help="Only those of this task.")] = "",
    state: Annotated[FeedbackState | None, typer.Option(help="Only those in this state.")] = None,
    source: Annotated[str, typer.Option(help="Only those from this source.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """List corrections, in the order of their ids."""
    with service(address) as client:
        found = list(islice(client.list_feedback(task, state=state, source=source), limit))
    if as_json:
        for one in found:
            print_json(_document(one))
        return
    rows = [
        (
            one.id,
            one.state.value,
            time_of(one.created_us),
            shortened(one.source, 30),
            one.task,
            ", ".join(one.labels),
            shortened(one.text),
        )
        for one in found
    ]
    print_table("", ("id", "state", "submitted", "source", "task", "labels", "text"), rows)


@app.command()
def preview(
    task: Task,
    ids: Ids = None,
    source: Source = "",
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Show what a promotion would change on the examples that are there, and change nothing."""
    with service(address) as client:
        shown = client.preview_promotion(_selection(task, ids, source, since, until))
    seen = shown.preview
    if seen is None:
        return
    if as_json:
        print_json(
            {
                **_counts(shown),
                "judged": seen.judged_count,
                "agreeing_before": seen.agreeing_before_count,
                "agreeing_after": seen.agreeing_after_count,
                "flipped": seen.flip_count,
                "flips": [_flip(flip) for flip in seen.flips],
            }
        )
        return
    out.print(
        f"{shown.count} corrections: {shown.new_count} new examples, {shown.relabeled_count} relabelled\n"
        f"of {seen.judged_count} examples the vote of all others agrees with {seen.agreeing_before_count} before, "
        f"{seen.agreeing_after_count} after; {seen.flip_count} come out otherwise",
        highlight=False,
    )
    rows = [
        (", ".join(flip.labels), _voted(flip.before), _voted(flip.after), flip.example_id, shortened(flip.text))
        for flip in seen.flips[:_SHOWN]
    ]
    if rows:
        more = f", the first {len(rows)} shown" if len(rows) < seen.flip_count else ""
        print_table(f"flips ({seen.flip_count}{more})", ("labels", "before", "after", "id", "text"), rows)
    _tell_refused(shown)


@app.command()
def promote(
    task: Task,
    ids: Ids = None,
    source: Source = "",
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Make examples of pending corrections. They vote in the very next prediction."""
    with service(address) as client:
        done = client.promote_feedback(_selection(task, ids, source, since, until))
    if as_json:
        print_json(_counts(done))
    else:
        out.print(
            f"{done.count} promoted: {done.new_count} new examples, {done.relabeled_count} relabelled", highlight=False
        )
        _tell_refused(done)
    raise typer.Exit(Exit.FAILED if done.refused else Exit.DONE)


@app.command()
def reject(
    task: Task,
    ids: Ids = None,
    source: Source = "",
    since: Since = None,
    until: Until = None,
    address: Address = ADDRESS,
) -> None:
    """Refuse pending corrections for good."""
    with service(address) as client:
        count = client.reject_feedback(_selection(task, ids, source, since, until))
    out.print(f"{count} rejected", highlight=False)


@app.command()
def revoke(
    source: Annotated[str, typer.Option(help="The source.")],
    task: Annotated[str, typer.Option("--task", "-t", help="Only those of this task.")] = "",
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Take back what a source has submitted: drop what is pending, undo what is promoted."""
    with service(address) as client:
        done = client.revoke_feedback(encodable(source), task=task, from_us=since or 0, until_us=until or 0)
    if as_json:
        print_json(
            {
                "dropped": done.dropped_count,
                "undone": done.undone_count,
                "deleted": done.deleted_count,
                "restored": done.restored_count,
                "kept": done.kept_count,
            }
        )
        return
    out.print(
        f"{done.dropped_count} dropped, {done.undone_count} undone: {done.deleted_count} examples deleted, "
        f"{done.restored_count} restored, {done.kept_count} left as others have them",
        highlight=False,
    )


def _selection(task: str, ids: list[str] | None, source: str, since: int | None, until: int | None) -> Selection:
    if bool(ids) == bool(source or since or until):
        fail("name IDs, or --source, --since or --until", Exit.USAGE)
    return Selection(task, tuple(ids or ()), encodable(source), since or 0, until or 0)


def _document(feedback: Feedback) -> dict[str, Any]:
    return {
        "id": feedback.id,
        "key": feedback.key,
        "state": feedback.state.value,
        "task": feedback.task,
        "text": feedback.text,
        "example_id": feedback.example_id,
        "labels": list(feedback.labels),
        "source": feedback.source,
        "created": time_of(feedback.created_us),
        "updated": time_of(feedback.updated_us),
    }


def _counts(promotion: Promotion) -> dict[str, Any]:
    return {
        "promoted": promotion.count,
        "new": promotion.new_count,
        "relabelled": promotion.relabeled_count,
        "refused": {id_: error.reason for id_, error in promotion.refused.items()},
    }


def _flip(flip: Flip) -> dict[str, Any]:
    return {
        "id": flip.example_id,
        "labels": list(flip.labels),
        "before": list(flip.before),
        "after": list(flip.after),
        "text": flip.text,
    }


def _voted(labels: tuple[str, ...]) -> str:
    return ", ".join(labels) or "none"


def _tell_refused(promotion: Promotion) -> None:
    for id_, error in list(promotion.refused.items())[:_SHOWN]:
        err.print(f"{id_}: {error}", style="red", markup=False, highlight=False)
    if len(promotion.refused) > _SHOWN:
        err.print(f"and {len(promotion.refused) - _SHOWN} more", style="red", highlight=False)
