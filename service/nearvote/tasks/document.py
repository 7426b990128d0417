"""A task as JSON: in the store, and in files. Field names are those of the contract."""

from typing import Any

from pydantic import TypeAdapter

from nearvote.tasks.task import Task

_ADAPTER = TypeAdapter(Task)


def task_to_document(task: Task) -> dict[str, Any]:
    """A task as JSON values."""
    document: dict[str, Any] = _ADAPTER.dump_python(task, mode="json")
    return document


def task_from_document(document: dict[str, Any]) -> Task:
    """A task of JSON values; what is left out has the default, and fields of later versions are passed over.

    Raises:
        ValueError: A value is of the wrong type, or a field is missing that has no default.
    """
    return _ADAPTER.validate_python(document)
