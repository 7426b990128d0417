"""What answers at the moment. A switch to another encoder puts something else there; calls end as they began."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import structlog

from nearvote.embedding.encoder import Encoder
from nearvote.errors import SpaceSwitching, StoreUnavailable
from nearvote.examples.places import Place, Places, Source, stored_places
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import store_of
from nearvote.reindex.host import Prepared
from nearvote.rpc.status import cause_of
from nearvote.serving import Serving, Shared, serving_of
from nearvote.startup_errors import StartupError
from nearvote.version import VERSION

_log = structlog.get_logger(__name__)

# A replica looks so often whether another has switched; half of what it may be behind.
FOLLOW_SECONDS = 1.0


class Switches(Protocol):
    """Tells what this process itself does for a switch."""

    @property
    def is_switching(self) -> bool:
        """Whether it is about to switch."""
        ...

    @property
    def has_encoder(self) -> bool:
        """Whether it has loaded, or loads, the encoder that is to serve."""
        ...


class Board:
    """What answers at the moment.

    Args:
        shared: What stays.
        prepare: Loads an encoder.
    """

    def __init__(self, shared: Shared, prepare: Callable[[Source], Awaitable[Prepared]]) -> None:
        self._shared = shared
        self._prepare = prepare
        self._now: Serving | str = "the service is starting"  # or why nothing answers
        self._last: Serving | None = None  # what answers, or did last
        self._present = contextlib.AsyncExitStack()
        self._former: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._ahead: Prepared | None = None
        self._coming: Place | None = None  # what is to serve, as it was last read
        self._loading: asyncio.Task[None] | None = None  # ahead, beside what looks whether another has switched
        self._not_loaded = ""  # key of the space whose encoder could not be loaded; said once

    @property
    def now(self) -> Serving:
        """What answers; for one call, or one request of a stream.

        Raises:
            SpaceSwitching: Nothing does: another replica has switched to an encoder that is not loaded here.
        """
        if isinstance(self._now, str):
            raise SpaceSwitching(self._now)
        return self._now

    @property
    def last(self) -> Serving:
        """What answers, or did last."""
        return self._last or self.now

    @property
    def ahead(self) -> tuple[Prepared, Place] | None:
        """The encoder that is loaded here since another replica embeds with it, and where to; None for none."""
        prepared, coming = self._ahead, self._coming
        if prepared is None or coming is None or prepared.space.key != coming.space.key:
            return None
        return prepared, coming

    async def prepare(self, source: Source) -> Prepared:
        """Loads an encoder."""
        return await self._prepare(source)

    async def rest(self) -> None:
        """Stops what learns, and returns when it has."""
        await self._shared.jobs.close()

    def opened(
        self, prepared: Prepared, store: QdrantStore
    ) -> contextlib.AbstractAsyncContextManager[Callable[[], None]]:
        """Puts together what answers from a store. What is given has it answer from then on."""
        return self._opened(prepared.encoder, store)

    @contextlib.asynccontextmanager
    async def _opened(self, encoder: Encoder, store: QdrantStore) -> AsyncIterator[Callable[[], None]]:
        async with contextlib.AsyncExitStack() as stack:
            serving = await stack.enter_async_context(serving_of(self._shared, encoder, store))

            def take_over() -> None:
                former = self._present
                self._present, self._now = stack.pop_all(), serving
                self._last = serving
                self._tell(serving)
                retiring = asyncio.create_task(self._retire(former))
                self._former.add(retiring)
                retiring.add_done_callback(self._former.discard)

            yield take_over

    async def begin(self, encoder: Encoder, store: QdrantStore) -> Serving:
        """Has a first store answer."""
        async with self._opened(encoder, store) as take_over:
            take_over()
        return self.now

    async def follow(self, switches: Switches) -> None:
        """Keeps in step with what other replicas do: loads the encoder that is to serve, and switches when they have.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        last = self._last
        places = await stored_places(self._shared.engine)
        if places is None or last is None or switches.is_switching or last is not self._last:  # it was read before
            return
        coming = self._coming = places.building
        if places.examples != last.store.collections["examples"]:
            await self._catch_up(places)
        elif isinstance(self._now, str):  # they went back to what is here
            self._now = last
        elif self._loading is not None and not self._loading.done():
            pass
        elif coming is None:
            await self._let_go()
        elif self._shared.engine.kind == "server" and not switches.has_encoder and self._not_loaded != coming.space.key:
            self._loading = asyncio.create_task(self._load_beside(coming.space.key, coming.source))

    async def close(self) -> None:
        """Takes everything apart."""
        self._closing.set()
        await asyncio.gather(*self._former, return_exceptions=True)
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        await self._present.aclose()
        await self._let_go()

    async def _catch_up(self, places: Places) -> None:
        active = places.active
        # Its answers would be of examples that are changed no more.
        if self._ahead is None or self._ahead.space.key != active.space.key:
            self._now = (
                f"{active.space.model} serves elsewhere, and this replica has not loaded it: ask again, or another one"
            )
            if self._loading is not None:
                await asyncio.wait([self._loading])
            await self._load_ahead(active.space.key, active.source)
        prepared, self._ahead = self._ahead, None
        if prepared is None:
            return
        try:
            await self.rest()
            async with self.opened(prepared, store_of(self._shared.engine, active)) as take_over:
                take_over()
        finally:
            await prepared.close()
        _log.info("encoder_switched", model=active.space.model, by="another replica")

    async def _load_beside(self, key: str, source: Source) -> None:
        try:
            await self._load_ahead(key, source)
        except Exception as error:  # noqa: BLE001 - the next look tries again
            _log.warning("not_loaded_ahead", cause=cause_of(error))

    async def _load_ahead(self, key: str, source: Source) -> None:
        if self._ahead is not None and self._ahead.space.key == key:
            return
        await self._let_go()
        try:
            prepared = await self._prepare(source)
        except StartupError as error:
            cause = cause_of(error)
        else:
            if prepared.space.key == key:
                self._ahead = prepared
                return
            await prepared.close()
            cause = f"{source.model} is here another encoder than there"
        if self._not_loaded != key:
            _log.error("encoder_not_loaded", cause=cause, next="not serving while it serves elsewhere")
        self._not_loaded = key

    async def _let_go(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await ahead.close()

    def _tell(self, serving: Serving) -> None:
        metrics = self._shared.metrics
        metrics.watch_queue(lambda: serving.batcher.depth, lambda: serving.batcher.queued_tokens)
        metrics.watch_cache(lambda: serving.cache.used_bytes)
        metrics.describe(VERSION, serving.encoder.spec, serving.store.kind)

    async def _retire(self, former: contextlib.AsyncExitStack) -> None:
        """Takes apart what answered before, once the calls that it had begun have had as long as at a stop."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._shared.settings.drain_timeout_seconds):
                    await self._closing.wait()
            await former.aclose()
        except StoreUnavailable as error:
            _log.warning("not_taken_apart", cause=cause_of(error))
