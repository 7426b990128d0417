"""Where corrections are kept: a collection of Qdrant without vectors, so that all replicas see the same.

Apart from the examples, so that nothing in it can vote, and that a change of the encoder leaves it as it is.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nearvote.examples.engine import AnyOf, Engine, Found, Match, Point, UpTo
from nearvote.examples.readable import readable
from nearvote.examples.spaces import open_feedback_collection
from nearvote.feedback.correction import Feedback, FeedbackState, Former, Layer

_HOUR_US = 3_600_000_000
_PAGE = 256
_POINTS_A_WRITE = 64
_DUE = 1  # Edge does not match booleans


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """Some corrections, and the id to go on from; None when these are the last."""

    feedback: list[Feedback]
    next_id: str | None


class FeedbackStore:
    """Keeps corrections. All methods raise StoreUnavailable when the engine does not answer; `open_feedback` makes one.

    Args:
        engine: Edge or a server.
        collection: Where.
    """

    def __init__(self, engine: Engine, collection: str) -> None:
        self._engine = engine
        self._collection = collection

    async def get(self, tenant: str, ids: Sequence[str]) -> dict[str, Feedback]:
        """The corrections of these ids, by id; those that the tenant does not have are left out."""
        if not ids:
            return {}
        found = await self._engine.retrieve(self._collection, list(dict.fromkeys(ids)), None)
        every = [_feedback(point) for point in found]
        return {one.id: one for one in every if one.tenant == tenant}

    async def put(self, feedback: Sequence[Feedback]) -> None:
        """Adds corrections, or replaces those of the same id."""
        points = [Point(one.id, _payload(one)) for one in feedback]
        for start in range(0, len(points), _POINTS_A_WRITE):
            await self._engine.upsert(self._collection, points[start : start + _POINTS_A_WRITE])

    async def list_page(
        self,
        tenant: str,
        *,
        task: str = "",
        state: FeedbackState | None = None,
        source: str = "",
        example_id: str = "",
        limit: int = _PAGE,
        from_id: str | None = None,
    ) -> FeedbackPage:
        """Up to `limit` corrections in the order of their ids, those with what is given."""
        given = {"task": task, "state": state.value if state else "", "source": source, "example_id": example_id}
        match: Match = {"tenant": tenant, **{key: value for key, value in given.items() if value}}
        found, next_id = await self._engine.scroll(self._collection, match, limit, from_id)
        return FeedbackPage([_feedback(point) for point in found], next_id)

    async def each(
        self,
        tenant: str,
        *,
        task: str = "",
        state: FeedbackState | None = None,
        source: str = "",
        example_id: str = "",
    ) -> AsyncIterator[Feedback]:
        """All corrections with what is given, page by page, in the order of their ids."""
        from_id = None
        while True:
            page = await self.list_page(
                tenant, task=task, state=state, source=source, example_id=example_id, from_id=from_id
            )
            for one in page.feedback:
                yield one
            from_id = page.next_id
            if from_id is None:
                return

    async def pending_count(self, tenant: str, source: str) -> int:
        """How many corrections of a source are pending."""
        match: Match = {"tenant": tenant, "source": source, "state": FeedbackState.PENDING.value}
        return await self._engine.count(self._collection, match)

    async def hour_count(self, tenant: str, source: str, time_us: int) -> int:
        """How many corrections a source submitted in the hour of a time, by the clock."""
        match: Match = {"tenant": tenant, "source": source, "created_hour": time_us // _HOUR_US}
        return await self._engine.count(self._collection, match)

    async def due(self) -> list[Feedback]:
        """Corrections of all tenants that the rule has said to promote, and that are not promoted yet."""
        found: list[Feedback] = []
        from_id = None
        while True:
            match: Match = {"state": FeedbackState.PENDING.value, "due": _DUE}
            page, from_id = await self._engine.scroll(self._collection, match, _PAGE, from_id)
            found += [_feedback(point) for point in page]
            if from_id is None:
                return found

    async def prune(self, before_us: int) -> None:
        """Deletes the corrections of all tenants that were rejected or revoked before a time."""
        closed = AnyOf((FeedbackState.REJECTED.value, FeedbackState.REVOKED.value))
        await self._engine.delete(self._collection, {"state": closed, "updated_us": UpTo(before_us - 1)})

    async def delete_source(self, tenant: str, source: str, task: str = "") -> None:
        """Deletes all corrections of a source, of one task where it is named."""
        match: Match = {"tenant": tenant, "source": source, **({"task": task} if task else {})}
        await self._engine.delete(self._collection, match)

    async def delete_about(self, tenant: str, example_ids: Sequence[str]) -> None:
        """Deletes all corrections of these examples."""
        if example_ids:
            await self._engine.delete(self._collection, {"tenant": tenant, "example_id": AnyOf(example_ids)})

    async def delete_task(self, tenant: str, task: str) -> None:
        """Deletes all corrections of a task."""
        await self._engine.delete(self._collection, {"tenant": tenant, "task": task})


async def open_feedback(engine: Engine) -> FeedbackStore:
    """Opens the store; creates it where there is none yet."""
    return FeedbackStore(engine, await open_feedback_collection(engine))


def _payload(feedback: Feedback) -> dict[str, Any]:
    return {
        **{key: value for key, value in asdict(feedback).items() if key != "due"},
        **({"due": _DUE} if feedback.due else {}),
        "labels": list(feedback.labels),
        "state": feedback.state.value,
        "created_hour": feedback.created_us // _HOUR_US,
        "layer": None if feedback.layer is None else _layer_payload(feedback.layer),
    }


def _layer_payload(layer: Layer) -> dict[str, Any]:
    base = layer.base
    return {**asdict(layer), "base": None if base is None else {**asdict(base), "labels": list(base.labels)}}


def _feedback(point: Found) -> Feedback:
    with readable():
        payload = {key: value for key, value in point.payload.items() if key != "created_hour"}
        return Feedback(
            **{
                **payload,
                "labels": tuple(payload["labels"]),
                "state": FeedbackState(payload["state"]),
                "layer": _layer(payload["layer"]),
                "due": "due" in payload,
            }
        )


def _layer(payload: Mapping[str, Any] | None) -> Layer | None:
    if payload is None:
        return None
    base = payload["base"]
    return Layer(**{**payload, "base": None if base is None else Former(**{**base, "labels": tuple(base["labels"])})})
