"""The tasks of each tenant, kept as documents in the store, so that any number of replicas see the same."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Protocol

from nearvote.access.caller import Caller
from nearvote.audit.event import Action, Change
from nearvote.audit.log import SERVICE, Recorder, Unrecorded
from nearvote.clock import system_us
from nearvote.errors import (
    InvalidTask,
    LabelInUse,
    LimitReached,
    TaskChanged,
    TaskExists,
    TaskNotEmpty,
    TaskNotFound,
)
from nearvote.limits import Limits
from nearvote.tasks.document import DocumentStore, Revision
from nearvote.tasks.fits import Fits
from nearvote.tasks.stored import Overtaken, StoredTasks
from nearvote.tasks.task import Task, some_of
from nearvote.tasks.writes import Writes
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Policy

# How old a replica's view of the tasks may be. Its own changes it sees at once.
REFRESH_SECONDS = 2.0

_RECORDED = ("description", "labels", "benign_label", "out_of_scope_label")


class TaskStore(DocumentStore, Protocol):
    """What the registry needs of the store."""

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        """How many examples the task has, and how many of them have each label."""
        ...

    async def next_end(self, tenant: str, task: str) -> int | None:
        """When the next of the task's examples ends; None when none will."""
        ...

    async def delete_task(self, tenant: str, task: str) -> int:
        """Deletes all examples of a task. Returns how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class _Counted:
    """How many examples there are until the next of them ends."""

    sizes: ClassSizes
    until_us: int | None


@dataclass(slots=True)
class _Snapshot:
    tasks: dict[str, Task]
    examples_versions: dict[str, int]
    class_sizes: dict[str, _Counted]
    read_at: float


class TaskRegistry:
    """Reads and changes tasks.

    Args:
        store: Where they are kept.
        limits: How many there may be.
        audit: Records changes.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        monotonic: A clock for the age of what was read, in seconds.
    """

    def __init__(
        self,
        store: TaskStore,
        limits: Limits,
        *,
        audit: Recorder | None = None,
        now_us: Callable[[], int] = system_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._stored = StoredTasks(store, now_us)
        self.fits = Fits(store)
        self._limits = limits
        self._audit = audit or Unrecorded()
        self._now_us = now_us
        self._monotonic = monotonic
        self._snapshots: dict[str, _Snapshot] = {}
        self._last_read: dict[str, dict[str, Task]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._also_deletes: list[Callable[[str, str], Awaitable[None]]] = []
        self._writes = Writes()
        self._changes: dict[str, int] = {}  # how often this process has changed something, by tenant

    def changing(self, tenant: str) -> asyncio.Lock:
        """Held while tasks or examples of a tenant are changed: what was checked still holds when it is written.

        It binds this process; what other replicas write is told apart by revisions (DECISIONS 70).
        """
        return self._locks[tenant]

    async def list_all(self, tenant: str) -> list[Task]:
        """The tenant's tasks, by name."""
        return sorted((await self._snapshot(tenant)).tasks.values(), key=lambda task: task.name)

    async def get(self, tenant: str, name: str) -> Task:
        """One task.

        Raises:
            TaskNotFound: There is none of this name.
        """
        tasks = (await self._snapshot(tenant)).tasks
        task = tasks.get(name)
        if task is None:
            raise _not_found(tasks)
        return task

    def last_read(self, tenant: str) -> Mapping[str, Task]:
        """The tenant's tasks as they were last read, however long ago, by name; none where they never were."""
        return self._last_read.get(tenant, {})

    async def create(self, tenant: str, task: Task, *, by: Caller = SERVICE) -> Task:
        """Stores a new task.

        Raises:
            InvalidTask: Something in it can't be right.
            TaskExists: There is one of this name.
            LimitReached: There are as many tasks as the service takes.
        """
        task.check(max_labels=self._limits.max_labels, max_k=self._limits.max_k)
        async with self.changing(tenant):
            tasks = (await self._fresh(tenant)).tasks
            if task.name in tasks:
                raise _exists(task.name)
            if len(tasks) >= self._limits.max_tasks:
                raise LimitReached(f"there are {len(tasks)} tasks already, as many as the service takes; delete one")
            now = self._now_us()
            new = replace(task, policy_version=1, fit_version=0, slot=None, created_us=now, updated_us=now)
            async with self._audit.recording(tenant, by, [change_of_task(Action.TASK_CREATED, None, new)]):
                try:
                    return await self._save(tenant, new, None)
                except Overtaken:  # another replica has just created it
                    raise _exists(task.name) from None

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
        sizes = await self._store.class_sizes(tenant, changed.name)
        for label in gone:
            if sizes.by_label.get(label):
                raise LabelInUse(
                    f"label '{label}' has {sizes.by_label[label]} examples: delete or relabel them first",
                    field="labels",
                )
        new = replace(
            changed,
            policy_version=stored.policy_version + 1,
            fit_version=stored.fit_version,
            slot=stored.slot,
            created_us=stored.created_us,
            updated_us=self._now_us(),
        )
        async with self._audit.recording(tenant, by, [change_of_task(Action.TASK_UPDATED, stored, new)]):
            return await self._save(tenant, new, revision)

    async def switch(
        self,
        tenant: str,
        task: Task,
        *,
        policy: Policy,
        fit_version: int,
        slot: Slot | None,
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
            action: Whether it is a new fit or a former one.
            by: Who asked for it.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile.
        """
        stored, revision = await self._to_change(tenant, task.name)
        # A change of the policy, of what is stopped, say, must not be lost in the fit's.
        if (stored.created_us, stored.policy_version) != (task.created_us, task.policy_version):
            raise TaskChanged("the task was changed meanwhile: fit it again", field="task")
        new = replace(
            stored,
            policy=policy,
            policy_version=stored.policy_version + 1,
            fit_version=fit_version,
            slot=slot,
            updated_us=self._now_us(),
        )
        async with self._audit.recording(tenant, by, [change_of_task(action, stored, new)]):
            return await self._save(tenant, new, revision)

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
        return await self._writes.shielded(self._delete(tenant, name, force, by))

    async def _delete(self, tenant: str, name: str, force: bool, by: Caller) -> int:  # noqa: FBT001
        async with self.changing(tenant):
            if name not in (await self._fresh(tenant)).tasks:
                rest = await self._store.delete_task(tenant, name)
                if rest:
                    return rest
            task = await self.get(tenant, name)
            count = (await self._store.class_sizes(tenant, name)).total
            if count and not force:
                raise TaskNotEmpty(f"task '{name}' has {count} examples; delete them with it by force", field="force")
            async with self._audit.recording(tenant, by, [change_of_task(Action.TASK_DELETED, task, None, count)]):
                # The task first: cut short in between, its examples are out of sight, and go when it is deleted again.
                await self._stored.delete(tenant, name)
                await self.fits.delete_all(tenant, task)
                self._forget(tenant)
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
        return (await self._snapshot(tenant)).examples_versions.get(name, 0)

    async def class_sizes(self, tenant: str, name: str) -> ClassSizes:
        """How many examples a task has, and how many of them have each label."""
        snapshot = await self._snapshot(tenant)
        known = snapshot.class_sizes.get(name)
        if known is not None and (known.until_us is None or self._now_us() < known.until_us):
            return known.sizes
        changes = self._changes.get(tenant, 0)
        until_us = await self._store.next_end(tenant, name)  # first: what ends in between is not counted
        sizes = await self._store.class_sizes(tenant, name)
        if self._changes.get(tenant, 0) == changes:  # else it was counted before the change
            snapshot.class_sizes[name] = _Counted(sizes, until_us)
        return sizes

    async def examples_changed(self, tenant: str, name: str) -> None:
        """Takes note that a task's examples were changed, after they were."""
        # Forgotten first: also when the version can't be written, nobody goes by what was.
        self._forget(tenant)
        await self._stored.examples_changed(tenant, name)
        self._forget(tenant)

    async def _to_change(self, tenant: str, name: str) -> tuple[Task, Revision]:
        """A task as it is stored at this moment.

        Raises:
            TaskNotFound: There is none of this name.
        """
        read = await self._stored.read(tenant, name)
        if read is None:
            self._forget(tenant)
            raise _not_found((await self._snapshot(tenant)).tasks)
        return read

    async def _save(self, tenant: str, task: Task, revision: Revision | None) -> Task:
        try:
            await self._stored.put(tenant, task, revision)
        finally:
            self._forget(tenant)  # also when it failed: what was read is not so any more
        return task

    def _forget(self, tenant: str) -> None:
        """What was read of a tenant, or is being read, is not so any more."""
        self._snapshots.pop(tenant, None)
        self._changes[tenant] = self._changes.get(tenant, 0) + 1

    async def _snapshot(self, tenant: str) -> _Snapshot:
        snapshot = self._snapshots.get(tenant)
        if snapshot is None or self._monotonic() - snapshot.read_at > REFRESH_SECONDS:
            snapshot = await self._fresh(tenant)
        return snapshot

    async def _fresh(self, tenant: str) -> _Snapshot:
        while True:
            changes = self._changes.get(tenant, 0)
            read_at = self._monotonic()
            before = self._snapshots.get(tenant)
            tasks, versions = await self._stored.all(tenant)
            if self._changes.get(tenant, 0) == changes:
                break  # else a change of our own overtook what was read
        # Counting takes longer than reading versions, so what has not changed is not counted again.
        sizes = {
            name: size
            for name, size in (before.class_sizes if before else {}).items()
            if before and before.examples_versions.get(name) == versions.get(name)
        }
        snapshot = _Snapshot(tasks, versions, sizes, read_at)
        self._snapshots[tenant] = snapshot
        self._last_read[tenant] = snapshot.tasks
        return snapshot


def _not_found(tasks: Mapping[str, Task]) -> TaskNotFound:
    known = some_of(sorted(tasks)) or "none yet"
    return TaskNotFound(
        f"there is no such task; create it with `nearvote tasks create`, or use one of: {known}", field="task"
    )


def _exists(name: str) -> TaskExists:
    return TaskExists(f"there is a task '{name}' already; change it with `nearvote tasks update`", field="name")


def change_of_task(action: Action, before: Task | None, after: Task | None, example_count: int = 0) -> Change:
    """What is recorded of a change of a task."""
    task = after or before
    return Change(
        action,
        task.name if task else "",
        example_count=example_count,
        policy_versions=(before.policy_version if before else 0, after.policy_version if after else 0),
        fit_versions=(before.fit_version if before else 0, after.fit_version if after else 0),
        changed_fields=_differing(before, after) if before and after else (),
    )


def _differing(before: Task, after: Task) -> tuple[str, ...]:
    """The fields that were changed, those of the policy as `policy.k`."""
    changed = [name for name in _RECORDED if getattr(before, name) != getattr(after, name)]
    policy = [field.name for field in fields(Policy)]
    changed += [f"policy.{name}" for name in policy if getattr(before.policy, name) != getattr(after.policy, name)]
    return tuple(changed)
