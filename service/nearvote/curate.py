"""Keeping the examples: adding and deleting them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE, Recorder, Unrecorded
from nearvote.clock import system_us
from nearvote.embedding.cache import Views
from nearvote.embedding.embedder import Embedder
from nearvote.errors import (
    InvalidExample,
    InvalidInput,
    LimitReached,
    NearvoteError,
    TaskNotFound,
)
from nearvote.examples.audited import deleted, written
from nearvote.examples.example import Draft, Example, ImportedChunk, Saved, checked_id, not_found
from nearvote.examples.store import EmbeddedExample, ExampleStore
from nearvote.keep_up import keep_up, projected
from nearvote.limits import Limits, check_batch, check_text
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.writes import Writes

AlsoDelete = Callable[[str, str], Awaitable[None]]


@dataclass(slots=True, eq=False)
class BegunImport:
    """A chunk of an import that is checked and embedded, and not yet written."""

    tenant: str
    drafts: Sequence[Draft]
    validate_only: bool = field(kw_only=True)
    valid: list[int] = field(default_factory=list)
    rejected: dict[int, NearvoteError] = field(default_factory=dict)
    views: dict[str, Views] = field(default_factory=dict)


class Curator:
    """Keeps a tenant's examples.

    Args:
        embedder: Turns texts into vectors.
        store: Keeps examples.
        tasks: Knows the tasks, and is told of changes.
        limits: What a call may ask; an attribute, for those who prepare calls.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        audit: Records changes.
        forget: Lets go of what is remembered of texts of a tenant that are deleted.
    """

    def __init__(
        self,
        embedder: Embedder,
        store: ExampleStore,
        tasks: TaskRegistry,
        limits: Limits,
        now_us: Callable[[], int] = system_us,
        *,
        audit: Recorder | None = None,
        forget: Callable[[Sequence[str], str], None] = lambda _texts, _tenant: None,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._tasks = tasks
        self.limits = limits
        self._now_us = now_us
        self._audit = audit or Unrecorded()
        self._forget = forget
        self._writes = Writes()
        self._also_delete: AlsoDelete | None = None
        self._at_most: dict[tuple[str, str], int] = {}  # examples, by tenant and task; there may be fewer

    async def create(
        self, tenant: str, drafts: Sequence[Draft], *, field: str = "examples", by: Caller = SERVICE
    ) -> list[Saved]:
        """Adds examples, or replaces labels, weight and source of those whose text is known. All or none.

        Subject and end are replaced where they are given. A text that is known is not embedded again.

        Args:
            tenant: Whose they are.
            drafts: 1 to `max_batch_texts` examples. Of a text given twice the last one counts.
            field: What errors call the list.
            by: Who adds them.

        Returns:
            The examples as they are stored, in the order given.

        Raises:
            InvalidInput: One of them can't be right; `field` says which.
            TaskNotFound: There is no task of this name.
            StoreUnavailable: The store did not answer.
        """
        check_batch(drafts, self.limits, field=field)
        for i, draft in enumerate(drafts):
            try:
                await self._check(tenant, draft)
            except NearvoteError as error:
                raise error.at(f"{field}[{i}]") from None
        saved, unreadable = await self._save(tenant, drafts, by)
        if unreadable:
            first = min(unreadable)
            raise unreadable[first].at(f"{field}[{first}]")
        return saved

    async def import_chunk(
        self,
        tenant: str,
        drafts: Sequence[Draft],
        *,
        validate_only: bool,
        by: Caller = SERVICE,
        action: Action | None = None,
    ) -> ImportedChunk:
        """Adds the valid examples of a chunk, and says what is wrong with the others.

        Args:
            tenant: Whose they are.
            drafts: 1 to `max_batch_texts` examples.
            validate_only: Check only.
            by: Who adds them.
            action: What it is recorded as; as examples that were added and changed when None.

        Returns:
            What was saved (what would be, all of it as not new, when only checked) and what was refused.

        Raises:
            TooManyTexts: The chunk is empty or too large.
            StoreUnavailable: The store did not answer.
        """
        begun = await self.begin_import(tenant, drafts, validate_only=validate_only)
        return await self.finish_import(begun, by=by, action=action)

    async def begin_import(self, tenant: str, drafts: Sequence[Draft], *, validate_only: bool) -> "BegunImport":
        """Does that part of `import_chunk` that may be done while the chunk before is written.

        Returns:
            What is to be finished.
        """
        check_batch(drafts, self.limits, field="items")
        begun = BegunImport(tenant, drafts, validate_only=validate_only)
        for i, draft in enumerate(drafts):
            try:
                await self._check(tenant, draft)
                begun.valid.append(i)
            except NearvoteError as error:
                begun.rejected[i] = error
        valid = [drafts[i] for i in begun.valid]
        if validate_only:
            unreadable = await self._embedder.unreadable([draft.text for draft in valid])
            begun.rejected |= {begun.valid[i]: _nothing_to_read() for i in unreadable}
        else:
            known = await self._known(tenant, valid)
            new = {example.id: example.text for draft in valid if (example := draft.stored_for(tenant)).id not in known}
            begun.views = await self._views(new)
        return begun

    async def finish_import(
        self, begun: "BegunImport", *, by: Caller = SERVICE, action: Action | None = None
    ) -> ImportedChunk:
        """Saves what was begun."""
        drafts, rejected = begun.drafts, begun.rejected
        if begun.validate_only:
            checked = [drafts[i].stored_for(begun.tenant) for i in begun.valid if i not in rejected]
            return ImportedChunk([Saved(example, created=False) for example in checked], rejected)
        if not begun.valid:
            return ImportedChunk([], rejected)
        saved, unreadable = await self._save(
            begun.tenant, [drafts[i] for i in begun.valid], by, action, skip_unreadable=True, views=begun.views
        )
        rejected |= {begun.valid[i]: error for i, error in unreadable.items()}
        return ImportedChunk(saved, rejected)

    async def delete(self, tenant: str, task: str, id_: str, *, by: Caller = SERVICE) -> None:
        """Deletes an example, and what else is kept of its text.

        Raises:
            TaskNotFound, ExampleNotFound: There is none.
        """
        await self._tasks.get(tenant, task)
        id_ = checked_id(id_)
        if self._also_delete and await self._store.get(tenant, task, [id_]):
            # First: cut short in between, the example is still there to be deleted, and it with it.
            await self._also_delete(tenant, id_)
        if not await self._writes.shielded(self._tasks.changing(tenant), lambda: self._delete(tenant, task, id_, by)):
            raise not_found()

    def also_delete(self, delete: AlsoDelete) -> None:
        """Names what else is kept of an example, and goes before it: called with tenant and the example's id."""
        self._also_delete = delete

    async def _delete(self, tenant: str, task: str, id_: str, by: Caller) -> bool:
        example = (await self._store.get(tenant, task, [id_])).get(id_)
        if example is None:
            return False
        async with self._audit.recording(tenant, by, deleted([example])):
            await self._store.delete(tenant, task, id_)
            self._forget([example.text], tenant)
            await self._tasks.examples_changed(tenant, task)
        return True

    async def _check(self, tenant: str, draft: Draft) -> None:
        task = await self._tasks.get(tenant, draft.task)
        check_text(draft.text, self.limits, field="text")
        draft.check(self._now_us())
        task.check_labels(draft.labels)

    async def _known(self, tenant: str, drafts: Sequence[Draft]) -> dict[str, Example]:
        """The stored examples of the drafts' tasks and texts, by id."""
        known: dict[str, Example] = {}
        for task in {draft.task for draft in drafts}:
            ids = [draft.stored_for(tenant).id for draft in drafts if draft.task == task]
            known |= await self._store.get(tenant, task, list(dict.fromkeys(ids)))
        return known

    async def _views(self, texts: Mapping[str, str]) -> dict[str, Views]:
        """The views of texts, by what they are given by."""
        embedded = await self._embedder.embed(list(texts.values()))
        return dict(zip(texts, map(Views, embedded.windows, embedded.surfaces), strict=True))

    async def _save(
        self,
        tenant: str,
        drafts: Sequence[Draft],
        by: Caller,
        action: Action | None = None,
        *,
        skip_unreadable: bool = False,
        views: Mapping[str, Views] | None = None,
    ) -> tuple[list[Saved], dict[int, NearvoteError]]:
        """Saves checked drafts; says which have nothing to read. Saves none of them then, unless these are skipped.

        What is not among the views, by example id, is embedded.
        """
        given = [draft.stored_for(tenant) for draft in drafts]
        wanted = {example.id: example for example in given}  # the last one of a text counts
        known = await self._known(tenant, drafts)
        new = {id_: example for id_, example in wanted.items() if id_ not in known}
        missing = {id_: example.text for id_, example in new.items() if id_ not in (views or {})}
        views = {**(views or {}), **(await self._views(missing) if missing else {})}
        unreadable: dict[int, NearvoteError] = {
            i: _nothing_to_read()
            for i, example in enumerate(given)
            if example.id in new and not len(views[example.id].windows)
        }
        if unreadable and not skip_unreadable:
            return [], unreadable

        now = self._now_us()
        for id_, example in wanted.items():
            before = known.get(id_)
            wanted[id_] = example.after(before, now)
            if before and replace(wanted[id_], updated_us=before.updated_us) == before:
                wanted[id_] = before  # nothing changes
        fresh = [
            EmbeddedExample(wanted[id_], views[id_].windows, views[id_].surface)
            for id_ in new
            if len(views[id_].windows)
        ]
        relabelled = [example for id_, example in wanted.items() if id_ in known and example != known[id_]]
        wrote = await self._writes.shielded(
            self._tasks.changing(tenant), lambda: self._write(tenant, drafts, known, fresh, relabelled, by, action)
        )
        if not wrote:
            return await self._save(tenant, drafts, by, action, skip_unreadable=skip_unreadable, views=views)
        saved = [
            Saved(wanted[example.id], created=example.id not in known)
            for i, example in enumerate(given)
            if i not in unreadable
        ]
        return saved, unreadable

    async def _write(
        self,
        tenant: str,
        drafts: Sequence[Draft],
        known: Mapping[str, Example],
        fresh: Sequence[EmbeddedExample],
        relabelled: Sequence[Example],
        by: Caller,
        action: Action | None,
    ) -> bool:
        """Writes, unless what is known of the drafts is no longer so. Returns whether it wrote."""
        changed = {embedded.example.task for embedded in fresh} | {example.task for example in relabelled}
        for draft in drafts:  # again: a task may have changed while its examples were embedded
            (await self._tasks.get(tenant, draft.task)).check_labels(draft.labels)
        if await self._known(tenant, drafts) != known:
            return False
        await self._check_room(tenant, fresh)
        changes = written(known, (one.example for one in fresh), relabelled, action)
        async with self._audit.recording(tenant, by, changes):
            try:
                await self._put(tenant, drafts, known, fresh, relabelled)
            finally:
                for task in changed:
                    await self._tasks.examples_changed(tenant, task)
        return True

    async def _check_room(self, tenant: str, fresh: Sequence[EmbeddedExample]) -> None:
        for task, new in Counter(embedded.example.task for embedded in fresh).items():
            known, most = self._at_most.get((tenant, task)), self.limits.max_task_examples
            if (
                known is None or known + new > most
            ):  # counting takes longer than adding; deletions have not been heard of
                known = (await self._store.class_sizes(tenant, task)).total
            if known + new > most:
                raise LimitReached(
                    f"the task has {known} examples, and may have {most}: delete some, or raise max_task_examples",
                    field="task",
                )
            self._at_most[tenant, task] = known + new

    async def _put(
        self,
        tenant: str,
        drafts: Sequence[Draft],
        known: Mapping[str, Example],
        fresh: Sequence[EmbeddedExample],
        relabelled: Sequence[Example],
    ) -> None:
        """Writes examples for their tasks as these are by the end of it; none where one is gone, or lacks a label."""
        tasks = {draft.task: await self._tasks.get(tenant, draft.task) for draft in drafts}
        own = {name: [one for one in fresh if one.example.task == name] for name in tasks}
        for name, examples in own.items():
            await self._store.put(await projected(self._tasks.fits, tenant, tasks[name], examples))
        await self._store.annotate(relabelled)
        try:
            for name, examples in own.items():
                tasks[name] = await keep_up(self._store, self._tasks, tenant, tasks[name], examples)
            for draft in drafts:
                tasks[draft.task].check_labels(draft.labels)
        except (TaskNotFound, InvalidInput):  # another replica was faster by a moment
            for one in fresh:
                await self._store.delete(tenant, one.example.task, one.example.id)
            await self._store.annotate([known[example.id] for example in relabelled])
            raise

    async def settle(self) -> None:
        """Returns when every write under way has ended."""
        await self._writes.settle()


def _nothing_to_read() -> InvalidExample:
    return InvalidExample("there is nothing to read in the text", field="text")
