"""Embedding all examples again, for another encoder, while the service is stopped."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import Recorder, Unrecorded
from nearvote.embedding.embedder import Embedder
from nearvote.examples.audited import deleted
from nearvote.examples.engine import Engine, Point
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import (
    activate_space,
    create_space,
    drop_inactive,
    is_space_document,
    new_state_name,
    open_store,
    stored_places,
)
from nearvote.examples.store import EmbeddedExample, VectorSpace
from nearvote.tasks.changes import change_of_task
from nearvote.tasks.document import TASKS_KIND, task_from_document, task_to_document
from nearvote.tasks.fits import Fits

# Examples embedded and written at a time.
_CHUNK = 256
_DOCUMENTS = 4  # copied at a time; one may be a fit, of megabytes
_REINDEX = Caller(name="(reindex)")  # whoever ran the command


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What was done.

    Attributes:
        embedded_count: How many examples were embedded.
        unreadable_ids: Those that the encoder reads nothing in; they are gone.
        unfitted_tasks: Those whose fit was of the former vectors; they have the policy from before their first fit.
    """

    embedded_count: int
    unreadable_ids: tuple[str, ...]
    unfitted_tasks: tuple[str, ...] = ()


async def reindex(
    engine: Engine,
    embedder: Embedder,
    space: VectorSpace,
    progress: Callable[[int, int], None] = lambda _a, _b: None,
    audit: Recorder | None = None,
) -> Reindexed:
    """Embeds the stored texts with another encoder and makes its vectors the ones that are served.

    Cut short, the old vectors stay in force with the fits that are of them, and the next run begins anew.

    Args:
        engine: Where the examples are.
        embedder: The encoder to change to.
        space: Its vector space.
        progress: Told how many examples are done, and how many there are.
        audit: Records what goes with the former vectors.

    Returns:
        What was done; nothing when the stored vectors are this encoder's already.
    """
    places = await stored_places(engine)
    if places is None or places.space.key == space.key:
        await open_store(engine, space)
        await drop_inactive(engine)  # what an earlier run, cut short at its end, has left
        return Reindexed(0, ())
    old = await open_store(engine, places.space)
    await drop_inactive(engine)  # what an earlier run left
    new = await create_space(engine, space, state=new_state_name(secrets.token_hex(4)))
    audit = audit or Unrecorded()
    report = await _copy(old, new, embedder, progress, audit)
    await _copy_documents(engine, old, new)
    refit = await _drop_fits(new, audit)
    await activate_space(engine, new, space, places.feedback)
    await drop_inactive(engine)
    return replace(report, unfitted_tasks=refit)


async def _copy_documents(engine: Engine, old: QdrantStore, new: QdrantStore) -> None:
    """Tasks and what else stands beside the examples: the old ones stay as they are until the new ones are active."""
    from_id = None
    while True:
        found, from_id = await engine.scroll(old.collections["state"], {}, _DOCUMENTS, from_id)
        await engine.upsert(
            new.collections["state"],
            [Point(one.id, one.payload) for one in found if not is_space_document(one)],
        )
        if from_id is None:
            return


async def _drop_fits(store: QdrantStore, audit: Recorder) -> tuple[str, ...]:
    """What was learned of other vectors says nothing of these."""
    fits = Fits(store)
    unfitted = []
    for tenant, name, body in await store.every_document(TASKS_KIND):
        task = task_from_document(body)
        if task.fit_version:
            policy = await fits.unfitted_policy(tenant, task)
            plain = replace(task, policy=policy, policy_version=task.policy_version + 1, fit_version=0, slot=None)
            async with audit.recording(tenant, _REINDEX, [change_of_task(Action.TASK_UPDATED, task, plain)]):
                await store.put_document(TASKS_KIND, tenant, name, task_to_document(plain))
                await fits.delete_all(tenant, task)
            unfitted.append(name)
    return tuple(sorted(unfitted))


async def _copy(
    old: QdrantStore, new: QdrantStore, embedder: Embedder, progress: Callable[[int, int], None], audit: Recorder
) -> Reindexed:
    total = await old.example_count()
    done = 0
    unreadable: list[str] = []
    async for page in old.every_example():
        for start in range(0, len(page), _CHUNK):
            chunk = page[start : start + _CHUNK]
            embedded = await embedder.embed([example.text for example in chunk])
            # A text that the other encoder can't read at all has no vector to be found by.
            lost = [e for e, vectors in zip(chunk, embedded.windows, strict=True) if not len(vectors)]
            unreadable += [example.id for example in lost]
            for tenant in {example.tenant for example in lost}:
                own = deleted(example for example in lost if example.tenant == tenant)
                async with audit.recording(tenant, _REINDEX, own):
                    pass  # they are not written
            await new.put(
                [
                    EmbeddedExample(e, vectors, surface)
                    for e, vectors, surface in zip(chunk, embedded.windows, embedded.surfaces, strict=True)
                    if len(vectors)
                ]
            )
            done += len(chunk)
            progress(done, total)
    return Reindexed(done - len(unreadable), tuple(unreadable))
