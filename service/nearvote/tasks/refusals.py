"""What is said to those whose change of a task is refused."""

from collections.abc import Mapping

from nearvote.errors import TaskChanged, TaskExists, TaskNotFound
from nearvote.tasks.task import Task, some_of


def task_not_found(tasks: Mapping[str, Task]) -> TaskNotFound:
    """The error of whoever names a task that is not among these."""
    known = some_of(sorted(tasks)) or "none yet"
    return TaskNotFound(
        f"there is no such task; create it with `nearvote tasks create`, or use one of: {known}", field="task"
    )


def task_changed() -> TaskChanged:
    """The error of whoever has fitted a task that is another by now."""
    return TaskChanged("the task was changed meanwhile: fit it again", field="task")


def task_exists(name: str) -> TaskExists:
    """The error of whoever creates a task that is there."""
    return TaskExists(f"there is a task '{name}' already; change it with `nearvote tasks update`", field="name")
