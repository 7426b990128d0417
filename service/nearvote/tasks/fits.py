"""The fits of each task, kept as documents in the store. A fit never changes once it is written."""

import contextlib

from nearvote.errors import FitNotFound, TaskChanged
from nearvote.tasks.document import DocumentStore
from nearvote.tasks.fit import Fit, fit_from_document, fit_to_document
from nearvote.tasks.task import Task
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Policy

FITS_KIND = "fit"
# A fit can be gone back to from the ones after it; older ones are let go.
_KEPT = 5


class Fits:
    """Reads and writes fits, and keeps those that serve.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        # By tenant and task: a task that was deleted and created again begins anew with version 1.
        self._known: dict[tuple[str, str], tuple[int, dict[int, Fit]]] = {}

    async def serving(self, tenant: str, task: Task) -> Fit | None:
        """The fit that a task is served by; None when it has none."""
        if not task.fit_version:
            return None
        return await self._remembered(tenant, task, task.fit_version)

    async def by_slot(self, tenant: str, task: Task) -> dict[Slot, Fit]:
        """The fits in whose metrics an example that comes is written; without those that are gone."""
        found = {}
        for slot, version in task.written_slots.items():
            with contextlib.suppress(FitNotFound):
                found[slot] = await self._remembered(tenant, task, version)
        return found

    async def _remembered(self, tenant: str, task: Task, version: int) -> Fit:
        created_us, known = self._known.get((tenant, task.name), (0, {}))
        fit = known.get(version) if created_us == task.created_us else None
        if fit is None:
            fit = await self.get(tenant, task.name, version)
            wanted = {task.fit_version, task.tried, *task.written_slots.values()}
            kept = {v: one for v, one in known.items() if created_us == task.created_us and v in wanted}
            self._known[tenant, task.name] = (task.created_us, {**kept, version: fit})
        return fit

    async def get(self, tenant: str, task: str, version: int) -> Fit:
        """One fit.

        Raises:
            FitNotFound: It is not kept, or can't be read.
        """
        document = await self._store.document(FITS_KIND, tenant, _name(task, version))
        if document is not None:
            try:
                return fit_from_document(document)
            except (KeyError, ValueError):
                pass
        raise FitNotFound(f"fit {version} of task '{task}' is not kept; run `nearvote fit --task {task}`", field="task")

    async def put(self, tenant: str, task: str, fit: Fit) -> None:
        """Stores a fit.

        Raises:
            TaskChanged: Its version is another fit's.
        """
        if not await self._store.put_document_if(
            FITS_KIND, tenant, _name(task, fit.version), fit_to_document(fit), None
        ):
            raise TaskChanged("another replica has fitted the task meanwhile: fit it again", field="task")

    async def unfitted_policy(self, tenant: str, task: Task) -> Policy:
        """The policy from before the first fit; the default one where its fit can't be read."""
        try:
            fit = await self.serving(tenant, task)
        except FitNotFound:
            return Policy()
        return fit.unfitted_policy if fit else task.policy

    async def tidy(self, tenant: str, task: str, fit: Fit) -> None:
        """Lets go of what nobody goes back to any more, now that a fit serves."""
        await self.keep_last(tenant, task, fit, _KEPT)
        await self.let_go_before(tenant, task, fit)

    async def let_go_before(self, tenant: str, task: str, fit: Fit) -> None:
        """Empties those between a fit and what it replaces: they were gone back from, or tried, and lead nowhere."""
        await self.let_go(tenant, task, range(fit.replaced_version + 1, fit.version))

    async def keep_last(self, tenant: str, task: str, fit: Fit, count: int) -> None:
        """Lets go of fits that are further back than some: what a fit replaced, what that replaced, and so on."""
        version, steps = fit.replaced_version, 0
        while version:
            document = await self._store.document(FITS_KIND, tenant, _name(task, version))
            if document is None:
                return
            steps += 1
            if steps > count:
                await self.delete(tenant, task, range(version, version + 1))
            version = int(document.get("replaced_version", 0))

    async def is_taken(self, tenant: str, task: str, version: int) -> bool:
        """Whether a version stands for a fit, or did; no other fit is to have it."""
        return await self._store.document(FITS_KIND, tenant, _name(task, version)) is not None

    async def let_go(self, tenant: str, task: str, versions: range) -> None:
        """Empties fits. Their versions stay taken, so that nobody takes another fit for them."""
        for version in versions:
            await self._store.put_document(FITS_KIND, tenant, _name(task, version), {"version": version})

    async def delete(self, tenant: str, task: str, versions: range) -> None:
        """Deletes fits, those there are."""
        for version in versions:
            await self._store.delete_document(FITS_KIND, tenant, _name(task, version))

    async def delete_all(self, tenant: str, task: Task) -> None:
        """Deletes all fits of a task, also those that were gone back from."""
        await self.delete(tenant, task.name, range(1, task.fit_version + 1))
        version = task.fit_version + 1
        while await self._store.document(FITS_KIND, tenant, _name(task.name, version)) is not None:
            await self.delete(tenant, task.name, range(version, version + 1))
            version += 1


def _name(task: str, version: int) -> str:
    return f"{task}/{version}"
