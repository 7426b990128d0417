"""What other replicas change of a task while examples of it are written.

An example is written first and its task read again after: whatever was changed before that is heeded here, and whoever
changes it later finds the example written. So neither has to wait for the other (DECISIONS 71).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nearvote.examples.example import point_id
from nearvote.examples.store import EmbeddedExample, ExampleStore
from nearvote.tasks.fits import Fits
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Task
from nearvote.voting.metric import Slot

Written = Mapping[Slot, int]  # the fits in whose metrics examples are written, by slot


async def projected(fits: Fits, tenant: str, task: Task, examples: Sequence[EmbeddedExample]) -> list[EmbeddedExample]:
    """Examples of a task with their vectors in each metric that is searched, or may come to be."""
    by_slot = await fits.by_slot(tenant, task)
    metrics = {slot: fit.metric for slot, fit in by_slot.items() if fit.metric is not None}
    return [
        replace(one, projected={slot: metric.project(one.vectors) for slot, metric in metrics.items()})
        for one in examples
    ]


async def keep_up(
    store: ExampleStore,
    tasks: TaskRegistry,
    tenant: str,
    task: Task,
    examples: Sequence[EmbeddedExample],
) -> Task:
    """Writes the vectors of examples of a task in the metrics that came while they were written.

    Args:
        store: Has the examples.
        tasks: Knows the tasks.
        tenant: Whose they are.
        task: The task that they were written for.
        examples: The examples, new ones.

    Returns:
        The task as it is stored by then.

    Raises:
        TaskNotFound: It is gone.
    """
    while True:
        now = await tasks.reread(tenant, task.name)
        written = task.written_slots
        missing = {slot for slot, version in now.written_slots.items() if written.get(slot) != version}
        if not missing or not examples:
            return now
        again = await projected(tasks.fits, tenant, now, examples)
        for slot in missing:
            vectors = {
                point_id(one.example.id, window): vector
                for one in again
                for window, vector in enumerate(one.projected.get(slot, ()))
            }
            await store.project(slot, vectors)
        task = now
