"""Tasks and what else stands beside the examples, from the place that serves to the one that will.

Fits are of vectors, and stay with theirs, each with its policy. Everything else goes along. Done twice it is done once:
a run that is cut short leaves what the next one writes over.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import Recorder
from nearvote.examples.engine import Engine, Found, Point
from nearvote.examples.places import SPACE_DOCUMENT
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.reindex.sync import LEFT_OUT_KIND
from nearvote.tasks.changes import change_of_task
from nearvote.tasks.document import TASKS_KIND, task_from_document, task_to_document
from nearvote.tasks.fits import FITS_KIND, Fits
from nearvote.tasks.leases import LEASES_KIND
from nearvote.tasks.shadow import ends_at_a_switch
from nearvote.tasks.shadows import SHADOWS_KIND
from nearvote.tasks.task import Task

_PAGE = 100
_MAX_KINDS = 1_000
# What is of one place alone, of no place, or has a rule of its own.
_NOT_COPIED = {SPACE_DOCUMENT[0], LEASES_KIND, FITS_KIND, LEFT_OUT_KIND, TASKS_KIND, "health"}


async def carry_documents(
    engine: Engine, source: QdrantStore, target: QdrantStore, audit: Recorder, by: Caller
) -> tuple[tuple[str, str], ...]:
    """Writes the documents of the source to the target, and deletes what the target alone has.

    Returns:
        Tenants and tasks that have a fit in the source and none in the target: they have the policy from before their
        first fit.
    """
    old_name, new_name = source.collections["state"], target.collections["state"]
    kinds = {kind for name in (old_name, new_name) for kind in await engine.facet(name, "kind", {}, _MAX_KINDS)}
    for kind in sorted(kinds - _NOT_COPIED):
        copied: set[str] = set()
        async for page in _pages(engine, old_name, kind):
            going = [Point(one.id, one.payload) for one in page if not _ends_here(one)]
            if going:
                await engine.upsert(new_name, going)
            copied |= {one.id for one in going}
        there = [one async for page in _pages(engine, new_name, kind) for one in page]
        for gone in (one.payload for one in there if one.id not in copied):  # deleted since it was served
            await target.delete_document(kind, gone["tenant"], gone["name"])
    present = {(tenant, name): body for tenant, name, body in await target.every_document(TASKS_KIND)}
    unfitted = []
    for tenant, name, body in await source.every_document(TASKS_KIND):
        task = task_from_document(body)
        before = present.pop((tenant, name), None)
        carried = await _carried(source, tenant, task, task_from_document(before) if before else None)
        if carried.fit_version != task.fit_version:
            async with audit.recording(tenant, by, [change_of_task(Action.TASK_UPDATED, task, carried)]):
                pass
        if task.fit_version and not carried.fit_version:
            unfitted.append((tenant, name))
        await target.put_document(TASKS_KIND, tenant, name, task_to_document(carried))
    for (tenant, name), body in present.items():  # deleted since it was served
        await Fits(target).delete_all(tenant, task_from_document(body))
        await target.delete_task(tenant, name)  # those of its examples that were left out
        await target.delete_document(TASKS_KIND, tenant, name)
    return tuple(sorted(unfitted))


async def as_switched(source: QdrantStore, target: QdrantStore, tenant: str, task: Task) -> Task:
    """A task of the source as it would be, were the target to serve now.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    body = await target.document(TASKS_KIND, tenant, task.name)
    return await _carried(source, tenant, task, task_from_document(body) if body else None)


async def _pages(engine: Engine, collection: str, kind: str) -> AsyncIterator[list[Found]]:
    from_id = None
    while True:
        found, from_id = await engine.scroll(collection, {"kind": kind}, _PAGE, from_id)
        yield found
        if from_id is None:
            return


def _ends_here(document: Found) -> bool:
    """Whether it is a trial that is over with the switch: of a fit, which stays as fits do, or of an encoder."""
    return document.payload["kind"] == SHADOWS_KIND and ends_at_a_switch(document.payload["body"])


async def _carried(source: QdrantStore, tenant: str, task: Task, before: Task | None) -> Task:
    """A task as it is to be beside other vectors: with the fit and the policy that it had there, if any."""
    if before is not None and before.created_us == task.created_us and before.fit_version:
        labels = {label: own for label, own in before.policy.labels.items() if label in task.label_names}
        fit_version, policy = before.fit_version, replace(before.policy, labels=labels)
        slot, slots = before.slot, before.slots
    else:
        fit_version, slot, slots = 0, None, {}
        policy = await Fits(source).unfitted_policy(tenant, task)
    if policy == task.policy and not task.fit_version and not fit_version:
        return replace(task, slot=None, slots={}, claimed=None, tried=0)
    version = max(task.policy_version, before.policy_version if before else 0) + 1
    return replace(
        task,
        policy=policy,
        policy_version=version,
        fit_version=fit_version,
        slot=slot,
        slots=slots,
        claimed=None,
        tried=0,
    )
