"""The use of evaluation: examples and labelled messages in, what the service makes of them out.

It takes the way of the service itself: the same store, the same votes, the same fit.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nearvote.access.caller import DEFAULT_TENANT
from nearvote.classify import Classifies, Options
from nearvote.curate import Curator
from nearvote.errors import CannotFit, InvalidField, NearvoteError
from nearvote.examples.example import Draft
from nearvote.learn.goal import Goal, ValidationMessage
from nearvote.learn.jobs import JobState
from nearvote.learn.learner import Learner
from nearvote.learn.report import Outcome
from nearvote.tasks.fit import Fit
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Label, Task

_CHUNK = 64
_POLL_SECONDS = 0.05

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Expected:
    """A message, the labels that it should have, and which messages it is counted with."""

    text: str
    labels: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """The parts of a service that an evaluation uses."""

    curator: Curator
    tasks: TaskRegistry
    learner: Learner
    classifier: Classifies


def task_of(
    name: str, examples: Sequence[Draft], *, benign: str = "", out_of_scope: str = "", multi_label: bool = False
) -> Task:
    """A task with the labels that its examples have.

    Raises:
        InvalidField: No example has the benign label.
    """
    labels = sorted({label for draft in examples for label in draft.labels})
    if benign and benign not in labels:
        raise InvalidField(f"no example has the label '{benign}'", field="benign")
    return Task(
        name=name,
        labels=tuple(map(Label, labels)),
        multi_label=multi_label or any(len(draft.labels) > 1 for draft in examples),
        benign_label=benign,
        out_of_scope_label=out_of_scope if out_of_scope in labels else "",
    )


async def load(bench: Bench, task: Task, examples: Sequence[Draft], progress: Progress) -> None:
    """Creates a task and adds its examples, as an import would.

    Raises:
        NearvoteError: The task, or an example, can't be right.
    """
    await bench.tasks.create(DEFAULT_TENANT, task)
    for start in range(0, len(examples), _CHUNK):
        chunk = [replace(draft, task=task.name) for draft in examples[start : start + _CHUNK]]
        imported = await bench.curator.import_chunk(DEFAULT_TENANT, chunk, validate_only=False)
        if imported.rejected:
            first = min(imported.rejected)
            raise imported.rejected[first].at(f"example {start + first + 1}")
        progress("examples", start + len(chunk), len(examples))


async def fit(
    bench: Bench, task: str, goal: Goal, progress: Progress, validation: Sequence[ValidationMessage] = ()
) -> Fit:
    """Fits a task, and returns when it serves.

    Raises:
        CannotFit: The fit failed for a reason that is in the log.
        NearvoteError: What the fit failed for.
    """
    job = await bench.learner.start_fit(DEFAULT_TENANT, task, goal, validation)
    while job.state is JobState.RUNNING:
        progress("fit", int(job.progress * 100), 100)
        await asyncio.sleep(_POLL_SECONDS)
    progress("fit", 100, 100)
    if job.fit is None:
        error: NearvoteError = job.error or CannotFit("the fit failed; its cause is in the log")
        raise error
    return job.fit


async def outcomes_of(bench: Bench, task: Task, messages: Sequence[Expected], progress: Progress) -> list[Outcome]:
    """What the service says of messages, beside what it should say. A message without labels is out of scope.

    Args:
        bench: The service.
        task: The task that is asked.
        messages: The messages.
        progress: Told what is done, how much of it, and of how much.
    """
    outcomes: list[Outcome] = []
    for start in range(0, len(messages), _CHUNK):
        chunk = messages[start : start + _CHUNK]
        found = await bench.classifier.classify(
            DEFAULT_TENANT, [message.text for message in chunk], [task.name], Options(with_texts=True)
        )
        outcomes += [
            Outcome(message.text, "|".join(message.labels), one.predictions[0], message.group)
            for message, one in zip(chunk, found, strict=True)
        ]
        progress("messages", len(outcomes), len(messages))
    return outcomes
