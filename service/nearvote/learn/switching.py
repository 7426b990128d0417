"""Letting another fit serve: its slot is claimed, the examples' vectors are written to it, and one write switches.

A fit that is to be tried before it serves has its slot claimed and filled the same way (`tasks/shadows.py`).

From the claim on every replica writes the examples that come to the claimed slot as well (`curate.py`), so none is
missing in it when it serves. DECISIONS 71.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

import numpy as np

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.examples.store import ExampleStore
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Task
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.policy import Policy


class Switcher:
    """Writes vectors in a metric, and lets them serve.

    Args:
        store: Has the examples.
        tasks: Has the tasks.
        settle_seconds: How long another replica may search in a slot after it served last.
        pause: Waits for some seconds.
    """

    def __init__(
        self,
        store: ExampleStore,
        tasks: TaskRegistry,
        settle_seconds: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._settle_seconds = settle_seconds
        self._pause = pause
        self._switching: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def switch(
        self,
        tenant: str,
        task: Task,
        metric: LinearMetric | None,
        policy: Policy,
        version: int,
        action: Action,
        by: Caller,
    ) -> None:
        """Writes the examples' vectors in a metric to the slot that does not serve, then lets it serve.

        Args:
            tenant: Whose they are.
            task: The task as it was when the fit was made.
            metric: The fit's metric; None for the plain vectors.
            policy: The fit's policy.
            version: The fit; 0 for none.
            action: Whether it is a new fit or a former one.
            by: Who asked for it.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile, or another fit has taken the slot.
        """
        async with self._switching[tenant, task.name]:
            slot = await self._filled(tenant, task, metric, version)
            async with self._tasks.changing(tenant):
                await self._tasks.switch(
                    tenant, task, policy=policy, fit_version=version, slot=slot, action=action, by=by
                )

    async def fill(self, tenant: str, task: Task, metric: LinearMetric | None, version: int) -> Slot | None:
        """Writes the examples' vectors in a metric to the slot that does not serve, which stays claimed for the fit.

        Args:
            tenant: Whose they are.
            task: The task as it was when the fit was made.
            metric: The fit's metric; None for the plain vectors.
            version: The fit.

        Returns:
            The slot; None for the plain vectors.

        Raises:
            TaskNotFound: The task is gone.
            TaskChanged: It was changed meanwhile, or another fit has taken the slot.
        """
        async with self._switching[tenant, task.name]:
            return await self._filled(tenant, task, metric, version)

    async def _filled(self, tenant: str, task: Task, metric: LinearMetric | None, version: int) -> Slot | None:
        if metric is None:
            return None
        return task.slot_of(version) or await self._write(tenant, task, metric, version)

    async def _write(self, tenant: str, task: Task, metric: LinearMetric, version: int) -> Slot:
        async with self._tasks.changing(tenant):
            slot, may_be_searched = await self._tasks.claim(tenant, task, version)
        if may_be_searched:  # another replica may not know yet that it serves no more
            await self._pause(self._settle_seconds)
        await self._project(tenant, task, metric, slot, version)
        return slot

    async def _project(self, tenant: str, task: Task, metric: LinearMetric, slot: Slot, version: int) -> None:
        """Writes all examples' vectors in a metric to a slot, as long as it is claimed for this fit."""
        pages = self._store.windows(tenant, task.name)
        while True:
            async with self._tasks.changing(tenant):  # no example goes between being read and being written
                page = await anext(pages, None)
                if page is None:
                    return
                if page:
                    await self._tasks.check_claim(tenant, task, slot, version)
                    projected = metric.project(np.stack([window.vector for window in page]))
                    vectors = {window.point_id: vector for window, vector in zip(page, projected, strict=True)}
                    await self._store.project(slot, vectors)
