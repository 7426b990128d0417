"""Tasks as they are stored. One is replaced only while it is the one that was read, whichever replica changes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nearvote.errors import StoreUnavailable, TaskChanged
from nearvote.tasks.document import TASKS_KIND, DocumentStore, Revision, task_from_document, task_to_document
from nearvote.tasks.task import Task

VERSIONS_KIND = "examples_version"


class Overtaken(TaskChanged):
    """A task is no longer the one that was read; nothing was written."""


class StoredTasks:
    """Reads and writes tasks, and the versions of their examples.

    Args:
        store: Where they are.
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, store: DocumentStore, now_us: Callable[[], int]) -> None:
        self._store = store
        self._now_us = now_us

    async def all(self, tenant: str) -> tuple[dict[str, Task], dict[str, int]]:
        """The tenant's tasks, and the versions of their examples, by name."""
        tasks = await self._store.documents(TASKS_KIND, tenant)
        versions = await self._store.documents(VERSIONS_KIND, tenant)
        with _readable():
            return (
                {name: task_from_document(body) for name, body in tasks.items()},
                {name: int(body["version"]) for name, body in versions.items()},
            )

    async def read(self, tenant: str, name: str) -> tuple[Task, Revision] | None:
        """One task, to be changed; None when there is none of this name."""
        read = await self._store.read_document(TASKS_KIND, tenant, name)
        with _readable():
            return (task_from_document(read[0]), read[1]) if read else None

    async def put(self, tenant: str, task: Task, revision: Revision | None) -> None:
        """Stores a task in place of the one that was read; as a new one when `revision` is None.

        Raises:
            Overtaken: That one was changed or deleted, or there is one of this name.
        """
        if not await self._store.put_document_if(TASKS_KIND, tenant, task.name, task_to_document(task), revision):
            raise Overtaken("the task was changed meanwhile: read it again", field="task")

    async def delete(self, tenant: str, name: str) -> None:
        """Deletes a task, and the version of its examples."""
        await self._store.delete_document(TASKS_KIND, tenant, name)
        await self._store.delete_document(VERSIONS_KIND, tenant, name)

    async def examples_changed(self, tenant: str, name: str) -> None:
        """Raises the version of a task's examples."""
        written = False
        while not written:  # replicas that have read one version would else write one, for two changes
            read = await self._store.read_document(VERSIONS_KIND, tenant, name)
            with _readable():
                before, revision = (int(read[0]["version"]), read[1]) if read else (0, None)
            body = {"version": max(self._now_us(), before + 1)}
            written = await self._store.put_document_if(VERSIONS_KIND, tenant, name, body, revision)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise StoreUnavailable(
            "the tasks that the store has can't be read: try again, and where it stays so, check the store's data"
        ) from error
