"""The rule that promotes what enough sources agree about."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from nearvote.access.caller import Caller
from nearvote.audit.log import SERVICE
from nearvote.errors import NearvoteError
from nearvote.feedback.correction import Feedback, FeedbackState
from nearvote.feedback.promotion import Promotions, in_order
from nearvote.feedback.store import FeedbackStore

_log = structlog.get_logger(__name__)

Count = Callable[[str, str, str, int], None]


class Rule:
    """Promotes what enough sources say, and more than say otherwise.

    What it says to promote is stored with a mark that it is due, in one write with the correction that was the last it
    took; so it is promoted in the end, whatever fails in between. Whoever calls holds off others who change a
    tenant's feedback.

    Args:
        store: Keeps corrections.
        promotions: Makes examples of them.
        promote_after: Sources that must agree; 0 for a rule that promotes nothing.
        count: Told tenant, task, outcome, and how many corrections.
    """

    def __init__(self, store: FeedbackStore, promotions: Promotions, promote_after: int, count: Count) -> None:
        self._store = store
        self._promotions = promotions
        self._promote_after = promote_after
        self._count = count

    async def agreeing(self, tenant: str, feedback: Feedback) -> list[Feedback]:
        """A pending correction, stored or not, and what is to be promoted with it, as due; none if too few agree.

        Each source has one vote, its last word on the text, pending or promoted.
        """
        if not self._promote_after:
            return []
        about = {one.id: one async for one in self._store.each(tenant, example_id=feedback.example_id)}
        open_ = [
            one
            for one in in_order((about | {feedback.id: feedback}).values())
            if one.state in (FeedbackState.PENDING, FeedbackState.PROMOTED)
        ]
        said = {one.source: one for one in open_}
        votes = Counter(one.labels for one in said.values())
        own = votes.pop(feedback.labels, 0)
        if own < self._promote_after or own <= max(votes.values(), default=0):
            return []
        return [
            replace(one, due=True)
            for one in open_
            if one.state is FeedbackState.PENDING and one.labels == feedback.labels
        ]

    async def promote(self, tenant: str, due: Feedback, agreeing: Sequence[Feedback], by: Caller = SERVICE) -> int:
        """Promotes a correction that is due with those that agree; where that fails, a sweep is to try again.

        Returns:
            How many were promoted.
        """
        try:
            return await self._promote(tenant, due, agreeing, by)
        except NearvoteError as error:
            self._count(tenant, due.task, "deferred", 1)
            _log.warning("not_promoted_by_rule", tenant=tenant, task=due.task, reason=error.reason)
            return 0

    async def retry(self, tenant: str, id_: str) -> int:
        """Promotes a correction that is due, unless it is no more. Returns how many were promoted with it."""
        due = (await self._store.get(tenant, [id_])).get(id_)
        if due is None or not due.due or due.state is not FeedbackState.PENDING:
            return 0
        return await self.promote(tenant, due, await self.agreeing(tenant, due))

    async def _promote(self, tenant: str, due: Feedback, agreeing: Sequence[Feedback], by: Caller) -> int:
        if not agreeing:  # the rule does not say so any more
            await self._store.put([replace(due, due=False)])
            return 0
        promoted = await self._promotions.promote(tenant, due.task, agreeing, by)
        self._count(tenant, due.task, "promoted", promoted.count)
        await self._store.put([replace(one, due=False) for one in agreeing if one.id in promoted.refused])
        return promoted.count
