"""Puts the service together. The only place that names concrete classes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from nearvote.access.attempts import Attempts
from nearvote.access.caller import DEFAULT_TENANT
from nearvote.access.exposure import check_exposure
from nearvote.access.gate import Gate
from nearvote.access.key_file import read_keys
from nearvote.access.watched import Watched
from nearvote.apart import interruptible
from nearvote.audit.log import AuditLog
from nearvote.backup import Contents, back_up, restore, verify, write_backup
from nearvote.board import Board
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Encoder, EncoderSpec
from nearvote.embedding.load import load_encoder
from nearvote.embedding.one_core import OneCore
from nearvote.embedding.onnx_quantize import Jury, Labelled
from nearvote.errors import CannotBackUp
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.places import Source, stored_places
from nearvote.examples.spaces import open_store, stored_examples
from nearvote.examples.store import VectorSpace
from nearvote.learn.jobs import Jobs
from nearvote.learn.others import labels_by_others
from nearvote.observe.metrics import Metrics
from nearvote.observe.store import ObservedEngine
from nearvote.observe.traces import Tracing
from nearvote.reindex.host import Prepared, StoppedService
from nearvote.reindex.reindexer import Reindexer
from nearvote.rpc.certificates import CertificateFiles, ServedCertificate
from nearvote.seeding import load_seeds, seed_examples, shipped_seeds
from nearvote.serving import Serving, Shared
from nearvote.settings import Settings
from nearvote.tasks.snapshots import REFRESH_SECONDS
from nearvote.text.surface import SURFACE_VERSION

if TYPE_CHECKING:
    import grpc

    from nearvote.examples.engine import Engine

_log = structlog.get_logger(__name__)

_MIB = 2**20
_COMPARED = 3_000  # examples that two precisions of an encoder are compared by, at most

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in.

    Attributes:
        gate: Tells who calls.
        credentials: The port's; None for one without TLS.
    """

    gate: Gate
    credentials: "grpc.ServerCredentials | None"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running service.

    Attributes:
        board: Has those that answer at the moment.
    """

    engine: ObservedEngine
    board: Board
    reindexer: Reindexer
    audit: AuditLog
    metrics: Metrics
    tracing: Tracing | None
    access: Access

    @property
    def now(self) -> Serving:
        """What answers at the moment; for one call, or one request of a stream.

        Raises:
            SpaceSwitching: Nothing does.
        """
        return self.board.now


def access_of(settings: Settings, metrics: Metrics) -> Access:
    """Reads keys and certificates, and checks that the service may listen where it is told to.

    Raises:
        InvalidSetting: It may not, or one of the files can't be right.
    """
    path, cert, key = settings.api_keys, settings.tls_cert, settings.tls_key
    asks_certificates = settings.tls_client_ca is not None
    if not settings.allow_insecure:
        check_exposure(settings.address, keys=path is not None, tls=cert is not None, certificates=asks_certificates)
    keys = Watched("api_keys", [path], lambda: read_keys(path)) if path is not None else None
    gate = Gate(keys, certificates=asks_certificates, attempts=Attempts(time.monotonic), denied=metrics.denied)
    if cert is None or key is None:
        return Access(gate, None)
    certificate = ServedCertificate(CertificateFiles(cert, key, settings.tls_client_ca))
    metrics.watch_certificate(certificate.not_after)
    return Access(gate, certificate.credentials())


@contextlib.asynccontextmanager
async def parts_of(
    settings: Settings, seed_progress: Progress, *, encoder: Encoder | None = None
) -> AsyncIterator[Parts]:
    """Builds the parts of a service, ready to serve, and takes them apart at the end.

    Args:
        settings: What it was told.
        seed_progress: Told how many seeds are loaded, and how many there are.
        encoder: One that is loaded already; the one that the settings name when None.

    Raises:
        StartupError: It can't start; the message says why and what to do.
        StoreUnavailable: The store did not answer.
    """
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        access = access_of(settings, metrics)
        tracing = Tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if tracing:
            stack.push_async_callback(tracing.close)
        # Early: a folder in use is known at once, a model takes longer to load.
        engine = ObservedEngine(open_engine(settings), metrics.store_failed)
        stack.push_async_callback(engine.close)
        first, source = (encoder, None) if encoder else await _first_encoder(settings, engine)
        store = await open_store(engine, _space(first.spec, settings), source=source)
        audit = AuditLog(await open_audit_store(engine), settings.audit_days)
        shared = Shared(
            settings,
            engine,
            metrics,
            tracing,
            audit,
            Jobs(),
            ready=lambda: reindexer.ready,
            loaded=lambda: reindexer.ready or board.ahead,
        )
        board = Board(shared, lambda source: _prepared(settings, engine, source))
        reindexer = Reindexer(engine, board, audit, settle_seconds=_settle_seconds(engine))
        stack.push_async_callback(board.close)
        stack.push_async_callback(shared.jobs.close)  # first: what learns is told to stop
        serving = await board.begin(first, store)
        if settings.seeds:
            folder = settings.seeds_dir or shipped_seeds()
            tasks, curator, leases = serving.tasks, serving.curator, serving.leases
            await load_seeds(folder, DEFAULT_TENANT, store, tasks, curator, leases, seed_progress)
        stack.push_async_callback(reindexer.close)
        yield Parts(engine, board, reindexer, audit, metrics, tracing, access)


@contextlib.asynccontextmanager
async def reindexer_of(settings: Settings) -> AsyncIterator[Reindexer]:
    """What changes the encoder of a store that no service has open, or of a Qdrant server's."""
    async with contextlib.AsyncExitStack() as stack:
        engine = open_engine(settings)
        stack.push_async_callback(engine.close)
        host = StoppedService(lambda source: _prepared(settings, engine, source))
        audit = AuditLog(await open_audit_store(engine))
        reindexer = Reindexer(engine, host, audit, settle_seconds=_settle_seconds(engine))
        stack.push_async_callback(reindexer.close)
        yield reindexer


async def back_up_to(settings: Settings, output: Path, progress: Progress) -> Contents:
    """Writes everything stored to a file that appears whole or not at all, for its owner alone."""
    if settings.qdrant_url is None and not settings.data_dir.is_dir():
        raise CannotBackUp(f"there is no store in {settings.data_dir}: name it with --data-dir or --qdrant-url")
    engine = open_engine(settings)
    try:
        return await write_backup(output, back_up(engine, progress))
    finally:
        await engine.close()


async def restore_from(settings: Settings, file: Path, progress: Progress, *, replace: bool) -> Contents:
    """Puts a backup into the store that the settings name."""
    with file.open("rb") as backup:
        verify(backup)  # before the store is opened, which may create its folder
        backup.seek(0)
        engine = open_engine(settings)
        try:
            return await restore(engine, backup, replace=replace, progress=progress)
        finally:
            await engine.close()


def open_engine(settings: Settings) -> "Engine":
    """Qdrant Edge in the data folder, or the Qdrant server that the settings name.

    Raises:
        StoreLocked: Another process has the folder open.
    """
    if settings.qdrant_url is None:
        return EdgeEngine(
            settings.data_dir, storage=settings.vector_storage, min_free_bytes=settings.min_free_disk_mib * _MIB
        )
    # Importing qdrant-client takes half a second, so only where it is used.
    from nearvote.examples.server_engine import ServerEngine  # noqa: PLC0415

    key = settings.qdrant_api_key
    return ServerEngine.connect(
        settings.qdrant_url,
        grpc_port=settings.qdrant_grpc_port,
        api_key=key.get_secret_value() if key else None,
        timeout_seconds=settings.qdrant_timeout_seconds,
        storage=settings.vector_storage,
    )


async def _first_encoder(settings: Settings, engine: "Engine") -> tuple[Encoder, Source | None]:
    """The encoder that the settings name, or that was switched to while they named that one; and what loads it."""
    source = _source(settings)
    named = await _encoder(settings, engine, source)
    places = await stored_places(engine)
    key = _space(named.spec, settings).key
    if places is None or places.space.key == key or places.switched_from != key or not places.active.source.model:
        return named, source
    _log.warning("encoder_switched_since", serving=places.space.model, next="name it in the settings")
    return await _encoder(settings, engine, places.active.source), None


async def _prepared(settings: Settings, engine: "Engine", source: Source) -> Prepared:
    encoder = await _encoder(settings, engine, source)
    batcher, aside = Batcher(encoder), Batcher(OneCore(encoder))

    async def close() -> None:
        await aside.close()
        await batcher.close()

    return Prepared(
        source,
        _space(encoder.spec, settings),
        encoder,
        Embedder(encoder, batcher, html=settings.html),
        Embedder(encoder, aside, html=settings.html),
        close,
    )


async def _encoder(settings: Settings, engine: "Engine", source: Source) -> Encoder:
    jury = None
    if settings.precision == "int8":
        stored = await stored_examples(engine, _COMPARED)
        known = stored or seed_examples(settings.seeds_dir or shipped_seeds())
        jury = Jury([Labelled(one.task, one.labels[0], one.text) for one in known], labels_by_others)
    with interruptible() as interruption:
        try:
            return await asyncio.to_thread(
                load_encoder,
                source.model,
                source.revision,
                settings.device,
                settings.cache_dir,
                settings.threads,
                settings.precision,
                jury,
            )
        except asyncio.CancelledError:
            interruption.give_up()  # else the thread, and the end of the loop, would wait until a model is exported
            raise


def _settle_seconds(engine: "Engine") -> float:
    """By then the other replicas serve what was switched to: they look each second, and have it loaded."""
    return 0 if engine.kind == "edge" else 2 * REFRESH_SECONDS


def _source(settings: Settings) -> Source:
    return Source(settings.model, settings.model_revision)


def _space(spec: EncoderSpec, settings: Settings) -> VectorSpace:
    # The same text read as HTML is another text.
    reading = f"s{SURFACE_VERSION}{'html' if settings.html else ''}"
    return VectorSpace(f"{spec.key}{reading}", spec.dimension, spec.model)
