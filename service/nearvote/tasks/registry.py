"""The tasks of each tenant, kept as documents in the store, so that any number of replicas see the same."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE, Recorder, Unrecorded
from nearvote.clock import system_us
from nearvote.errors import (
    InvalidTask,
    LabelInUse,
    LimitReached,
    TaskChanged,
    TaskNotEmpty,
)
from nearvote.limits import Limits
from nearvote.tasks.changes import change_of_task
from nearvote.tasks.document import DocumentStore, Revision
from nearvote.tasks.fits import Fits
from nearvote.tasks.refusals import task_changed, task_exists, task_not_found
from nearvote.tasks.snapshots import Counts, Snapshots
from nearvote.tasks.standing import Standing
from nearvote.tasks.stored import Overtaken, StoredTasks
from nearvote.tasks.task import Task
from nearvote.tasks.writes import Writes
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Policy

_GIVEN = ("name", "labels", "description", "multi_label", "benign_label", "out_of_scope_label", "policy")


class TaskStore(DocumentStore, Counts, Protocol):
    """What the registry needs of the store."""

    async def delete_task(self, tenant: str, task: str) -> int:
        """Deletes all examples of a task. Returns how many there were."""
        ...


class TaskRegistry:
    """Reads and changes tasks.

    Args:
        store: Where they are kept.
        limits: How many there may be.
        audit: Records changes.
        standing: Tells whether the store is what is served, and takes writes; None where nothing else ever is.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        monotonic: A clock for the age of what was read, in seconds.
    """

    def __init__(
        self,
        store: TaskStore,
        limits: Limits,
        *,
        audit: Recorder | None = None,
        standing: Standing | None = None,
        now_us: Callable[[], int] = system_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._stored = StoredTasks(store, now_us)
        self.fits = Fits(store)
        self._limits = limits
        self._audit = audit or Unrecorded()
        self._standing = standing
        self._now_us = now_us
        self._snapshots = Snapshots(self._stored, store, now_us, monotonic)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._also_deletes: list[Callable[[str, str], Awaitable[None]]] = []
        self._writes = Writes()

    @contextlib.asynccontextmanager
    async def changing(self, tenant: str) -> AsyncIterator[None]:
        """Held while tasks or examples of a tenant are changed: what was checked still holds when it is written.

        It binds this process; what other replicas write is told apart by revisions (DECISIONS 70).

        Raises:
            SpaceSwitching: Another encoder's vectors are served, or come to be. Looked at before what is written, and
                again after it: what was written by then is in what comes to be served, and what was not is refused.
        """
        async with self._locks[tenant]:
            if self._standing:
                await self._standing.wait()
            yield
            if self._standing:
                await self._standing.check()

    async def list_all(self, tenant: str) -> list[Task]:
        """The tenant's tasks, by name."""
        return sorted((await self._snapshots.recent(tenant)).tasks.values(), key=lambda task: task.name)

    async def get(self, tenant: str, name: str, *, fresh: bool = False) -> Task:
        """One task, as it was read a moment ago, or `fresh` from the store.

        Raises:
            TaskNotFound: There is none of this name.
        """
        snapshots = self._snapshots
        tasks = (await (snapshots.fresh(tenant) if fresh else snapshots.recent(tenant))).tasks
        task = tasks.get(name)
        if task is None:
            raise task_not_found(tasks)
        return task

    def last_read(self, tenant: str) -> Mapping[str, Task]:
        """The tenant's tasks as they were last read, however long ago, by name; none where they never were."""
        return self._snapshots.last_read(tenant)

    async def create(self, tenant: str, task: Task, *, by: Caller = SERVICE) -> Task:
        """Stores a new task.

        Raises:
            InvalidTask: Something in it can't be right.
            TaskExists: There is one of this name.
            LimitReached: There are as many tasks as the service takes.
        """
        task.check(max_labels=self._limits.max_labels, max_k=self._limits.max_k)
        async with self.changing(tenant):
            tasks = (await self._snapshots.fresh(tenant)).tasks
            if task.name in tasks:
                raise task_exists(task.name)
            if len(tasks) >= self._limits.max_tasks:
                raise LimitReached(f"there are {len(tasks)} tasks already, as many as the service takes; delete one")
            now = self._now_us()
            new = Task(
                **{name: getattr(task, name) for name in _GIVEN}, policy_version=1, created_us=now, updated_us=now
            )
            async with self._audit.recording(tenant, by, [change_of_task(Action.TASK_CREATED, None, new)]):
                try:
                    return await self._save(tenant, new, None)
                except Overtaken:  # another replica has just created it
                    raise task_exists(task.name) from None

    async def update(self, tenant: str, changed: Task, *, expected_version: int = 0, by: Caller = SERVICE) -> Task:
        """Stores a changed task.

        Args:
            tenant: Whose it is.
            changed: The task as it is to be.
            expected_version: Policy version that the change was made on; 0 for any.
            by: Who asks for it.

        Raises:
            InvalidTask: Something in it can't be right.
            TaskNotFound: There is none of this name.
            TaskChanged: The stored version is another one.
            LabelInUse: A label that has examples would go.
        """
        async with self.changing(tenant):
            while True:
                try:
                    return await self._update(tenant, changed, expected_version, by)
                except Overtaken:  # by another replica: judged again, by what is stored now
                    continue

    async def _update(self, tenant: str, changed: Task, expected_version: int, by: Caller) -> Task:
        stored, revision = await self._to_change(tenant, changed.name)
        if expected_version not in (0, stored.policy_version):
            raise TaskChanged(
                f"the task is at version {stored.policy_version}, not {expected_version}: read it again",
                field="policy_version",
            )
        gone = set(stored.label_names) - set(changed.label_names)
        labels = {label: own for label, own in changed.policy.labels.items() if label not in gone}
        changed = replace(changed, policy=replace(changed.policy, labels=labels))
        changed.check(max_labels=self._limits.max_labels, max_k=self._limits.max_k)
        if changed.multi_label != stored.multi_label:
            raise InvalidTask("a task stays single-label or multi-label: create another", field="multi_label")
        await self._check_unused(tenant, changed.name, gone)
        new = replace(
            stored,
            **{name: getattr(changed, name) for name in _GIVEN},
            policy_version=stored.policy_version + 1,
            updated_us=self._now_us(),
        )
        async with self._audit.recording(tenant, by, [change_of_task(Action.TASK_UPDATED, stored, new)]):
            await self._save(tenant, new, revision)
            try:
                await self._check_unused(tenant, changed.name, gone)
            except LabelInUse:  # of an example that another replica has just written
                _, revision = await self._to_change(tenant, changed.name)
                await self._save(tenant, replace(stored, policy_version=new.policy_version + 1), revision)
                raise
        return new

    async def _check_unused(self, tenant: str, name: str, labels: Collection[str]) -> None:
        sizes = await self._store.class_sizes(tenant, name) if labels else ClassSizes()
        for label in labels:
            if sizes.by_label.get(label):
                raise LabelInUse(
                    f"label '{label}' has {sizes.by_label[label]} examples: delete or relabel them first",
                    field="labels",
                )

    async def switch(
        self,
        tenant: str,
        task: Task,
        *,
        policy: Policy,
        fit_version: int,
        slot: Slot | None,
        tried: bool = False,
        action: Action = Action.TASK_FITTED,
        by: Caller = SERVICE,
    ) -> Task:
        """Lets another fit serve, with its policy. One write: the old ones or the new ones. Called under `changing`.

        Args:
            tenant: Whose it is.
            task: The task as it was when the fit was made.
            policy: The fit's policy.
            fit_version: The fit; 0 for none.
            slot: Where its metric's vectors are; None for the plain ones.
            tried: Whether it serves only where it is the fit that is tried at this moment.
            action: Whether it is a new fit or a former one.
            by: Who asked for it.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile, or the slot is another fit's, or it is tried no more.
        """
        stored, revision = await self._unchanged(tenant, task)
        if tried and stored.tried != fit_version:
            raise task_changed()
        if slot is not None and stored.written_slots.get(slot, fit_version) != fit_version:
            raise task_changed()
        new = replace(
            stored,
            policy=policy,
            policy_version=stored.policy_version + 1,
            fit_version=fit_version,
            slot=slot,
            slots=stored.slots_after(slot, fit_version),
            claimed=None,
            tried=0,
            updated_us=self._now_us(),
        )
        async with self._audit.recording(tenant, by, [change_of_task(action, stored, new)]):
            return await self._save(tenant, new, revision)

    async def claim(self, tenant: str, task: Task, fit_version: int) -> tuple[Slot, bool]:
        """Claims the slot that does not serve for a fit's vectors: all replicas write what comes to it from then on.

        Args:
            tenant: Whose it is.
            task: The task as it was when the fit was made.
            fit_version: The fit, which can be read.

        Returns:
            The slot, and whether it has served, or was claimed: that one may have served a moment before.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile.
        """
        stored, revision = await self._unchanged(tenant, task)
        slot = stored.slot.other if stored.slot else Slot.A
        others = {other: version for other, version in stored.slots.items() if other is not slot}
        # A fit that was tried in this slot no longer is.
        claimed = replace(stored, slots=others, claimed=(slot, fit_version), tried=0)
        await self._save(tenant, claimed, revision)
        return slot, slot in stored.written_slots

    async def check_claim(self, tenant: str, task: Task, slot: Slot, fit_version: int) -> None:
        """Returns where a slot is still claimed for a fit.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile, or another fit has claimed the slot.
        """
        stored, _ = await self._unchanged(tenant, task)
        if stored.claimed != (slot, fit_version):
            raise task_changed()

    async def note(self, tenant: str, name: str, noted: Callable[[Task], Task | None]) -> None:
        """Stores what is noted in a task of its fits; its version stays. Called under `changing`.

        Args:
            tenant: Whose it is.
            name: Its name.
            noted: The task as it is to be, of the one that is stored; None to leave it. Asked again when overtaken.

        Raises:
            TaskNotFound: There is none of this name.
        """
        while True:
            stored, revision = await self._to_change(tenant, name)
            new = noted(stored)
            if new is None:
                return
            with contextlib.suppress(Overtaken):
                await self._save(tenant, new, revision)
                return

    async def reread(self, tenant: str, name: str) -> Task:
        """One task as it is stored at this moment, whoever has changed it.

        Raises:
            TaskNotFound: There is none of this name.
        """
        task, _ = await self._to_change(tenant, name)
        if self._snapshots.differs(tenant, task):
            self._snapshots.forget(tenant)
        return task

    async def delete(self, tenant: str, name: str, *, force: bool, by: Caller = SERVICE) -> int:
        """Deletes a task.

        Args:
            tenant: Whose it is.
            name: Its name.
            force: Delete its examples too.
            by: Who asks for it.

        Returns:
            How many examples went with it.

        Raises:
            TaskNotFound: There is none of this name.
            TaskNotEmpty: It has examples, and `force` is not set.
        """
        return await self._writes.shielded(self.changing(tenant), lambda: self._delete(tenant, name, force, by))

    async def _delete(self, tenant: str, name: str, force: bool, by: Caller) -> int:  # noqa: FBT001
        if name not in (await self._snapshots.fresh(tenant)).tasks:
            rest = await self._store.delete_task(tenant, name)
            if rest:
                return rest
        task = await self.get(tenant, name)
        count = (await self._store.class_sizes(tenant, name)).total
        if count and not force:
            raise TaskNotEmpty(
                f"task '{name}' has {count} examples; delete them with it by force (`--force`)", field="force"
            )
        async with self._audit.recording(tenant, by, [change_of_task(Action.TASK_DELETED, task, None, count)]):
            # The task first: cut short in between, its examples are out of sight, and go when it is deleted again.
            await self._stored.delete(tenant, name)
            await self.fits.delete_all(tenant, task)
            self._snapshots.forget(tenant)
            for delete in self._also_deletes:
                await delete(tenant, name)
            return await self._store.delete_task(tenant, name)

    async def settle(self) -> None:
        """Returns when every deletion under way has ended."""
        await self._writes.settle()

    def also_delete(self, delete: Callable[[str, str], Awaitable[None]]) -> None:
        """Names what else is kept of tasks, and goes with them: called with tenant and task."""
        self._also_deletes.append(delete)

    async def examples_version(self, tenant: str, name: str) -> int:
        """Time of the last change to a task's examples, in microseconds since 1970-01-01 UTC; 0 before the first."""
        return (await self._snapshots.recent(tenant)).examples_versions.get(name, 0)

    async def class_sizes(self, tenant: str, name: str) -> ClassSizes:
        """How many examples a task has, and how many of them have each label."""
        return await self._snapshots.class_sizes(tenant, name)

    async def examples_changed(self, tenant: str, name: str) -> None:
        """Takes note that a task's examples were changed, after they were."""
        # Forgotten first: also when the version can't be written, nobody goes by what was.
        self._snapshots.forget(tenant)
        await self._stored.examples_changed(tenant, name)
        self._snapshots.forget(tenant)

    async def _to_change(self, tenant: str, name: str) -> tuple[Task, Revision]:
        """A task as it is stored at this moment.

        Raises:
            TaskNotFound: There is none of this name.
        """
        read = await self._stored.read(tenant, name)
        if read is None:
            self._snapshots.forget(tenant)
            raise task_not_found((await self._snapshots.recent(tenant)).tasks)
        return read

    async def _unchanged(self, tenant: str, task: Task) -> tuple[Task, Revision]:
        stored, revision = await self._to_change(tenant, task.name)
        # A change of the policy, of what is stopped, say, must not be lost in the fit's.
        if (stored.created_us, stored.policy_version) != (task.created_us, task.policy_version):
            raise task_changed()
        return stored, revision

    async def _save(self, tenant: str, task: Task, revision: Revision | None) -> Task:
        try:
            await self._stored.put(tenant, task, revision)
        finally:
            self._snapshots.forget(tenant)  # also when it failed: what was read is not so any more
        return task
