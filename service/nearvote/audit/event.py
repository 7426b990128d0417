"""What is recorded of changes: who made which, when, from where, before and after. Never a text."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What was done."""

    EXAMPLES_ADDED = "examples_added"
    EXAMPLES_CHANGED = "examples_changed"
    EXAMPLES_DELETED = "examples_deleted"
    EXAMPLES_EXPIRED = "examples_expired"
    EXAMPLES_PROMOTED = "examples_promoted"
    TASK_CREATED = "task_created"
    TASK_UPDATED = "task_updated"
    TASK_DELETED = "task_deleted"
    TASK_FITTED = "task_fitted"
    FIT_ROLLED_BACK = "fit_rolled_back"
    SHADOW_PROMOTED = "shadow_promoted"
    SHADOW_STARTED = "shadow_started"
    SHADOW_STOPPED = "shadow_stopped"
    STORE_RESTORED = "store_restored"
    ENCODER_SWITCHED = "encoder_switched"


@dataclass(frozen=True, slots=True)
class ExampleState:
    """What is recorded of an example.

    Attributes:
        labels: Its labels.
        weight: How much its vote counts.
        source: Where it comes from; may be empty.
        expires_us: When it ends, in microseconds since 1970-01-01 UTC; never when None.
    """

    labels: tuple[str, ...]
    weight: float
    source: str
    expires_us: int | None = None


@dataclass(frozen=True, slots=True)
class ExampleChange:
    """An example before, None when it was added, and after, None when it was deleted."""

    id: str
    before: ExampleState | None
    after: ExampleState | None


@dataclass(frozen=True, slots=True)
class Change:
    """What was done.

    Attributes:
        action: What.
        task: To which task, or to examples of which task.
        examples: The examples, before and after.
        example_count: How many there were; of a task that was deleted they are not listed.
        policy_versions: Of the task, before and after; 0 for none, and where it was not changed.
        fit_versions: The same of the fit that serves it.
        changed_fields: What was changed of the task.
        selected_by: What examples to be deleted were chosen by.
    """

    action: Action
    task: str
    examples: tuple[ExampleChange, ...] = ()
    example_count: int = 0
    policy_versions: tuple[int, int] = (0, 0)
    fit_versions: tuple[int, int] = (0, 0)
    changed_fields: tuple[str, ...] = ()
    selected_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A change, and who made it.

    Attributes:
        id: A UUID; ids are in the order of time.
        tenant: Whose it is.
        time_us: When, in microseconds since 1970-01-01 UTC.
        actor: Name of the key or certificate of who made it; empty where neither is asked for.
        address: Where the call came from; empty when the service did it by itself.
        change: What was done.
        failed_event_id: The event whose change this one says has failed; empty for all others.
    """

    id: str
    tenant: str
    time_us: int
    actor: str
    address: str
    change: Change
    failed_event_id: str = ""


def of_examples(
    action: Action, changes: Iterable[tuple[str, ExampleChange]], selected_by: Sequence[str] = ()
) -> list[Change]:
    """Changes of examples, each with its task, as one change a task; none where there are none."""
    by_task: defaultdict[str, list[ExampleChange]] = defaultdict(list)
    for task, change in changes:
        by_task[task].append(change)
    return [
        Change(action, task, tuple(own), example_count=len(own), selected_by=tuple(selected_by))
        for task, own in by_task.items()
    ]
