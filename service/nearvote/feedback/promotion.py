"""Corrections become examples, and are taken back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import Recorder
from nearvote.curate import Curator
from nearvote.errors import FeedbackNotPending, NearvoteError, TaskNotFound
from nearvote.examples.audited import deleted, written
from nearvote.examples.example import Example
from nearvote.examples.store import ExampleStore
from nearvote.feedback.correction import Feedback, FeedbackState, Former, Promoted, Revoked
from nearvote.feedback.layers import Undoing, lay, undo
from nearvote.feedback.store import FeedbackStore
from nearvote.tasks.registry import TaskRegistry

_UNDONE_AT_A_TIME = 64  # examples for which others wait


class Promotions:
    """Makes examples of corrections, and undoes it. Whoever calls holds off others who do the same.

    Args:
        store: Keeps corrections.
        examples: Keeps examples.
        tasks: Knows the tasks, and is told of changes.
        curator: Adds examples.
        audit: Records what is taken back.
        forget: Lets go of what is remembered of texts of a tenant that are deleted.
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        store: FeedbackStore,
        examples: ExampleStore,
        tasks: TaskRegistry,
        curator: Curator,
        audit: Recorder,
        forget: Callable[[Sequence[str], str], None],
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._examples = examples
        self._tasks = tasks
        self._curator = curator
        self._audit = audit
        self._forget = forget
        self._now_us = now_us

    async def promote(self, tenant: str, task: str, feedback: Sequence[Feedback], by: Caller) -> Promoted:
        """Promotes pending corrections of a task; of several about one text the last one submitted shows.

        Args:
            tenant: Whose they are.
            task: The task.
            feedback: The corrections.
            by: Who promotes them.

        Raises:
            TaskNotFound: There is no task of this name.
            StoreUnavailable: The store did not answer; what is said to be promoted is, and the rest can be tried again.
        """
        valid, refused = await self.promotable(tenant, task, feedback)
        by_example = last_words(valid)
        ids = iter(by_example)
        count = new_count = relabeled_count = 0
        while part := list(islice(ids, self._curator.limits.max_batch_texts)):
            done = await self._promote_part(tenant, task, {id_: by_example[id_] for id_ in part}, by)
            count += done.count
            new_count += done.new_count
            relabeled_count += done.relabeled_count
            refused |= done.refused
        return Promoted(count, new_count, relabeled_count, refused)

    async def promotable(
        self, tenant: str, task: str, feedback: Iterable[Feedback]
    ) -> tuple[list[Feedback], dict[str, NearvoteError]]:
        """Which corrections can become examples as the task is now, and why the others can't, by id."""
        known, refused, valid = await self._tasks.get(tenant, task), dict[str, NearvoteError](), list[Feedback]()
        for one in feedback:
            try:
                known.check_labels(one.labels)
                valid.append(one)
            except NearvoteError as error:
                refused[one.id] = error
        return valid, refused

    async def _promote_part(
        self, tenant: str, task: str, by_example: Mapping[str, list[Feedback]], by: Caller
    ) -> Promoted:
        present = await self._examples.get(tenant, task, list(by_example))
        now = self._now_us()
        laid = {
            id_: lay(chosen, await self._onto(tenant, id_), present.get(id_), now) for id_, chosen in by_example.items()
        }
        # First what can be undone, then what is to be: cut short in between, nothing is lost.
        await self._store.put([one for layers in laid.values() for one in layers])
        drafts = [layers[-1].draft(present[id_].weight if id_ in present else 1.0) for id_, layers in laid.items()]
        chunk = await self._curator.import_chunk(
            tenant, drafts, validate_only=False, by=by, action=Action.EXAMPLES_PROMOTED
        )
        ids = list(laid)
        rejected = {ids[i]: error for i, error in chunk.rejected.items()}
        await self._store.put(
            [
                one if id_ in rejected else replace(now_laid, state=FeedbackState.PROMOTED, updated_us=now, due=False)
                for id_, chosen in by_example.items()
                for one, now_laid in zip(chosen, laid[id_], strict=True)
            ]
        )
        return Promoted(
            count=sum(len(chosen) for id_, chosen in by_example.items() if id_ not in rejected),
            new_count=sum(saved.created for saved in chunk.saved),
            relabeled_count=sum(
                saved.example.id in present and saved.example.labels != present[saved.example.id].labels
                for saved in chunk.saved
            ),
            refused={one.id: error for id_, error in rejected.items() for one in by_example[id_]},
        )

    async def revoke(self, tenant: str, feedback: Sequence[Feedback], by: Caller) -> Revoked:
        """Takes back corrections that are pending or promoted, of whatever task.

        Raises:
            StoreUnavailable: The store did not answer; what is not said to be revoked can be tried again.
        """
        total = Revoked()
        by_task: dict[str, dict[str, list[Feedback]]] = {}
        for one in feedback:
            by_task.setdefault(one.task, {}).setdefault(one.example_id, []).append(one)
        for task, by_example in by_task.items():
            ids = iter(by_example)
            while part := list(islice(ids, _UNDONE_AT_A_TIME)):
                done = await self._revoke_part(tenant, task, {id_: by_example[id_] for id_ in part}, by)
                total = Revoked(
                    total.dropped_count + done.dropped_count,
                    total.undone_count + done.undone_count,
                    total.deleted_count + done.deleted_count,
                    total.restored_count + done.restored_count,
                    total.kept_count + done.kept_count,
                )
        return total

    async def _revoke_part(
        self, tenant: str, task: str, by_example: Mapping[str, list[Feedback]], by: Caller
    ) -> Revoked:
        try:
            labels = (await self._tasks.get(tenant, task)).label_names
        except TaskNotFound:  # it was deleted a moment ago, and its examples with it
            labels = ()
        now = self._now_us()
        layered = [id_ for id_, taken in by_example.items() if any(one.layer for one in taken)]
        undoings: dict[str, Undoing] = {}
        if layered:
            async with self._tasks.changing(tenant):
                present = await self._examples.get(tenant, task, layered)
                for id_ in layered:
                    taken = {one.id for one in by_example[id_]}
                    undoings[id_] = undo(taken, await self._onto(tenant, id_), present.get(id_), labels, now)
                changing = [present[id_] for id_ in layered if undoings[id_].changes]
                await self._undo(tenant, task, changing, undoings, by)
        every = [one for taken in by_example.values() for one in taken]
        await self._store.put([replace(one, state=FeedbackState.REVOKED, updated_us=now) for one in every])
        undone = [undoings[id_] for id_ in layered]
        pending_count = sum(one.state is FeedbackState.PENDING for one in every)
        return Revoked(
            dropped_count=pending_count,
            undone_count=len(every) - pending_count,
            deleted_count=sum(one.changes and one.former is None for one in undone),
            restored_count=sum(one.changes and one.former is not None for one in undone),
            kept_count=sum(not one.changes for one in undone),
        )

    async def _undo(
        self, tenant: str, task: str, present: Sequence[Example], undoings: Mapping[str, Undoing], by: Caller
    ) -> None:
        formers = [(example, undoings[example.id].former) for example in present]
        gone = [example for example, former in formers if former is None]
        restored = [_as_it_was(example, former) for example, former in formers if former is not None]
        known = {example.id: example for example in present}
        async with self._audit.recording(tenant, by, [*deleted(gone), *written(known, (), restored)]):
            try:
                for example in gone:
                    await self._examples.delete(tenant, task, example.id)
                await self._examples.annotate(restored)
            finally:
                self._forget([example.text for example in gone], tenant)
                if present:
                    await self._tasks.examples_changed(tenant, task)

    async def _onto(self, tenant: str, example_id: str) -> list[Feedback]:
        """The corrections of an example that have a layer and are not taken back."""
        return [
            one
            async for one in self._store.each(tenant, example_id=example_id)
            if one.layer is not None and one.state in (FeedbackState.PENDING, FeedbackState.PROMOTED)
        ]


def pending_among(feedback: Iterable[Feedback]) -> tuple[list[Feedback], dict[str, NearvoteError]]:
    """What is pending, and why of the rest what was not promoted can't be, by id."""
    feedback = list(feedback)
    closed = (FeedbackState.REJECTED, FeedbackState.REVOKED)
    refused: dict[str, NearvoteError] = {
        one.id: FeedbackNotPending(f"it was {one.state.value}: submit it anew under another key", field="id")
        for one in feedback
        if one.state in closed
    }
    return [one for one in feedback if one.state is FeedbackState.PENDING], refused


def last_words(feedback: Iterable[Feedback]) -> dict[str, list[Feedback]]:
    """Corrections by their example, the one submitted last at the end."""
    by_example: dict[str, list[Feedback]] = {}
    for one in in_order(feedback):
        by_example.setdefault(one.example_id, []).append(one)
    return by_example


def in_order(feedback: Iterable[Feedback]) -> list[Feedback]:
    """Corrections in the order in which they were submitted."""
    return sorted(feedback, key=_order)


def _order(feedback: Feedback) -> tuple[int, str]:
    return feedback.created_us, feedback.id


def _as_it_was(example: Example, former: Former) -> Example:
    return replace(
        example,
        labels=former.labels,
        weight=former.weight,
        source=former.source,
        created_us=former.created_us,
        updated_us=former.updated_us,
    )
