"""A change of encoder: vectors are made beside those that serve, compared, and switched to by one write; and back.

What was served before stays, and going back to it is the same once more: what changed since is brought to it. Cut
short at any moment, what served before serves, and the next run goes on from what is there (DECISIONS 75 to 78).
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

import structlog

from nearvote.access.caller import Caller
from nearvote.access.flow import held_back
from nearvote.audit.event import Action, Change
from nearvote.audit.log import SERVICE, Recorder
from nearvote.clock import system_us
from nearvote.deadline import no_deadline
from nearvote.errors import CannotReindex, NearvoteError, SpaceSwitching, StoreUnavailable
from nearvote.examples.audited import deleted
from nearvote.examples.engine import Engine
from nearvote.examples.places import Place, Places, Source, current_schema, read_places, replace_places, with_source
from nearvote.examples.qdrant_store import STATE_COLLECTION, QdrantStore
from nearvote.examples.spaces import create_space, drop_inactive, new_state_name, place_of, store_of
from nearvote.reindex.comparison import compare
from nearvote.reindex.documents import carry_documents
from nearvote.reindex.host import Host, Prepared
from nearvote.reindex.status import Compared, Phase, Status
from nearvote.reindex.sync import LEFT_OUT_KIND, Sync
from nearvote.tasks.leases import Lease, Leases
from nearvote.tasks.writes import log_failure

_LEASE = "reindex"
# So few examples that differ are brought along while nobody writes.
_FEW = 256
_MOST_PASSES = 10
# After so long whoever was about to switch is taken for dead, and writes are let in again.
_SWITCH_SECONDS = 30.0

_Built: TypeAlias = tuple[Prepared, Place, Sync]

_log = structlog.get_logger(__name__)


class Reindexer:
    """Changes the encoder of a store.

    Args:
        engine: The store's.
        host: The process that this is done in.
        audit: Records the switch, and what goes with it.
        settle_seconds: For how long another replica may serve what was served before; nothing is written meanwhile.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        pause: Waits for some seconds.
    """

    def __init__(
        self,
        engine: Engine,
        host: Host,
        audit: Recorder,
        *,
        settle_seconds: float = 0.0,
        now_us: Callable[[], int] = system_us,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._host = host
        self._audit = audit
        self._settle_seconds = settle_seconds
        self._now_us = now_us
        self._pause = pause
        # In the collection that is known by its name: it is one lease whatever serves.
        self._leases = Leases(QdrantStore(engine, ""), alone=engine.kind == "edge", now_us=now_us)
        self._progress = Status(Phase.IDLE)
        self._running: asyncio.Task[None] | None = None
        self._built: _Built | None = None

    @property
    def is_switching(self) -> bool:
        """Whether this process is about to let other vectors serve."""
        return self._progress.phase is Phase.SWITCHING

    @property
    def has_encoder(self) -> bool:
        """Whether this process has loaded, or loads, the encoder that is to serve."""
        return self._built is not None or self._progress.phase is Phase.LOADING

    @property
    def ready(self) -> tuple[Prepared, Place] | None:
        """The encoder that this process has ready to serve, and where its vectors are; None for none."""
        if self._built is None or self._progress.phase is not Phase.READY:
            return None
        return self._built[0], self._built[1]

    async def status(self) -> Status:
        """How far it is.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        read = await read_places(self._engine)
        if read is None:
            return self._progress
        places = read[0]
        return replace(self._progress, active=places.active, building=places.building, former=places.former)

    async def start(self, source: Source, *, back: bool = False) -> Status:
        """Begins to embed the examples with another encoder, or goes on with it, and returns at once.

        Args:
            source: What loads it; the one that it was begun with when that is empty.
            back: Take the one that served before instead.

        Raises:
            CannotReindex: It is being done already, or there is nothing to go back to or on with, or nothing stored.
        """
        places, _ = await self._read()
        if not back and not source.model:
            if places.building is None:
                raise CannotReindex("there is nothing to go on with: name a model", field="model")
            source = places.building.source
        if back:
            if places.former is None:
                raise CannotReindex("there is no former encoder to go back to", field="back")
            source = places.former.source
            if not source.model:
                raise CannotReindex("what loads the former encoder is not known: name it", field="model")
        lease = await self._lease()
        await self._let_go()
        self._progress = Status(Phase.LOADING)
        with no_deadline(), held_back():  # those of the call which begins it are not its own
            self._running = asyncio.create_task(self._run(lease, source))
        return await self.status()

    async def finished(self) -> Status:
        """Returns when nothing is being done any more."""
        if self._running is not None:
            await asyncio.wait([self._running])
        return await self.status()

    async def switch(self, *, by: Caller = SERVICE) -> Status:
        """Lets the vectors that are ready serve, in place of those that do.

        Raises:
            CannotReindex: There are none, or they are not ready yet.
            SpaceSwitching: It took so long that it was given up; nothing has changed.
        """
        if self._progress.phase not in (Phase.IDLE, Phase.READY, Phase.FAILED):
            raise _running()
        if self._built is None or self._progress.phase is not Phase.READY:
            raise CannotReindex("nothing is ready to be switched to: begin with `nearvote reindex --model MODEL`")
        lease = await self._lease()
        with no_deadline(), held_back():
            self._running = asyncio.create_task(self._switch(lease, self._built, by))
        try:
            await asyncio.shield(self._running)
        except asyncio.CancelledError:
            self._running.add_done_callback(log_failure)
            raise
        return await self.status()

    async def cancel(self) -> Status:
        """Stops it, and lets go of what was embedded. What served before still serves.

        Raises:
            CannotReindex: It is just about to switch, or another replica has just begun.
            SpaceSwitching: Another replica is just about to switch.
        """
        if self.is_switching:
            raise _running()
        await self.stop()
        places, _ = await self._read()
        if places.switching_until_us > self._now_us():  # another replica is, and needs what this would drop
            raise SpaceSwitching("another encoder's vectors come to be served: ask again in a moment")
        await self._leases.revoke("", _LEASE)  # another replica's, which notices
        await self._let_go()
        self._progress = Status(Phase.IDLE)
        await self._drop(lambda places: replace(places, building=None))
        return await self.status()

    async def drop_former(self) -> Status:
        """Lets go of what served before. There is no going back to it then.

        Raises:
            CannotReindex: There is none, it is about to serve again, or examples are being embedded.
        """

        def without(places: Places) -> Places:
            if places.former is None:
                raise CannotReindex("there is no former encoder's collection")
            if places.building == places.former or places.switching_until_us:
                raise CannotReindex("the former encoder is about to serve again: cancel that first")
            return replace(places, former=None)

        await self._drop(without)
        return await self.status()

    async def stop(self) -> None:
        """Stops what is being done, for the next run to go on with; a switch is made to its end."""
        if self._running is not None:
            if not self.is_switching:
                self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def close(self) -> None:
        """Stops, and lets go of the encoder."""
        await self.stop()
        await self._let_go()

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _run(self, lease: Lease, source: Source) -> None:
        try:
            async with lease.kept(lost=self._cancel):
                compared = await self._build(source)
            # When the lease is free again, for the switch to take.
            self._progress = replace(self._progress, phase=Phase.READY, compared=compared)
        except NearvoteError as error:
            self._progress = replace(self._progress, phase=Phase.FAILED, error=error)
        except asyncio.CancelledError:
            self._progress = Status(Phase.IDLE)
            raise
        except Exception:  # noqa: BLE001 - whatever it was, it ends, and the log has it
            self._progress = replace(self._progress, phase=Phase.FAILED)
            _log.exception("reindex_failed")

    async def _build(self, source: Source) -> tuple[Compared, ...]:
        prepared = await self._host.prepare(source)
        try:
            place = await self._place_for(prepared)
        except BaseException:
            await prepared.close()
            raise
        places, _ = await self._read()
        serving, beside = store_of(self._engine, places.active), store_of(self._engine, place)
        self._progress = replace(self._progress, phase=Phase.EMBEDDING, total=await serving.example_count())
        sync = Sync(serving, beside, prepared.embedder, self._looked_at)
        self._built = (prepared, place, sync)
        differing, passes = await sync.everything(), 1
        while differing > _FEW and passes < _MOST_PASSES:
            differing, passes = await sync.changed(), passes + 1
        left_out = len(await beside.every_document(LEFT_OUT_KIND))
        self._progress = replace(self._progress, phase=Phase.COMPARING, left_out_count=left_out)
        compared = await compare(serving, beside)
        _log.info("reindex_ready", model=prepared.space.model, examples=self._progress.total, left_out=left_out)
        return compared

    def _looked_at(self, count: int) -> None:
        done = min(self._progress.done + count, self._progress.total)
        self._progress = replace(self._progress, done=done)

    async def _place_for(self, prepared: Prepared) -> Place:
        """Where the encoder's vectors go: where they have been going, where they were served from, or a new place."""
        key = prepared.space.key
        while True:
            places, revision = await self._read()
            active, former, building = places.active, places.former, places.building
            if key == active.space.key and active.schema == current_schema():
                raise CannotReindex("the stored vectors are this encoder's already", field="model")
            if building is not None and building.space.key != key:
                raise CannotReindex(
                    f"examples are half embedded with {building.space.model}: go on with that, or cancel it first",
                    field="model",
                )
            if building is not None:
                place = with_source(building, prepared.source)
            elif former is not None and former.space.key == key:
                place = with_source(former, prepared.source)
            else:
                state = new_state_name(secrets.token_hex(4))
                place = place_of(
                    await create_space(self._engine, prepared.space, state=state), prepared.space, prepared.source
                )
            if await replace_places(self._engine, replace(places, building=place), revision):
                return place

    async def _switch(self, lease: Lease, built: _Built, by: Caller) -> None:
        prepared, place, sync = built
        self._progress = replace(self._progress, phase=Phase.SWITCHING)
        try:
            async with lease.kept():
                while await sync.changed() > _FEW:
                    pass
                await self._host.rest()
                unfitted = await self._switch_over(prepared, place, sync, by)
        except BaseException:
            self._progress = replace(self._progress, phase=Phase.READY)
            raise
        self._built = None
        await prepared.close()
        self._progress = Status(Phase.IDLE, unfitted_tasks=unfitted)
        _log.info("encoder_switched", model=prepared.space.model, by=by.name, unfitted_tasks=len(unfitted))

    async def _switch_over(
        self, prepared: Prepared, place: Place, sync: Sync, by: Caller
    ) -> tuple[tuple[str, str], ...]:
        """Keeps writes out, brings the last ones along, and switches."""
        mark = self._now_us() + round(_SWITCH_SECONDS * 1e6)

        def marked(places: Places) -> Places:
            if not _is_building(places, place):
                raise CannotReindex("another replica has let go of what was embedded: begin anew")
            return replace(places, switching_until_us=mark)

        places = await self._change(marked)
        serving, beside = store_of(self._engine, places.active), store_of(self._engine, place)
        until = 0
        try:
            await sync.changed()
            unfitted = await carry_documents(self._engine, serving, beside, self._audit, by)
            await self._record_left_out(serving, beside, by)
            if self._settle_seconds:
                until = self._now_us() + round(self._settle_seconds * 1e6)
            for name in beside.collections.values():  # on the disk before it is named
                await self._engine.flush(name)
            async with contextlib.AsyncExitStack() as stack:
                for tenant, count in (await beside.counts_by_tenant()).items():
                    change = Change(Action.ENCODER_SWITCHED, "", example_count=count)
                    await stack.enter_async_context(self._audit.recording(tenant, by, [change]))
                take_over = await stack.enter_async_context(self._host.opened(prepared, beside))
                await self._change(lambda places: _switched(places, place, mark, until))
                take_over()
            await self._engine.flush(STATE_COLLECTION)
        except BaseException:
            with contextlib.suppress(StoreUnavailable):  # then it runs out
                await self._unmark(mark)
            raise
        if until:  # a replica that has not heard of it answers by the former examples: none comes or goes until it has
            await self._pause(self._settle_seconds)
            await self._unmark(until)
        return unfitted

    async def _record_left_out(self, serving: QdrantStore, beside: QdrantStore, by: Caller) -> None:
        for tenant, id_, body in await beside.every_document(LEFT_OUT_KIND):
            lost = await serving.get(tenant, body["task"], [id_])
            async with self._audit.recording(tenant, by, deleted(lost.values())):
                pass  # they are not in what serves from now on

    async def _unmark(self, mark: int) -> None:
        def without(places: Places) -> Places:
            return replace(places, switching_until_us=0) if places.switching_until_us == mark else places

        await self._change(without)

    async def _drop(self, change: Callable[[Places], Places]) -> None:
        """Takes something out of what is named, and deletes what is named no more."""
        async with (await self._lease()).kept():  # nobody makes a collection that is not named yet
            await self._change(change)
            await drop_inactive(self._engine)

    async def _lease(self) -> Lease:
        lease = await self._leases.take("", _LEASE)
        if lease is None:
            raise _running()
        return lease

    async def _let_go(self) -> None:
        if self._built is not None:
            built, self._built = self._built, None
            await built[0].close()

    async def _read(self) -> tuple[Places, tuple[str, ...]]:
        read = await read_places(self._engine)
        if read is None:
            raise CannotReindex("nothing is stored yet: start the service with the encoder that is to serve")
        return read

    async def _change(self, change: Callable[[Places], Places]) -> Places:
        """Changes what is active or beside it, as it is stored by then, whoever else does."""
        while True:
            places, revision = await self._read()
            changed = change(places)
            if changed == places or await replace_places(self._engine, changed, revision):
                return changed


def _switched(places: Places, place: Place, mark: int, until_us: int) -> Places:
    if places.switching_until_us != mark or not _is_building(places, place):  # somebody has written since, or cancelled
        raise SpaceSwitching("the switch took so long that it was given up, and nothing has changed: try it again")
    return Places(place, places.feedback, places.active, None, until_us, places.active.space.key)


def _is_building(places: Places, place: Place) -> bool:
    return places.building is not None and places.building.state == place.state


def _running() -> CannotReindex:
    return CannotReindex("examples are being embedded for another encoder already: wait for it, or cancel it")
