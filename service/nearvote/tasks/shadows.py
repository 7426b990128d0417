"""Policies that are tried beside those that serve: documents in the store, so that all replicas try the same."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE, Recorder, Unrecorded
from nearvote.clock import system_us
from nearvote.errors import InvalidField, ShadowNotFound, StoreUnavailable, TaskChanged
from nearvote.limits import Limits
from nearvote.tasks.changes import change_of_task
from nearvote.tasks.document import DocumentStore
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.snapshots import REFRESH_SECONDS
from nearvote.tasks.task import Task
from nearvote.voting.policy import Policy

_log = structlog.get_logger(__name__)

_KIND = "shadow"


@dataclass(frozen=True, slots=True)
class Shadow:
    """A policy that is tried on a share of a task's messages.

    Attributes:
        task: The task's name.
        policy: The policy that is tried.
        share: On which share of the messages, above 0 and up to 1.
        policy_version: Version of the task that it was begun on.
        created_us: When that task was created; one of the same name may be another.
        started_us: When it was begun, in microseconds since 1970-01-01 UTC.
    """

    task: str
    policy: Policy
    share: float
    policy_version: int
    created_us: int
    started_us: int

    def is_of(self, task: Task | None) -> bool:
        """Whether a task is still what this was begun on; None stands for one that is gone."""
        return task is not None and (task.created_us, task.policy_version) == (self.created_us, self.policy_version)


_ADAPTER = TypeAdapter(Shadow)


class Shadows:
    """Begins, ends and promotes trials of policies.

    Args:
        store: Where they are kept.
        tasks: Has the tasks.
        limits: What a policy may ask.
        audit: Records what begins and ends; a promotion is recorded as the change of the task that it is.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        monotonic: A clock for the age of what was read, in seconds.
    """

    def __init__(
        self,
        store: DocumentStore,
        tasks: TaskRegistry,
        limits: Limits,
        *,
        audit: Recorder | None = None,
        now_us: Callable[[], int] = system_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._limits = limits
        self._audit = audit or Unrecorded()
        self._now_us = now_us
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, Mapping[str, Shadow]]] = {}  # by tenant, with when it was read
        tasks.also_delete(self._delete)

    def known(self, tenant: str) -> Mapping[str, Shadow]:
        """Those of a tenant by task, as they were last read."""
        return self._known.get(tenant, (0.0, {}))[1]

    def is_old(self, tenant: str) -> bool:
        """Whether what was last read is older than a replica's view may be."""
        known = self._known.get(tenant)
        return known is None or self._monotonic() - known[0] > REFRESH_SECONDS

    async def read(self, tenant: str) -> Mapping[str, Shadow]:
        """Those of a tenant by task, as they are now, but those that can't be read: they are logged, and not tried.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        read_at = self._monotonic()
        documents = await self._store.documents(_KIND, tenant)
        shadows = {}
        for name, body in sorted(documents.items()):
            try:
                shadows[name] = _ADAPTER.validate_python(body)
            except ValidationError:
                _log.warning("shadow_unreadable", tenant=tenant, task=name)
        self._known[tenant] = (read_at, shadows)
        return shadows

    async def start(self, tenant: str, name: str, policy: Policy, share: float, *, by: Caller = SERVICE) -> Shadow:
        """Begins to try a policy, in place of one that is tried already.

        Raises:
            TaskNotFound: There is no task of this name.
            InvalidTask: Something in the policy can't be right.
            InvalidField: The share can't be.
        """
        if not 0 < share <= 1:
            raise InvalidField("the share is above 0 and up to 1", field="share")
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name, fresh=True)
            tried = replace(task, policy=policy)
            tried.check(max_labels=self._limits.max_labels, max_k=self._limits.max_k)
            shadow = Shadow(name, policy, share, task.policy_version, task.created_us, self._now_us())
            document: dict[str, Any] = _ADAPTER.dump_python(shadow, mode="json")
            async with self._audit.recording(tenant, by, [change_of_task(Action.SHADOW_STARTED, task, tried)]):
                await self._store.put_document(_KIND, tenant, name, document)
            await self.read(tenant)
        return shadow

    async def promote(self, tenant: str, name: str, *, by: Caller = SERVICE) -> Task:
        """Lets the policy that is tried serve, by the one write that any change of what serves is.

        Raises:
            TaskNotFound: There is no task of this name.
            ShadowNotFound: None is tried.
            TaskChanged: The task was changed since the trial was begun.
        """
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name, fresh=True)
            shadow = await self._of(tenant, name)
            tried_on = replace(task, policy_version=shadow.policy_version, created_us=shadow.created_us)
            try:
                promoted = await self._tasks.switch(
                    tenant,
                    tried_on,
                    policy=shadow.policy,
                    fit_version=task.fit_version,
                    slot=task.slot,
                    action=Action.SHADOW_PROMOTED,
                    by=by,
                )
            except TaskChanged:
                raise TaskChanged(
                    f"the task was changed since version {shadow.policy_version}, beside which the policy was tried: "
                    "start it again",
                    field="task",
                ) from None
            with contextlib.suppress(StoreUnavailable):  # what stays is of a former version, and tried no more
                await self._delete(tenant, name)
            return promoted

    async def stop(self, tenant: str, name: str, *, by: Caller = SERVICE) -> None:
        """Ends a trial.

        Raises:
            TaskNotFound: There is no task of this name.
            ShadowNotFound: None is tried.
        """
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name)
            if name not in await self._store.documents(_KIND, tenant):  # one that can't be read is to be got rid of
                raise _not_found(name)
            async with self._audit.recording(tenant, by, [change_of_task(Action.SHADOW_STOPPED, task, task)]):
                await self._delete(tenant, name)

    async def _of(self, tenant: str, name: str) -> Shadow:
        shadow = (await self.read(tenant)).get(name)
        if shadow is None:
            raise _not_found(name)
        return shadow

    async def _delete(self, tenant: str, name: str) -> None:
        await self._store.delete_document(_KIND, tenant, name)
        self._known.pop(tenant, None)


def _not_found(name: str) -> ShadowNotFound:
    return ShadowNotFound(f"no policy is tried for task '{name}'; begin with `nearvote shadow start`", field="task")
