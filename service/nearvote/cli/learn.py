"""`nearvote fit` and `nearvote evaluate`."""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nearvote.cli.output import (
    ADDRESS,
    Address,
    Bar,
    Exit,
    Json,
    endings,
    err,
    fail,
    out,
    print_json,
    print_table,
    service,
)
from nearvote.cli.report_tables import print_comparison, print_report
from nearvote.errors import InvalidField, NearvoteError
from nearvote.evaluate import Bench, Expected, load, outcomes_of, task_of
from nearvote.evaluate import fit as fit_task
from nearvote.examples.example import Draft
from nearvote.examples.files import ExampleFile
from nearvote.learn.comparison import compare, report_from_json, report_to_json
from nearvote.learn.goal import Goal, GoalKind, ValidationMessage
from nearvote.learn.jobs import JobState
from nearvote.learn.report import Outcome, Report, errors_to_lines, make_report
from nearvote.settings import read_settings
from nearvote.tasks.fit import Fit

_POLL_SECONDS = 0.2
_TASK = "evaluated"

Precision = Annotated[
    float | None, typer.Option("--target-precision", help="Share of given labels that must be right, in (0, 1].")
]
Recall = Annotated[
    float | None, typer.Option("--target-recall", help="Share of each label's messages that must get it, in (0, 1].")
]
FalsePositives = Annotated[
    float | None,
    typer.Option(
        "--max-false-positives",
        help="Of 1,000 benign or out-of-scope messages so many may get another label, 0 to 1000.",
    ),
]
ValidationFile = Annotated[
    Path | None,
    typer.Option(
        "--validation", metavar="FILE", help="Labelled messages to set floors on, instead of the examples themselves."
    ),
]
OutOfScope = Annotated[
    str, typer.Option("--oos", metavar="LABEL", help="Label of messages that the task is not about.")
]


def fit(
    task: Annotated[str, typer.Option("--task", "-t", help="The task.")],
    target_precision: Precision = None,
    target_recall: Recall = None,
    max_false_positives: FalsePositives = None,
    validation: ValidationFile = None,
    oos: OutOfScope = "",
    shadow: Annotated[
        float | None,
        typer.Option(
            "--shadow",
            metavar="SHARE",
            help="Try it on this share of the messages, above 0 and up to 1; it does not serve.",
        ),
    ] = None,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Go back to the fit before, and its policy, instead.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Show the fit that serves, and change nothing.")] = False,
    as_json: Json = False,
    address: Address = ADDRESS,
) -> None:
    """Learn a metric, prototypes, pool and floors from a task's examples, and let them serve.

    Floors are set for the best F1, or for the goal that is named. With --shadow the fit is tried beside what serves.
    """
    goal = _goal(target_precision, target_recall, max_false_positives)
    if roll_back + show + (goal != Goal() or validation is not None or shadow is not None) > 1:
        fail("--roll-back, --show, and a goal, --validation or --shadow exclude one another", Exit.USAGE)
    if shadow is not None and not 0 < shadow <= 1:  # 0 would let it serve
        fail("--shadow is above 0 and up to 1", Exit.USAGE)
    with service(address) as client:
        if roll_back:
            version = client.roll_back_fit(task)
            if as_json:
                print_json({"task": task, "version": version})
            else:
                serves = f"fit {version}" if version else "the plain metric"
                out.print(f"{task}: {serves} serves", highlight=False)
            return
        if show:
            _show_fit(task, client.get_fit(task), as_json=as_json)
            return
        messages = _validation_messages(validation, oos) if validation else ()
        job = client.start_fit(task, goal, messages, shadow_share=shadow or 0.0)
        bar = Bar("fit")
        try:
            while job.state is JobState.RUNNING:
                bar(int(job.progress * 100), 100)
                time.sleep(_POLL_SECONDS)
                job = client.fit_job(job.id)
        except KeyboardInterrupt:
            client.cancel_fit(job.id)
            fail("cancelled; what served before still serves", Exit.FAILED)
        bar(100, 100)
        if job.fit is None:
            fail(str(job.error) if job.error else f"the fit was {job.state.value}", Exit.FAILED)
        _show_fit(task, job.fit, as_json=as_json)
        if shadow and not as_json:
            out.print(
                f"it is tried on {shadow:.1%} of {task}'s messages, and serves when it is promoted: "
                f"nearvote shadow promote --task {task}",
                highlight=False,
            )


def evaluate(
    examples: Annotated[Path, typer.Option("--examples", "-e", metavar="FILE", help="Examples: JSON Lines or CSV.")],
    messages: Annotated[
        Path, typer.Option("--messages", "-m", metavar="FILE", help="Labelled messages: JSON Lines or CSV.")
    ],
    oos: OutOfScope = "",
    benign: Annotated[str, typer.Option(metavar="LABEL", help='Label that means "nothing to see here".')] = "",
    group: Annotated[str, typer.Option(metavar="FIELD", help="Field of the messages to report by.")] = "",
    fitted: Annotated[bool, typer.Option("--fit/--no-fit", help="Fit the task before it is asked.")] = True,
    target_precision: Precision = None,
    target_recall: Recall = None,
    max_false_positives: FalsePositives = None,
    validation: ValidationFile = None,
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write wrong predictions, with the neighbours that misled.")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report, for later comparison.")] = None,
    baseline: Annotated[
        Path | None, typer.Option("--compare", metavar="FILE", help="A report that an earlier run has saved.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="With --compare: by how much a figure may be worse.")
    ] = 0.01,
    as_json: Json = False,
) -> None:
    """Measure on files what the service would say, without a running service.

    With --compare it ends with 1 when a figure is worse than in the earlier run.
    """
    goal = _goal(target_precision, target_recall, max_false_positives)
    if not fitted and (goal != Goal() or validation is not None):
        fail("a goal or --validation is for a fit, and --no-fit leaves it out", Exit.USAGE)
    with endings():
        drafts = _read(examples)
        messages_read = _read(messages, source_field=group or "source")
        expected = [
            Expected(draft.text, () if oos and draft.labels == (oos,) else draft.labels, draft.source)
            for draft in messages_read
        ]
        if group and not any(one.group for one in expected):
            fail(f"no message has a field '{group}'", Exit.USAGE)
        if oos and not any(draft.labels == (oos,) for draft in (*drafts, *messages_read)):
            fail(f"no example and no message has the label '{oos}' that --oos names", Exit.USAGE)
        held_out = _validation_messages(validation, oos) if validation else ()
        former = None
        if baseline:
            try:
                former = report_from_json(json.loads(baseline.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, NearvoteError) as error:
                fail(f"{baseline} is no report that --save has written: {error}", Exit.USAGE)
        outcomes, fit_made = asyncio.run(_evaluate(drafts, expected, oos, benign, goal if fitted else None, held_out))
        outcomes = [Outcome(o.text, o.truth or oos, o.prediction, o.group if group else "") for o in outcomes]
        report = make_report(outcomes, out_of_scope=oos)
        _write(report, outcomes, oos, errors, save)
        comparison = compare(report, former) if former else None
        worse = comparison.worse(tolerance) if comparison else ()
        if as_json:
            fitted_to = dict(fit_made.figures) if fit_made else None
            print_json({**report_to_json(report), "worse": list(worse), "fit": fitted_to})
        else:
            if fit_made is not None:
                _show_fit("", fit_made, as_json=False)
            print_report(report)
            if comparison:
                print_comparison(comparison, tolerance)
    raise typer.Exit(Exit.FAILED if worse else Exit.DONE)


async def _evaluate(
    examples: Sequence[Draft],
    messages: Sequence[Expected],
    oos: str,
    benign: str,
    goal: Goal | None,
    validation: Sequence[ValidationMessage],
) -> tuple[list[Outcome], Fit | None]:
    from nearvote.wiring import parts_of  # noqa: PLC0415 - loads the encoder's libraries

    bars: dict[str, Bar] = {}

    def progress(what: str, done: int, total: int) -> None:
        bars.setdefault(what, Bar(what))(done, total)

    with tempfile.TemporaryDirectory(prefix="nearvote-") as folder:
        # Whatever server the environment names, nothing is to be written to it.
        settings = read_settings({"data_dir": folder, "seeds": False}).model_copy(update={"qdrant_url": None})
        async with parts_of(settings, lambda _done, _total: None) as parts:
            bench = Bench(parts.now.curator, parts.now.tasks, parts.now.learner, parts.now.classifier)
            task = task_of(_TASK, examples, benign=benign, out_of_scope=oos)
            await load(bench, task, examples, progress)
            made = await fit_task(bench, _TASK, goal, progress, validation) if goal else None
            return await outcomes_of(bench, task, messages, progress), made


def _goal(precision: float | None, recall: float | None, false_positives: float | None) -> Goal:
    given = [
        Goal(kind, value)
        for kind, value in (
            (GoalKind.TARGET_PRECISION, precision),
            (GoalKind.TARGET_RECALL, recall),
            (GoalKind.MAX_FALSE_POSITIVES, false_positives),
        )
        if value is not None  # 0 is a value
    ]
    if len(given) > 1:
        fail("name one goal: --target-precision, --target-recall or --max-false-positives", Exit.USAGE)
    goal = given[0] if given else Goal()
    try:
        goal.check()
    except InvalidField as error:
        fail(error.message, Exit.USAGE)
    return goal


def _read(path: Path, *, source_field: str = "source") -> list[Draft]:
    drafts: list[Draft] = []
    try:
        with path.open("rb") as lines:
            for number, draft in ExampleFile(
                lines, _TASK, is_csv=path.suffix.lower() == ".csv", source_field=source_field
            ):
                if isinstance(draft, NearvoteError):
                    fail(f"{path}, line {number}: {draft.message}", Exit.INVALID_LINES)
                drafts.append(draft)
    except OSError as error:
        fail(f"{path} can't be read: {error.strerror}", Exit.USAGE)
    if not drafts:
        fail(f"{path} has no lines", Exit.USAGE)
    return drafts


def _validation_messages(path: Path, oos: str) -> list[ValidationMessage]:
    return [
        ValidationMessage(draft.text, () if oos and draft.labels == (oos,) else draft.labels) for draft in _read(path)
    ]


def _write(report: Report, outcomes: Sequence[Outcome], oos: str, errors: Path | None, save: Path | None) -> None:
    try:
        if errors:
            errors.write_text(
                "".join(f"{line}\n" for line in errors_to_lines(outcomes, out_of_scope=oos)), encoding="utf-8"
            )
        if save:
            save.write_text(json.dumps(report_to_json(report), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{error.filename} can't be written: {error.strerror}", Exit.USAGE)


def _show_fit(task: str, made: Fit, *, as_json: bool) -> None:
    figures = made.figures
    if as_json:
        print_json({"task": task, "version": made.version, "replaced_version": made.replaced_version, **figures})
        return
    title = f"fit {made.version}" + (f" of {task}" if task else "")
    rows = [
        ("accuracy", f"{figures['accuracy_before']:.3f}", f"{figures['accuracy']:.3f}"),
        ("macro-F1", f"{figures['macro_f1_before']:.3f}", f"{figures['macro_f1']:.3f}"),
        (
            "expected calibration error",
            f"{figures['calibration_error_before']:.3f}",
            f"{figures['calibration_error']:.3f}",
        ),
        ("answered", "", f"{figures['coverage']:.1%}, {figures['accuracy_of_answered']:.1%} of that right"),
    ]
    print_table(
        f"{title}, {figures['example_count']} examples, {figures['judged_count']} texts judged",
        ("", "plain vote", "fit"),
        rows,
    )
    parts = [("metric", figures["has_metric"]), ("prototypes", figures["has_prototypes"])]
    out.print("learned: " + (", ".join(name for name, there in parts if there) or "the policy alone"), highlight=False)
    for note in figures["notes"]:
        err.print(note, markup=False, highlight=False)
