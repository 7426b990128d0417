"""What the encoder that is to serve would say of messages, before it does."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from nearvote.classify import Classifier, Options
from nearvote.embedding.embedder import Embedder
from nearvote.examples.engine import Engine
from nearvote.examples.places import Place, stored_places
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import store_of
from nearvote.limits import Limits
from nearvote.reindex.documents import as_switched
from nearvote.reindex.host import Prepared
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadow import TriedEncoder
from nearvote.tasks.shadows import nothing_ready
from nearvote.tasks.task import Task
from nearvote.voting.prediction import Prediction

Coming: TypeAlias = Callable[[], tuple[Prepared, Place] | None]


class Beside:
    """Judges messages by the encoder that is to serve, where this process has it loaded.

    It may be let go of at any moment: the switch, a cancellation or a stop wait for no trial.

    Args:
        engine: The store's.
        source: What serves.
        limits: What a call may ask.
        ready: The encoder that this process has ready, and its place.
        loaded: The same, or one that is loaded here since another replica has begun with it.
    """

    def __init__(self, engine: Engine, source: QdrantStore, limits: Limits, ready: Coming, loaded: Coming) -> None:
        self._engine = engine
        self._source = source
        self._limits = limits
        self._ready = ready
        self._loaded = loaded
        self._desk: _Desk | None = None

    async def building(self) -> str:
        """The place of what is to serve, on whichever replica it was begun; empty for none.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        places = await stored_places(self._engine)
        return places.building.state if places and places.building else ""

    async def candidate(self, tenant: str, task: Task) -> tuple[TriedEncoder, Task]:
        """The encoder that this process has ready, and a task as it would be with it.

        Raises:
            CannotReindex: None is.
            StoreUnavailable: The store did not answer.
        """
        ready = self._ready()
        if ready is None or ready[1].state != await self.building():  # another replica may have let go of it
            raise nothing_ready()
        place = ready[1]
        switched = await as_switched(self._source, store_of(self._engine, place), tenant, task)
        return TriedEncoder(place.space.model, place.space.key, place.state), switched

    def has(self, encoder: TriedEncoder) -> bool:
        """Whether an encoder is loaded here."""
        return self._found(encoder) is not None

    async def judge(
        self, encoder: TriedEncoder, tenant: str, texts: Sequence[str], tasks: Sequence[Task], options: Options
    ) -> list[tuple[Prediction, ...]] | None:
        """What tasks would say of messages, were the encoder to serve.

        Args:
            encoder: What is tried.
            tenant: Whose examples vote.
            texts: The messages.
            tasks: The tasks as they serve now.
            options: What to answer with.

        Returns:
            For each text one prediction a task; None where the encoder is not loaded here, or was let go of meanwhile.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        found = self._found(encoder)
        if found is None:
            return None
        prepared = found[0]
        try:
            desk = self._desk_of(*found)
            return await desk.judge(prepared.aside, tenant, texts, tasks, options)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return None  # an encoder that is closed cancels whoever waits for it
        except Exception:
            now = self._found(encoder)
            if now is not None and now[0] is prepared:
                raise
            return None  # its examples may be gone with it

    def _found(self, encoder: TriedEncoder) -> tuple[Prepared, Place] | None:
        loaded = self._loaded()
        return loaded if loaded and loaded[1].state == encoder.place else None

    def _desk_of(self, prepared: Prepared, place: Place) -> "_Desk":
        # It has no hold on the encoder, which is to leave the memory once it is let go of.
        of = (place.state, id(prepared))
        if self._desk is None or self._desk.of != of:
            self._desk = _Desk(of, self._source, store_of(self._engine, place), self._limits)
        return self._desk


class _Desk:
    """What stands on the examples of a place that does not serve."""

    def __init__(self, of: tuple[str, int], source: QdrantStore, store: QdrantStore, limits: Limits) -> None:
        self.of = of
        self._source = source
        self._store = store
        self._limits = limits
        self._registry = TaskRegistry(store, limits)
        self._switched: dict[tuple[str, str], tuple[tuple[int, int], Task]] = {}

    async def judge(
        self, embedder: Embedder, tenant: str, texts: Sequence[str], tasks: Sequence[Task], options: Options
    ) -> list[tuple[Prediction, ...]]:
        classifier = Classifier(embedder, self._store, self._registry, self._limits)
        switched = [await self._as_switched(tenant, task) for task in tasks]
        return await classifier.judge(tenant, texts, await embedder.embed(texts), switched, options)

    async def _as_switched(self, tenant: str, task: Task) -> Task:
        """Read once for each version of a task: nobody else writes to what is beside before the switch."""
        version = (task.created_us, task.policy_version)
        known = self._switched.get((tenant, task.name))
        if known is None or known[0] != version:
            known = (version, await as_switched(self._source, self._store, tenant, task))
            self._switched[tenant, task.name] = known
        return known[1]


def _is_cancelled() -> bool:
    """Whether somebody wants this task itself to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
