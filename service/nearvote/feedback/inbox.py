"""The use of feedback: corrections come in, are looked at, and become examples or not."""

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from nearvote.access.caller import Caller
from nearvote.audit.log import SERVICE, Recorder, Unrecorded
from nearvote.clock import system_us
from nearvote.curate import Curator
from nearvote.embedding.embedder import Embedder
from nearvote.errors import (
    FeedbackKeyReused,
    FeedbackNotFound,
    FeedbackRateReached,
    InvalidExample,
    InvalidField,
    LimitReached,
    NearvoteError,
)
from nearvote.examples.example import checked_id, checked_start, example_id, not_found
from nearvote.examples.store import ExampleStore
from nearvote.examples.store import Selection as ExampleSelection
from nearvote.feedback.correction import (
    Correction,
    Feedback,
    FeedbackState,
    Promoted,
    Revoked,
    Selection,
    Submitted,
    feedback_id,
)
from nearvote.feedback.promotion import Promotions, last_words, pending_among
from nearvote.feedback.rule import Count, Rule
from nearvote.feedback.store import FeedbackPage, FeedbackStore
from nearvote.learn.learner import Learner
from nearvote.learn.preview import Preview
from nearvote.limits import check_page_size, check_text
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.writes import Writes

MAX_SELECTED = 5_000  # corrections of one call: they are promoted while the caller waits
_LOOKED_UP = 256
_DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class PromotionPreview:
    """What a promotion would do: so many corrections, new examples, examples of other labels; and what is refused."""

    count: int
    new_count: int
    relabeled_count: int
    refused: dict[str, NearvoteError]
    preview: Preview


class Inbox:
    """Keeps a tenant's corrections.

    Args:
        store: Keeps corrections.
        examples: Keeps examples.
        tasks: Knows the tasks.
        embedder: Knows whether there is anything to read in a text.
        curator: Adds examples.
        learner: Shows what a promotion would change.
        audit: Records changes of examples.
        forget: Lets go of what is remembered of texts of a tenant that are deleted.
        keep_days: How long what was rejected or revoked is kept, in days; 0 for ever.
        promote_after: Sources that must agree for a correction to be promoted by itself; 0 for never.
        count: Told tenant, task, outcome, and how many corrections.
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        store: FeedbackStore,
        examples: ExampleStore,
        tasks: TaskRegistry,
        embedder: Embedder,
        curator: Curator,
        learner: Learner,
        *,
        audit: Recorder | None = None,
        forget: Callable[[Sequence[str], str], None] = lambda _texts, _tenant: None,
        keep_days: int = 0,
        promote_after: int = 0,
        count: Count = lambda _tenant, _task, _outcome, _count: None,
        now_us: Callable[[], int] = system_us,
    ) -> None:
        self._store = store
        self._examples = examples
        self._tasks = tasks
        self._embedder = embedder
        self._curator = curator
        self._learner = learner
        self._promotions = Promotions(store, examples, tasks, curator, audit or Unrecorded(), forget, now_us)
        self._keep_us = keep_days * _DAY_US
        self._rule = Rule(store, self._promotions, promote_after, count)
        self._count = count
        self._now_us = now_us
        # One change of a tenant's feedback at a time; it binds this process, as that of the tasks does (DECISIONS 16).
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._writes = Writes()

    async def submit(self, tenant: str, correction: Correction, *, by: Caller = SERVICE) -> Submitted:
        """Takes a correction, and promotes it where the rule says so. Given again, it returns what is there.

        Raises:
            InvalidInput: Something in it can't be right.
            TaskNotFound, ExampleNotFound: There is none.
            FeedbackKeyReused: Another correction has its key.
            LimitReached: Its source has as many pending as it may.
            FeedbackRateReached: Its source has submitted as many in this hour as it may.
        """
        correction.check()
        return await self._writes.shielded(self._locks[tenant], lambda: self._submit(tenant, correction, by))

    async def _submit(self, tenant: str, correction: Correction, by: Caller) -> Submitted:
        id_ = feedback_id(tenant, correction.key)
        known = (await self._store.get(tenant, [id_])).get(id_)
        if known is not None:
            if not known.is_of(correction):
                raise FeedbackKeyReused("another correction has this key: give each one its own", field="key")
            self._count(tenant, known.task, "repeated", 1)
            return Submitted(known, created=False)
        feedback = await self._checked(tenant, id_, correction)
        await self._check_limits(tenant, feedback)
        agreeing = await self._rule.agreeing(tenant, feedback)
        feedback = next((one for one in agreeing if one.id == id_), feedback)
        await self._store.put([feedback])
        self._count(tenant, feedback.task, "submitted", 1)
        if agreeing and await self._rule.promote(tenant, feedback, agreeing, by):
            feedback = (await self._store.get(tenant, [id_])).get(id_, feedback)
        return Submitted(feedback, created=True)

    async def _checked(self, tenant: str, id_: str, correction: Correction) -> Feedback:
        task = await self._tasks.get(tenant, correction.task)
        text = correction.text
        if not text:
            try:
                found = await self._examples.get(tenant, task.name, [checked_id(correction.example_id)])
                if not found:
                    raise not_found()
                text = next(iter(found.values())).text
            except NearvoteError as error:
                error.field = "example_id" if error.field == "id" else error.field
                raise
        check_text(text, self._curator.limits, field="text")
        now = self._now_us()
        feedback = Feedback(
            id=id_,
            tenant=tenant,
            key=correction.key,
            task=task.name,
            text=text,
            example_id=example_id(tenant, task.name, text),
            labels=tuple(sorted(correction.labels)),
            source=correction.source,
            state=FeedbackState.PENDING,
            created_us=now,
            updated_us=now,
        )
        feedback.draft().check()
        task.check_labels(correction.labels)
        if await self._embedder.unreadable([text]):
            raise InvalidExample("there is nothing to read in the text", field="text")
        return feedback

    async def _check_limits(self, tenant: str, feedback: Feedback) -> None:
        limits, source = self._curator.limits, feedback.source
        error: NearvoteError
        if await self._store.hour_count(tenant, source, feedback.created_us) >= limits.max_feedback_per_hour:
            error = FeedbackRateReached(
                f"this source has submitted {limits.max_feedback_per_hour} corrections in this hour, its most: "
                "send it again in the next",
                field="source",
            )
        elif await self._store.pending_count(tenant, source) >= limits.max_pending_feedback:
            error = LimitReached(
                f"{limits.max_pending_feedback} corrections of this source are pending, as many as may be: promote or "
                "reject some",
                field="source",
            )
        else:
            return
        self._count(tenant, feedback.task, "limited", 1)
        raise error

    async def get(self, tenant: str, id_: str) -> Feedback:
        """One correction.

        Raises:
            FeedbackNotFound: There is none.
        """
        return (await self._of_ids(tenant, [id_], field="id"))[0]

    async def list_page(
        self,
        tenant: str,
        *,
        task: str = "",
        state: FeedbackState | None = None,
        source: str = "",
        page_size: int = 0,
        from_id: str | None = None,
    ) -> FeedbackPage:
        """A page of corrections, in the order of their ids.

        Args:
            tenant: Whose they are.
            task: Only those of this task; all when empty.
            state: Only those in this state; all when None.
            source: Only those from this source; all when empty.
            page_size: 1 to 1000; 0 for 100.
            from_id: The id to begin with.

        Raises:
            TaskNotFound: There is no task of this name.
            InvalidInput: The size is out of range, or `from_id` no id.
        """
        if task:
            await self._tasks.get(tenant, task)
        limit = check_page_size(page_size)
        from_id = checked_start(from_id)
        return await self._store.list_page(tenant, task=task, state=state, source=source, limit=limit, from_id=from_id)

    async def preview(self, tenant: str, selection: Selection) -> PromotionPreview:
        """Shows what a promotion would change, and changes nothing.

        Raises:
            InvalidField: The selection says nothing.
            TaskNotFound, FeedbackNotFound: There is none.
            LimitReached: It covers too many.
        """
        pending, refused = pending_among(await self._select(tenant, selection))
        valid, more = await self._promotions.promotable(tenant, selection.task, pending)
        by_example = last_words(valid)
        present = await self._examples.get(tenant, selection.task, list(by_example))
        changing = [id_ for id_ in present if present[id_].labels != by_example[id_][-1].labels]
        drafts = [chosen[-1].draft() for chosen in by_example.values()]
        return PromotionPreview(
            len(valid),
            len(by_example) - len(present),
            len(changing),
            refused | more,
            await self._learner.preview(tenant, selection.task, drafts),
        )

    async def promote(self, tenant: str, selection: Selection, *, by: Caller = SERVICE) -> Promoted:
        """Makes examples of pending corrections. What is promoted already stays so.

        Raises:
            InvalidField: The selection says nothing.
            TaskNotFound, FeedbackNotFound: There is none.
            LimitReached: It covers too many.
        """
        return await self._writes.shielded(self._locks[tenant], lambda: self._promote(tenant, selection, by))

    async def _promote(self, tenant: str, selection: Selection, by: Caller) -> Promoted:
        pending, refused = pending_among(await self._select(tenant, selection))
        promoted = await self._promotions.promote(tenant, selection.task, pending, by)
        self._count(tenant, selection.task, "promoted", promoted.count)
        return replace(promoted, refused=refused | promoted.refused)

    async def reject(self, tenant: str, selection: Selection) -> int:
        """Refuses pending corrections for good, and says how many; raises as `promote` does."""
        async with self._locks[tenant]:
            pending, _ = pending_among(await self._select(tenant, selection))
            now = self._now_us()
            await self._store.put([replace(one, state=FeedbackState.REJECTED, updated_us=now) for one in pending])
        self._count(tenant, selection.task, "rejected", len(pending))
        return len(pending)

    async def revoke(
        self, tenant: str, source: str, *, task: str = "", from_us: int = 0, until_us: int = 0, by: Caller = SERVICE
    ) -> Revoked:
        """Takes back what a source has submitted: drops what is pending, undoes what is promoted.

        Args:
            tenant: Whose it is.
            source: The source.
            task: Only that of this task; all when empty.
            from_us: Only what was submitted at this time or later, in microseconds since 1970-01-01 UTC; 0 for any.
            until_us: Only what was submitted before this time; 0 for any.
            by: Who takes it back.

        Raises:
            InvalidField: No source is named.
            TaskNotFound: There is no task of this name.
        """
        if not source:
            raise InvalidField("name the source whose feedback is to be taken back", field="source")
        if task:
            await self._tasks.get(tenant, task)
        chosen = Selection(task, source=source, from_us=from_us, until_us=until_us)
        return await self._writes.shielded(self._locks[tenant], lambda: self._revoke(tenant, chosen, by))

    async def _revoke(self, tenant: str, chosen: Selection, by: Caller) -> Revoked:
        taken = [
            one
            async for one in self._store.each(tenant, task=chosen.task, source=chosen.source)
            if one.state in (FeedbackState.PENDING, FeedbackState.PROMOTED) and chosen.covers(one)
        ]
        revoked = await self._promotions.revoke(tenant, taken, by)
        for name, count in Counter(one.task for one in taken).items():
            self._count(tenant, name, "revoked", count)
        return revoked

    async def erase(self, tenant: str, selection: ExampleSelection, example_ids: Sequence[str]) -> None:
        """Deletes, in whatever state, what a source has submitted and what is about examples that are to be deleted.

        Args:
            tenant: Whose it is.
            selection: What the examples are deleted by.
            example_ids: Those that there are.
        """
        await self._writes.shielded(self._locks[tenant], lambda: self._erase(tenant, selection, example_ids))

    async def erase_about(self, tenant: str, example_id: str) -> None:
        """Deletes, in whatever state, what is about an example that is to be deleted: it has its text."""
        await self._writes.shielded(self._locks[tenant], lambda: self._store.delete_about(tenant, [example_id]))

    async def _erase(self, tenant: str, selection: ExampleSelection, example_ids: Sequence[str]) -> None:
        if selection.source and not selection.subject:
            await self._store.delete_source(tenant, selection.source, selection.task)
        await self._store.delete_about(tenant, example_ids)

    async def sweep(self) -> int:
        """Promotes what the rule said to promote when it could not be, and deletes what was closed long enough ago.

        Returns:
            How many corrections it promoted.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        count = 0
        for one in await self._store.due():
            retry = partial(self._rule.retry, one.tenant, one.id)
            count += await self._writes.shielded(self._locks[one.tenant], retry)
        if self._keep_us:
            await self._store.prune(self._now_us() - self._keep_us)
        return count

    async def settle(self) -> None:
        """Returns when every change under way has ended."""
        await self._writes.settle()

    async def _select(self, tenant: str, selection: Selection) -> list[Feedback]:
        """What is selected by its ids, in whatever state; or what is pending of a source or a time."""
        selection.check()
        await self._tasks.get(tenant, selection.task)
        if len(selection.ids) > MAX_SELECTED:
            raise _too_many()
        if selection.ids:
            return await self._of_ids(tenant, selection.ids, task=selection.task, field="selection.ids")
        found: list[Feedback] = []
        async for one in self._store.each(
            tenant, task=selection.task, source=selection.source, state=FeedbackState.PENDING
        ):
            if selection.covers(one):
                found.append(one)
            if len(found) > MAX_SELECTED:
                raise _too_many()
        return found

    async def _of_ids(self, tenant: str, ids: Sequence[str], *, field: str, task: str = "") -> list[Feedback]:
        try:
            wanted = list(dict.fromkeys(str(uuid.UUID(id_)) for id_ in ids))
        except ValueError:
            raise InvalidField("an id of feedback is a UUID", field=field) from None
        found: dict[str, Feedback] = {}
        for start in range(0, len(wanted), _LOOKED_UP):
            found |= await self._store.get(tenant, wanted[start : start + _LOOKED_UP])
        if any(id_ not in found or task not in ("", found[id_].task) for id_ in wanted):
            raise FeedbackNotFound("there is no feedback of this id; `nearvote feedback list` shows it", field=field)
        return [found[id_] for id_ in wanted]


def _too_many() -> LimitReached:
    return LimitReached(
        f"more than {MAX_SELECTED} corrections are selected: select by a shorter time", field="selection"
    )
