"""Deleting examples by whose they are, and those that have ended."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE, Recorder
from nearvote.errors import InvalidField
from nearvote.examples.audited import deleted
from nearvote.examples.example import Example
from nearvote.examples.store import ExampleStore, Selection
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.writes import Writes

AlsoDelete = Callable[[str, Selection, Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Erased:
    """What was deleted.

    Attributes:
        example_count: How many examples.
        fitted_tasks: The tasks among theirs, by name, that have a fit which serves or is tried: it may have learned of
            them.
    """

    example_count: int
    fitted_tasks: tuple[str, ...]


class Eraser:
    """Deletes examples by whose they are, and those that have ended.

    Args:
        store: Keeps examples.
        tasks: Knows the tasks, and is told of changes.
        audit: Records what is deleted.
        stop_fits: Stops the fits of a tenant's task that are under way, which hold examples; returns when they have.
        forget: Lets go of what is remembered of texts of a tenant.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        also_delete: Deletes, before examples of a selection, what else is kept of them: called with tenant, selection,
            and these examples' ids, until there are none.
    """

    def __init__(
        self,
        store: ExampleStore,
        tasks: TaskRegistry,
        audit: Recorder,
        stop_fits: Callable[[str, str], Awaitable[None]],
        forget: Callable[[Sequence[str], str], None],
        now_us: Callable[[], int],
        also_delete: AlsoDelete | None = None,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._audit = audit
        self._stop_fits = stop_fits
        self._forget = forget
        self._now_us = now_us
        self._also_delete = also_delete
        self._writes = Writes()

    async def delete_selected(self, tenant: str, selection: Selection, by: Caller) -> Erased:
        """Deletes a source's or a subject's examples, and the feedback from this source or about these examples.

        Page by page, for as long as there are any: cut short, the rest goes when it is asked for again.

        Fits of their tasks that are under way are stopped. Those that serve or are tried stay: they keep nothing of one
        example alone (DECISIONS 55), and its vectors in their metrics go with it.

        Args:
            tenant: Whose they are.
            selection: Source or subject, or both, and perhaps a task.
            by: Who asks for it.

        Returns:
            What was deleted; nothing when there was nothing.

        Raises:
            InvalidField: Neither source nor subject is set.
            TaskNotFound: There is no task of this name.
            StoreUnavailable: The store did not answer.
        """
        if not selection.source and not selection.subject:
            raise InvalidField("name a source or a subject; `DeleteTask` deletes a whole task", field="source")
        if selection.task:
            await self._tasks.get(tenant, selection.task)
        names: set[str] = set()
        count = 0
        async for gone in self._deleting(tenant, selection, Action.EXAMPLES_DELETED, by):
            count += len(gone)
            for name in {example.task for example in gone} - names:
                await self._stop_fits(tenant, name)
                names.add(name)
        tasks = [task for task in await self._tasks.list_all(tenant) if task.name in names]
        fitted = [task.name for task in tasks if task.fit_version or task.tried]
        return Erased(count, tuple(fitted))

    async def sweep(self) -> int:
        """Deletes the examples of all tenants that have ended.

        Returns:
            How many there were.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        now, count = self._now_us(), 0
        for tenant in await self._store.ended(now):
            ended = Selection(expired_us=now)
            async for gone in self._deleting(tenant, ended, Action.EXAMPLES_EXPIRED, SERVICE):
                count += len(gone)
        return count

    async def settle(self) -> None:
        """Returns when every deletion under way has ended."""
        await self._writes.settle()

    async def _deleting(
        self, tenant: str, selection: Selection, action: Action, by: Caller
    ) -> AsyncIterator[list[Example]]:
        """Deletes page by page, so that others get their turn in between; gives what it has deleted."""
        while True:
            ids = [example.id for example in await self._page(tenant, selection)]
            if self._also_delete:
                # First: cut short in between, the examples are still there to be found, and it with them.
                await self._also_delete(tenant, selection, ids)
            if not ids:
                return
            delete = partial(self._delete_page, tenant, selection, frozenset(ids), action, by)
            yield await self._writes.shielded(self._tasks.changing(tenant), delete)

    async def _page(self, tenant: str, selection: Selection) -> list[Example]:
        async for page in self._store.select(tenant, selection):
            return page
        return []

    async def _delete_page(
        self, tenant: str, selection: Selection, ids: Collection[str], action: Action, by: Caller
    ) -> list[Example]:
        # Read again, as they are now.
        found = [example for example in await self._page(tenant, selection) if example.id in ids]
        if not found:  # another replica was faster
            return found
        async with self._audit.recording(tenant, by, deleted(found, action, _chosen_by(selection))):
            try:
                await self._store.delete_selected(tenant, selection, [example.id for example in found])
            finally:
                self._forget([example.text for example in found], tenant)
                for task in {example.task for example in found}:
                    await self._tasks.examples_changed(tenant, task)
        return found


def _chosen_by(selection: Selection) -> list[str]:
    chosen = []
    if selection.source:
        chosen.append(f"source:{selection.source}")
    if selection.subject:
        # What is to be forgotten is not written down; whoever knows it can still tell that it was done.
        chosen.append(f"subject:{hashlib.sha256(selection.subject.encode()).hexdigest()}")
    return chosen
