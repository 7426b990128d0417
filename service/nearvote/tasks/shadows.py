"""Trials of policies, fits and encoders: documents in the store, so that all replicas try the same."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog
from pydantic import ValidationError

from nearvote.access.caller import Caller
from nearvote.audit.event import Action, Change
from nearvote.audit.log import SERVICE, Recorder, Unrecorded
from nearvote.clock import system_us
from nearvote.errors import (
    CannotReindex,
    FitNotFound,
    InvalidField,
    NearvoteError,
    ShadowNotFound,
    StoreUnavailable,
    TaskChanged,
)
from nearvote.limits import Limits
from nearvote.tasks.changes import change_of_task
from nearvote.tasks.document import DocumentStore
from nearvote.tasks.fit import Fit
from nearvote.tasks.refusals import task_changed
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadow import Shadow, TriedEncoder, shadow_from_document, shadow_to_document
from nearvote.tasks.snapshots import REFRESH_SECONDS
from nearvote.tasks.task import Task
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Policy

_log = structlog.get_logger(__name__)

SHADOWS_KIND = "shadow"  # of the documents that trials are


class Encoders(Protocol):
    """Knows the encoder that is to serve."""

    async def building(self) -> str:
        """The place of what is to serve, on whichever replica it was begun; empty for none.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        ...

    async def candidate(self, tenant: str, task: Task) -> tuple[TriedEncoder, Task]:
        """The encoder that this process has ready, and a task as it would be with it.

        Raises:
            CannotReindex: None is.
            StoreUnavailable: The store did not answer.
        """
        ...


class OneEncoder:
    """Where no other encoder ever comes."""

    async def building(self) -> str:
        """None."""
        return ""

    async def candidate(self, tenant: str, task: Task) -> tuple[TriedEncoder, Task]:
        """None."""
        del tenant, task
        raise nothing_ready()


class Shadows:
    """Begins, ends and promotes trials.

    Args:
        store: Where they are kept.
        tasks: Has the tasks.
        limits: What a policy may ask.
        audit: Records what begins and ends; a promotion is recorded as the change of the task that it is.
        encoders: Knows the encoder that is to serve.
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
        encoders: Encoders | None = None,
        now_us: Callable[[], int] = system_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._limits = limits
        self._audit = audit or Unrecorded()
        self._encoders = encoders or OneEncoder()
        self._now_us = now_us
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, Mapping[str, Shadow]]] = {}  # by tenant, with when it was read
        self._building = ""  # as it was last read, by whichever tenant
        tasks.also_delete(self._delete)

    def known(self, tenant: str) -> Mapping[str, Shadow]:
        """Those of a tenant by task, as they were last read."""
        return self._known.get(tenant, (0.0, {}))[1]

    def is_old(self, tenant: str) -> bool:
        """Whether what was last read is older than a replica's view may be."""
        known = self._known.get(tenant)
        return known is None or self._monotonic() - known[0] > REFRESH_SECONDS

    def is_outdated(self, shadow: Shadow, task: Task | None) -> bool:
        """Whether a trial is one of something else by now, as far as was last read: then it rests."""
        has_gone = shadow.encoder is not None and shadow.encoder.place != self._building
        return has_gone or not shadow.is_of(task)

    async def is_on(self, tenant: str, shadow: Shadow) -> bool:
        """Whether a trial that was on still is, as far as a fit's slot may be another's by now.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        if not shadow.fit_version:
            return True
        return any(shadow.is_of(task) for task in await self._tasks.list_all(tenant) if task.name == shadow.task)

    async def read(self, tenant: str) -> Mapping[str, Shadow]:
        """Those of a tenant by task, as they are now, but those that can't be read: they are logged, and not tried.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        read_at = self._monotonic()
        documents = await self._store.documents(SHADOWS_KIND, tenant)
        shadows = {}
        for name, body in sorted(documents.items()):
            try:
                shadows[name] = shadow_from_document(body)
            except ValidationError:
                _log.warning("shadow_unreadable", tenant=tenant, task=name)
        if any(shadow.encoder for shadow in shadows.values()):
            self._building = await self._encoders.building()
        self._known[tenant] = (read_at, shadows)
        return shadows

    async def start(self, tenant: str, name: str, policy: Policy, share: float, *, by: Caller = SERVICE) -> Shadow:
        """Begins to try a policy, in place of what is tried already.

        Raises:
            TaskNotFound: There is no task of this name.
            InvalidTask: Something in the policy can't be right.
            InvalidField: The share can't be.
        """
        _check_share(share)
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name, fresh=True)
            tried = replace(task, policy=policy)
            tried.check(max_labels=self._limits.max_labels, max_k=self._limits.max_k)
            shadow = Shadow(name, policy, share, task.policy_version, task.created_us, self._now_us())
            return await self._begin(tenant, shadow, change_of_task(Action.SHADOW_STARTED, task, tried), by)

    async def start_encoder(self, tenant: str, name: str, share: float, *, by: Caller = SERVICE) -> Shadow:
        """Begins to try the encoder that is ready to serve, in place of what is tried already.

        Raises:
            TaskNotFound: There is no task of this name.
            InvalidField: The share can't be.
            CannotReindex: None is ready.
        """
        _check_share(share)
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name, fresh=True)
            encoder, tried = await self._encoders.candidate(tenant, task)
            shadow = Shadow(
                name, tried.policy, share, task.policy_version, task.created_us, self._now_us(), encoder=encoder
            )
            change = change_of_task(Action.SHADOW_STARTED, task, replace(task, policy=tried.policy))
            change = replace(change, changed_fields=("encoder", *change.changed_fields))
            return await self._begin(tenant, shadow, change, by)

    async def start_fit(
        self, tenant: str, task: Task, fit: Fit, slot: Slot | None, share: float, *, by: Caller = SERVICE
    ) -> Shadow:
        """Begins to try a fit, in place of what is tried already.

        Args:
            tenant: Whose it is.
            task: The task as it was when the fit was made.
            fit: The fit, which can be read.
            slot: The slot that is claimed for it and filled; None where it searches the plain vectors.
            share: On which share of the messages, above 0 and up to 1.
            by: Who asked for it.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile, or another fit has taken the slot.
        """

        def with_it(stored: Task) -> Task:
            shadow = replace(begun, fit_version=0)
            if not shadow.is_of(stored) or (slot is not None and stored.claimed != (slot, fit.version)):
                raise task_changed()
            return replace(stored, tried=fit.version, claimed=(slot, fit.version) if slot else None)

        begun = Shadow(
            task.name, fit.policy, share, task.policy_version, task.created_us, self._now_us(), fit.version, slot
        )
        async with self._tasks.changing(tenant):
            # First: cut short before the trial can be read, the next fit takes what is noted here.
            await self._tasks.note(tenant, task.name, with_it)
            tried = replace(task, policy=fit.policy, fit_version=fit.version)
            try:
                return await self._begin(tenant, begun, change_of_task(Action.SHADOW_STARTED, task, tried), by)
            except NearvoteError:
                with contextlib.suppress(NearvoteError):
                    await self._let_go(tenant, task.name)
                raise

    async def promote(self, tenant: str, name: str, *, by: Caller = SERVICE) -> Task:
        """Lets what is tried serve, by the one write that any change of what serves is.

        Raises:
            TaskNotFound: There is no task of this name.
            ShadowNotFound: None is tried.
            CannotReindex: It is an encoder that is tried.
            TaskChanged: The task was changed since the trial was begun, or another fit has taken the tried one's place.
        """
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name, fresh=True)
            shadow = await self._of(tenant, name)
            if shadow.encoder is not None:
                raise CannotReindex(
                    f"{shadow.encoder.model} is tried, and an encoder serves all tasks or none: "
                    "let it with `nearvote reindex --switch`",
                    field="task",
                )
            tried_on = replace(task, policy_version=shadow.policy_version, created_us=shadow.created_us)
            candidate = shadow.candidate(task)
            try:
                fit = await self._tasks.fits.get(tenant, name, shadow.fit_version) if shadow.fit_version else None
                promoted = await self._tasks.switch(
                    tenant,
                    tried_on,
                    policy=candidate.policy,
                    fit_version=candidate.fit_version,
                    slot=candidate.slot,
                    tried=fit is not None,
                    action=Action.SHADOW_PROMOTED,
                    by=by,
                )
            except (TaskChanged, FitNotFound):
                raise _outdated(shadow) from None
            with contextlib.suppress(StoreUnavailable):  # what stays is of a former version, and tried no more
                await self._delete(tenant, name)
                if fit is not None:
                    await self._tasks.fits.tidy(tenant, name, fit)
            return promoted

    async def stop(self, tenant: str, name: str, *, by: Caller = SERVICE) -> None:
        """Ends a trial, and lets go of the fit that was tried.

        Raises:
            TaskNotFound: There is no task of this name.
            ShadowNotFound: None is tried.
        """
        async with self._tasks.changing(tenant):
            task = await self._tasks.get(tenant, name)
            # One that can't be read is to be got rid of.
            if name not in await self._store.documents(SHADOWS_KIND, tenant):
                raise _not_found(name)
            async with self._audit.recording(tenant, by, [change_of_task(Action.SHADOW_STOPPED, task, task)]):
                await self._let_go(tenant, name)  # first: cut short in between, there is a trial yet to be stopped
                await self._delete(tenant, name)

    async def _begin(self, tenant: str, shadow: Shadow, change: Change, by: Caller) -> Shadow:
        async with self._audit.recording(tenant, by, [change]):
            await self._store.put_document(SHADOWS_KIND, tenant, shadow.task, shadow_to_document(shadow))
        await self.read(tenant)
        if not shadow.fit_version:
            # After it: a fit that another replica has begun to try meanwhile is let go of as well.
            await self._let_go(tenant, shadow.task)
        return shadow

    async def _let_go(self, tenant: str, name: str) -> None:
        """Lets go of the fit that a task notes as tried, and of its claim, unless it serves by then.

        It is emptied after, and by whoever has taken it from the task: so no fit that came to serve is.
        """
        tried = 0

        def without(stored: Task) -> Task | None:
            nonlocal tried
            tried = stored.tried
            if not tried:
                return None
            claimed = stored.claimed if stored.claimed and stored.claimed[1] != tried else None
            return replace(stored, tried=0, claimed=claimed)

        await self._tasks.note(tenant, name, without)
        if tried:
            await self._tasks.fits.let_go(tenant, name, range(tried, tried + 1))

    async def _of(self, tenant: str, name: str) -> Shadow:
        shadow = (await self.read(tenant)).get(name)
        if shadow is None:
            raise _not_found(name)
        return shadow

    async def _delete(self, tenant: str, name: str) -> None:
        await self._store.delete_document(SHADOWS_KIND, tenant, name)
        self._known.pop(tenant, None)


def nothing_ready() -> CannotReindex:
    """What is said where there is no encoder to try."""
    return CannotReindex(
        "no encoder is ready here to be tried: begin with `nearvote reindex --model MODEL`, and ask the replica that "
        "has done it",
        field="encoder",
    )


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise InvalidField("the share is above 0 and up to 1", field="share")


def _not_found(name: str) -> ShadowNotFound:
    return ShadowNotFound(
        f"nothing is tried for task '{name}'; begin with `nearvote shadow start`, or with `nearvote fit --shadow`",
        field="task",
    )


def _outdated(shadow: Shadow) -> TaskChanged:
    what, else_, again = (
        ("fit", ", or another fit has taken its place", "fit") if shadow.fit_version else ("policy", "", "start")
    )
    return TaskChanged(
        f"the task was changed since version {shadow.policy_version}, beside which the {what} was tried{else_}: "
        f"{again} it again",
        field="task",
    )
