"""What was lately read of each tenant's tasks, so that a message does not ask the store for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nearvote.tasks.stored import StoredTasks
from nearvote.tasks.task import Task
from nearvote.voting.ballot import ClassSizes

# How old a replica's view of the tasks may be. Its own changes it sees at once.
REFRESH_SECONDS = 2.0


class Counts(Protocol):
    """Counts the examples of tasks."""

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        """How many examples the task has, and how many of them have each label."""
        ...

    async def next_end(self, tenant: str, task: str) -> int | None:
        """When the next of the task's examples ends; None when none will."""
        ...


@dataclass(frozen=True, slots=True)
class _Counted:
    """How many examples there are until the next of them ends."""

    sizes: ClassSizes
    until_us: int | None


@dataclass(slots=True)
class Snapshot:
    """A tenant's tasks as they were at some time, by name.

    Attributes:
        tasks: The tasks.
        examples_versions: The versions of their examples.
        class_sizes: How many examples they have, of those that were counted.
        read_at: When they were read, by the monotonic clock.
    """

    tasks: dict[str, Task]
    examples_versions: dict[str, int]
    class_sizes: dict[str, _Counted]
    read_at: float


class Snapshots:
    """Reads tasks anew when what was read is too old, or was changed here.

    Args:
        stored: The tasks as they are stored.
        counts: Counts their examples.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        monotonic: A clock for the age of what was read, in seconds.
    """

    def __init__(
        self, stored: StoredTasks, counts: Counts, now_us: Callable[[], int], monotonic: Callable[[], float]
    ) -> None:
        self._stored = stored
        self._counts = counts
        self._now_us = now_us
        self._monotonic = monotonic
        self._snapshots: dict[str, Snapshot] = {}
        self._last_read: dict[str, dict[str, Task]] = {}
        self._changes: dict[str, int] = {}  # how often this process has changed something, by tenant

    def last_read(self, tenant: str) -> Mapping[str, Task]:
        """The tenant's tasks as they were last read, however long ago, by name; none where they never were."""
        return self._last_read.get(tenant, {})

    async def class_sizes(self, tenant: str, name: str) -> ClassSizes:
        """How many examples a task has, and how many of them have each label."""
        snapshot = await self.recent(tenant)
        known = snapshot.class_sizes.get(name)
        if known is not None and (known.until_us is None or self._now_us() < known.until_us):
            return known.sizes
        changes = self._changes.get(tenant, 0)
        until_us = await self._counts.next_end(tenant, name)  # first: what ends in between is not counted
        sizes = await self._counts.class_sizes(tenant, name)
        if self._changes.get(tenant, 0) == changes:  # else it was counted before the change
            snapshot.class_sizes[name] = _Counted(sizes, until_us)
        return sizes

    def forget(self, tenant: str) -> None:
        """What was read of a tenant, or is being read, is not so any more."""
        self._snapshots.pop(tenant, None)
        self._changes[tenant] = self._changes.get(tenant, 0) + 1

    def differs(self, tenant: str, task: Task) -> bool:
        """Whether what was read has another task of this name, or none."""
        known = self._snapshots.get(tenant)
        return known is not None and known.tasks.get(task.name) != task

    async def recent(self, tenant: str) -> Snapshot:
        """The tenant's tasks, no older than `REFRESH_SECONDS`."""
        snapshot = self._snapshots.get(tenant)
        if snapshot is None or self._monotonic() - snapshot.read_at > REFRESH_SECONDS:
            snapshot = await self.fresh(tenant)
        return snapshot

    async def fresh(self, tenant: str) -> Snapshot:
        """The tenant's tasks as they are now."""
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
        snapshot = Snapshot(tasks, versions, sizes, read_at)
        self._snapshots[tenant] = snapshot
        self._last_read[tenant] = snapshot.tasks
        return snapshot
