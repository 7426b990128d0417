"""`nearvote tasks` and `nearvote info`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from nearvote.cli.output import ADDRESS, Address, Exit, Json, fail, out, print_json, print_table, service, time_of
from nearvote.tasks.document import task_from_document, task_to_document
from nearvote.tasks.task import Label, Task
from nearvote.voting.policy import Action, LabelPolicy

app = typer.Typer(help="List, create, show, change and delete tasks.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The task's name.")]
Description = Annotated[str | None, typer.Option(help="What it asks.")]
Benign = Annotated[str | None, typer.Option(help="The label that means: nothing to see here.")]
OutOfScope = Annotated[str | None, typer.Option(help="The label of examples of what the task is not about.")]
K = Annotated[int | None, typer.Option("-k", help="Neighbours that vote.")]
Temperature = Annotated[float | None, typer.Option(help="Similarity by which a vote falls to 1/e.")]
SurfaceWeight = Annotated[float | None, typer.Option(help="Weight of the surface view's vote, 0 to 1.")]
SurfaceExponent = Annotated[
    float | None, typer.Option(help="In the surface view, half the similarity has half the vote to this power.")
]
GroupShare = Annotated[
    float | None, typer.Option("--max-group-share", help="Part of the voters that may be of one source, 0 to 1.")
]
ScopeFloor = Annotated[float | None, typer.Option(help="In-scope score below which it abstains, 0 to 1.")]
ClassSize = Annotated[float | None, typer.Option(help="How far votes are corrected for class size, 0 to 1.")]
SimilarityFloor = Annotated[float | None, typer.Option(help="Nearest similarity below which it abstains, -1 to 1.")]
MarginFloor = Annotated[float | None, typer.Option(help="Margin below which it abstains, 0 to 1.")]
ScoreThreshold = Annotated[float | None, typer.Option(help="Score from which a label is given, multi-label, 0 to 1.")]
AbstentionAction = Annotated[
    str | None, typer.Option(metavar="ACTION", help="What an abstention leads to: allow, review, block, or none.")
]
ReviewScore = Annotated[
    list[str] | None,
    typer.Option(metavar="LABEL=SCORE", help="Show to a person from this score on; LABEL= for never."),
]
BlockScore = Annotated[
    list[str] | None, typer.Option(metavar="LABEL=SCORE", help="Stop from this score on; LABEL= for never.")
]


LabelThreshold = Annotated[
    list[str] | None,
    typer.Option(metavar="LABEL=SCORE", help="Give a label from this score on; LABEL= for the task's threshold."),
]
LabelMargin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL=MARGIN", help="A label is ambiguous below this margin; LABEL= for the task's margin floor."
    ),
]


@app.command("list")
def list_tasks(as_json: Json = False, address: Address = ADDRESS) -> None:
    """List the tasks."""
    with service(address) as client:
        tasks = list(client.list_tasks())
    if as_json:
        for task in tasks:
            print_json(task_to_document(task))
        return
    rows = [
        (
            task.name,
            "multi-label" if task.multi_label else "single-label",
            str(task.policy_version),
            time_of(task.updated_us),
            ", ".join(task.label_names),
        )
        for task in tasks
    ]
    print_table("", ("task", "kind", "version", "changed", "labels"), rows)


@app.command()
def show(name: Name, address: Address = ADDRESS) -> None:
    """Show a task as JSON, as `tasks create --file` takes it."""
    with service(address) as client:
        typer.echo(json.dumps(task_to_document(client.get_task(name)), indent=2, ensure_ascii=False))


@app.command()
def create(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The task's name; or --file.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="One of its labels.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A task as JSON, as `tasks show` prints it.")
    ] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A message may have several labels.")] = False,
    description: Description = None,
    benign: Benign = None,
    out_of_scope: OutOfScope = None,
    k: K = None,
    temperature: Temperature = None,
    surface_weight: SurfaceWeight = None,
    surface_exponent: SurfaceExponent = None,
    max_group_share: GroupShare = None,
    class_size_exponent: ClassSize = None,
    similarity_floor: SimilarityFloor = None,
    scope_floor: ScopeFloor = None,
    margin_floor: MarginFloor = None,
    score_threshold: ScoreThreshold = None,
    abstention_action: AbstentionAction = None,
    review_score: ReviewScore = None,
    block_score: BlockScore = None,
    label_threshold: LabelThreshold = None,
    label_margin_floor: LabelMargin = None,
    address: Address = ADDRESS,
) -> None:
    """Create a task."""
    if file is not None:
        if name is not None or label or multi_label:
            raise typer.BadParameter("a --file has name, labels and kind: leave them out here")
        task = _read(file)
    elif name is None or not label:
        raise typer.BadParameter("give a name and a --label or more, or a --file")
    else:
        task = Task(name, tuple(map(Label, label)), multi_label=multi_label)
    task, _ = _changed(
        task,
        description=description,
        benign_label=benign,
        out_of_scope_label=out_of_scope,
        k=k,
        temperature=temperature,
        surface_weight=surface_weight,
        surface_exponent=surface_exponent,
        max_group_share=max_group_share,
        class_size_exponent=class_size_exponent,
        similarity_floor=similarity_floor,
        scope_floor=scope_floor,
        margin_floor=margin_floor,
        score_threshold=score_threshold,
        abstention_action=abstention_action,
        label_scores={
            "review_score": review_score,
            "block_score": block_score,
            "score_threshold": label_threshold,
            "margin_floor": label_margin_floor,
        },
    )
    with service(address) as client:
        created = client.create_task(task)
    out.print(f"created task {created.name}", highlight=False)


@app.command()
def update(
    name: Name,
    add_label: Annotated[list[str] | None, typer.Option(help="A label to add.")] = None,
    remove_label: Annotated[
        list[str] | None, typer.Option(help="A label to take away; it must have no examples.")
    ] = None,
    description: Description = None,
    benign: Benign = None,
    out_of_scope: OutOfScope = None,
    k: K = None,
    temperature: Temperature = None,
    surface_weight: SurfaceWeight = None,
    surface_exponent: SurfaceExponent = None,
    max_group_share: GroupShare = None,
    class_size_exponent: ClassSize = None,
    similarity_floor: SimilarityFloor = None,
    scope_floor: ScopeFloor = None,
    margin_floor: MarginFloor = None,
    score_threshold: ScoreThreshold = None,
    abstention_action: AbstentionAction = None,
    review_score: ReviewScore = None,
    block_score: BlockScore = None,
    label_threshold: LabelThreshold = None,
    label_margin_floor: LabelMargin = None,
    address: Address = ADDRESS,
) -> None:
    """Change a task's labels or policy."""
    with service(address) as client:
        stored = client.get_task(name)
        task, fields = _changed(
            stored,
            description=description,
            benign_label=benign,
            out_of_scope_label=out_of_scope,
            k=k,
            temperature=temperature,
            surface_weight=surface_weight,
            surface_exponent=surface_exponent,
            max_group_share=max_group_share,
            class_size_exponent=class_size_exponent,
            similarity_floor=similarity_floor,
            scope_floor=scope_floor,
            margin_floor=margin_floor,
            score_threshold=score_threshold,
            abstention_action=abstention_action,
            label_scores={
                "review_score": review_score,
                "block_score": block_score,
                "score_threshold": label_threshold,
                "margin_floor": label_margin_floor,
            },
        )
        for known, wanted in ((False, add_label or []), (True, remove_label or [])):
            for label in wanted:
                if (label in stored.label_names) != known:
                    fail(f"task {name} has {'no' if known else 'a'} label {label}", Exit.USAGE)
        if add_label or remove_label:
            kept = [label for label in task.labels if label.name not in (remove_label or [])]
            added = [Label(label) for label in add_label or [] if label not in task.label_names]
            task, fields = replace(task, labels=(*kept, *added)), [*fields, "labels"]
        if not fields:
            raise typer.BadParameter("say what to change; --help shows what there is")
        updated = client.update_task(task, fields)
    out.print(f"task {updated.name} is at version {updated.policy_version}", highlight=False)


@app.command()
def delete(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Delete its examples too.")] = False,
    address: Address = ADDRESS,
) -> None:
    """Delete a task."""
    with service(address) as client:
        count = client.delete_task(name, force=force)
    out.print(f"deleted task {name} with {count} examples", highlight=False)


def info(as_json: Json = False, address: Address = ADDRESS) -> None:
    """Say what is running: version, encoder, limits, tasks and examples."""
    from dataclasses import asdict  # noqa: PLC0415

    with service(address) as client:
        running = client.info()
    if as_json:
        print_json(asdict(running))
        return
    encoder, limits = running.encoder, running.limits
    smaller = f", {encoder.label_agreement:.1%} of labels as in full precision" if encoder.label_agreement < 1 else ""
    out.print(
        f"nearvote {running.version}, store: {running.store}\n"
        f"you: {running.caller.name or 'nobody in particular'}, {running.caller.role}, tenant {running.caller.tenant}\n"
        f"encoder: {encoder.model}, {encoder.engine}, {encoder.dimension} dimensions, {encoder.pooling} pooling, "
        f"{encoder.max_tokens} tokens, revision {encoder.revision[:12]}{smaller}\n"
        f"limits: {', '.join(f'{name} {value}' for name, value in asdict(limits).items())}",
        markup=False,
        highlight=False,
    )
    rows = [
        (
            task.name,
            str(task.example_count),
            ", ".join(f"{label} {count}" for label, count in sorted(task.label_counts.items())),
        )
        for task in running.tasks
    ]
    print_table("", ("task", "examples", "by label"), rows)


def _read(file: Path) -> Task:
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
        task = task_from_document(document)
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}", Exit.USAGE)
    except (ValueError, TypeError):
        fail(f"{file} is not a task as `nearvote tasks show` prints it", Exit.USAGE)
    known = task_to_document(task)
    unknown = [*(document.keys() - known.keys()), *(document.get("policy", {}).keys() - known["policy"].keys())]
    if unknown:
        fail(f"{file} has fields that a task has not: {', '.join(sorted(unknown))}", Exit.USAGE)
    return task


def _changed(
    task: Task,
    *,
    description: str | None,
    benign_label: str | None,
    out_of_scope_label: str | None,
    label_scores: dict[str, list[str] | None],
    **policy: Any,
) -> tuple[Task, list[str]]:
    """The task with what was said on the command line, and the names of the fields that this changes."""
    said = {
        "description": description,
        "benign_label": benign_label,
        "out_of_scope_label": out_of_scope_label,
    }
    own: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    policy = {name: value for name, value in policy.items() if value is not None}
    if "abstention_action" in policy:
        policy["abstention_action"] = _action(policy["abstention_action"])
    labels = dict(task.policy.labels)
    for name, pairs in label_scores.items():
        for pair in pairs or []:
            label, equals, score = pair.partition("=")
            try:
                own_scores = replace(labels.get(label, LabelPolicy()), **{name: float(score) if score else None})
            except ValueError:
                raise typer.BadParameter(f"'{score}' is no number") from None
            if not equals:
                raise typer.BadParameter(f"'{pair}' is not LABEL=SCORE")
            labels[label] = own_scores
    labels = {label: scores for label, scores in labels.items() if scores != LabelPolicy()}
    if labels != dict(task.policy.labels):
        policy["labels"] = labels
    changed = replace(task, **own, policy=replace(task.policy, **policy))
    return changed, [*own, *(f"policy.{name}" for name in policy)]


def _action(name: str) -> Action | None:
    if name == "none":
        return None
    try:
        return Action(name)
    except ValueError:
        raise typer.BadParameter(f"'{name}' is not allow, review, block or none") from None
