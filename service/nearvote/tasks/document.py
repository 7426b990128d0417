"""A task as JSON: in the store, and in files. Field names are those of the contract."""

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import TypeAdapter

from nearvote.tasks.task import Task

_ADAPTER = TypeAdapter(Task)

# Which writing of a document one is, newest first with some of those before it. It is handed back as it was got.
Revision = tuple[str, ...]

TASKS_KIND = "task"  # of the documents that tasks are


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


class DocumentStore(Protocol):
    """Keeps small JSON documents, such as tasks, beside the examples, so that all replicas see the same."""

    async def documents(self, kind: str, tenant: str) -> dict[str, dict[str, Any]]:
        """All documents of a kind, by name."""
        ...

    async def document(self, kind: str, tenant: str, name: str) -> dict[str, Any] | None:
        """One document; None when there is none."""
        ...

    async def put_document(self, kind: str, tenant: str, name: str, body: Mapping[str, Any]) -> None:
        """Adds or replaces a document."""
        ...

    async def read_document(self, kind: str, tenant: str, name: str) -> tuple[dict[str, Any], Revision] | None:
        """One document and its revision; None when there is none."""
        ...

    async def put_document_if(
        self, kind: str, tenant: str, name: str, body: Mapping[str, Any], revision: Revision | None
    ) -> bool:
        """Replaces a document of this revision, or adds one where there is none and `revision` is None.

        In one step, whoever else writes.

        Returns:
            Whether it did; else the document is another one, or has gone.
        """
        ...

    async def delete_document(self, kind: str, tenant: str, name: str) -> None:
        """Deletes a document, if there is one."""
        ...
