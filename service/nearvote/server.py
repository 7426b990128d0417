"""The server process: starts, serves, drains."""

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nearvote.board import FOLLOW_SECONDS
from nearvote.listening import check_free, listen, serve_metrics
from nearvote.memory import collect_rarely
from nearvote.observe.health import HealthMonitor
from nearvote.observe.logs import log_unhandled
from nearvote.observe.metrics import Metrics
from nearvote.rpc.admission import AdmissionInterceptor, before_admission, most_calls
from nearvote.rpc.audit import AuditServicer
from nearvote.rpc.authorization import AuthorizationInterceptor
from nearvote.rpc.classification import ClassificationServicer
from nearvote.rpc.examples import ExampleServicer
from nearvote.rpc.feedback import FeedbackServicer
from nearvote.rpc.info import InfoServicer
from nearvote.rpc.interceptors import StatusInterceptor, kind_of
from nearvote.rpc.learning import LearningServicer
from nearvote.rpc.reindex import ReindexServicer
from nearvote.rpc.status import cause_of
from nearvote.rpc.tasks import TaskServicer
from nearvote.settings import Settings
from nearvote.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    classification_service_pb2,
    classification_service_pb2_grpc,
    example_service_pb2,
    example_service_pb2_grpc,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    info_service_pb2,
    info_service_pb2_grpc,
    learning_service_pb2,
    learning_service_pb2_grpc,
    reindex_service_pb2,
    reindex_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
)
from nearvote.waiting import wait_for_store
from nearvote.wiring import Parts, Progress, access_of, open_engine, parts_of

_log = structlog.get_logger(__name__)

_STALLED_SECONDS = 30.0  # no batch takes as long
_STEP_SECONDS = 0.1
_QUIET_STEPS = 10  # nobody calls any more when nobody has for as many
_END_SECONDS = 2.0  # for what streams have sent
_LAST_SECONDS = 0.05
_EXAMPLE_COUNT_SECONDS = 5.0  # how old the metric of examples may be

# All services of our own.
SERVICES = tuple(
    service
    for module in (
        classification_service_pb2,
        example_service_pb2,
        task_service_pb2,
        learning_service_pb2,
        audit_service_pb2,
        feedback_service_pb2,
        info_service_pb2,
        reindex_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
)
_CLASSIFICATION, _EXAMPLE, _TASK, _LEARNING, _AUDIT, _FEEDBACK, _INFO, _REINDEX = (
    service.full_name for service in SERVICES
)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

# What each service stands on; "" is the whole process.
_NEEDS = {
    _CLASSIFICATION: ("encoder", "store", "space"),
    _EXAMPLE: ("encoder", "store", "space", "writes"),
    _TASK: ("store", "space", "writes"),
    _LEARNING: ("encoder", "store", "space", "writes"),
    _AUDIT: ("store", "space"),
    _FEEDBACK: ("encoder", "store", "space", "writes"),
    _INFO: ("store", "space"),
    _REINDEX: ("store", "writes"),
    "": ("encoder", "store", "space"),
    # What a restart may mend: it brings back neither a store that is away nor an encoder that is not on this machine.
    "liveness": ("encoder",),
}
# Where a message whose examples can't be searched gets an abstention, labelling goes on without the store.
_NEEDS_WHEN_ABSTAINING = {**_NEEDS, _CLASSIFICATION: ("encoder", "space"), "": ("encoder", "space")}


async def serve(settings: Settings, seed_progress: Progress) -> None:
    """Serves until SIGTERM or SIGINT, then lets calls under way finish.

    Args:
        settings: What it was told.
        seed_progress: Told how many seeds are loaded, and how many there are.

    Raises:
        StartupError: It can't start; the message says why and what to do.
    """
    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    check_free(settings.address, settings.metrics_address)
    if not await _store_answers(settings):
        _log.info("stopped")
        return
    _end_at_once_while_starting()
    began = time.perf_counter()
    async with parts_of(settings, seed_progress) as parts, _serving(settings, parts) as drain:
        _log.info(
            "serving",
            address=settings.address,
            tls=parts.access.credentials is not None,
            metrics=settings.metrics_address,
            store=parts.now.store.kind,
            encoder=parts.now.encoder.spec.model,
            engine=parts.now.encoder.spec.engine,
            start_seconds=round(time.perf_counter() - began, 2),
        )
        await _stop_signal()
        _log.info("draining", timeout_seconds=settings.drain_timeout_seconds)
        await drain()
    _log.info("stopped")


@contextlib.asynccontextmanager
async def _serving(settings: Settings, parts: Parts) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    health = HealthMonitor(
        {
            "encoder": lambda: _check_encoder(parts),
            "store": lambda: _check_store(parts),
            "space": lambda: _check_space(parts),
            "writes": lambda: _check_writes(parts),
        },
        _NEEDS if settings.on_store_failure == "error" else _NEEDS_WHEN_ABSTAINING,
        told=parts.metrics.component,
    )
    admission = AdmissionInterceptor(settings.limits)
    server = _server(settings, parts, health, admission)
    listen(server, settings.address, parts.access.credentials)
    await health.check()  # the encoder's first computation, which is the slowest, is done before anybody calls
    metrics_stop = serve_metrics(settings.metrics_address, parts.metrics.registry)
    await server.start()
    collect_rarely()
    background = [
        asyncio.create_task(health.run()),
        asyncio.create_task(_count_examples(parts)),
        asyncio.create_task(_sweep(parts, settings.sweep_seconds)),
        asyncio.create_task(_follow(parts)),
    ]
    try:
        yield lambda: _drain(server, health, admission, settings)
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await server.stop(None)
        metrics_stop()


async def _store_answers(settings: Settings) -> bool:
    """Waits for a Qdrant server that is not there yet. Returns whether to go on."""
    if settings.qdrant_url is None:
        return True
    access = access_of(settings, Metrics())
    engine = open_engine(settings)
    try:
        return await wait_for_store(
            engine, list(_NEEDS), lambda server: listen(server, settings.address, access.credentials)
        )
    finally:
        await engine.close()


def _server(
    settings: Settings, parts: Parts, health: HealthMonitor, admission: AdmissionInterceptor
) -> grpc.aio.Server:
    for service in SERVICES:
        for method in service.methods:
            kind = kind_of(sends=method.client_streaming, answers=method.server_streaming)
            parts.metrics.expect(kind, service.full_name, method.name)
    server = grpc.aio.server(
        interceptors=[
            *([parts.tracing.interceptor] if parts.tracing else []),
            StatusInterceptor(parts.metrics, time.perf_counter),
            AuthorizationInterceptor(parts.access.gate),
            admission,
        ],
        options=[
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_send_message_length", -1),  # a page of long texts may be larger than any request
            # Clients ask whether we are still there while a stream is silent.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a team
            *_connection_age(settings),
            *before_admission(settings.limits),
        ],
        maximum_concurrent_rpcs=most_calls(settings.limits),
    )
    classification_service_pb2_grpc.add_ClassificationServiceServicer_to_server(
        ClassificationServicer(lambda: parts.now.classifier, settings.limits), server
    )
    example_service_pb2_grpc.add_ExampleServiceServicer_to_server(
        ExampleServicer(lambda: parts.now.browser, lambda: parts.now.curator, lambda: parts.now.eraser), server
    )
    task_service_pb2_grpc.add_TaskServiceServicer_to_server(
        TaskServicer(lambda: parts.now.tasks, lambda: parts.now.shadows), server
    )
    learning_service_pb2_grpc.add_LearningServiceServicer_to_server(LearningServicer(lambda: parts.now.learner), server)
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
        AuditServicer(parts.audit, lambda: parts.now.classifier), server
    )
    feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server(FeedbackServicer(lambda: parts.now.inbox), server)
    info_service_pb2_grpc.add_InfoServiceServicer_to_server(
        InfoServicer(lambda: parts.now.encoder.spec, settings.limits, parts.engine.kind, lambda: parts.now.tasks),
        server,
    )
    reindex_service_pb2_grpc.add_ReindexServiceServicer_to_server(ReindexServicer(parts.reindexer), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    if settings.reflection:
        reflection.enable_server_reflection(
            (*(service.full_name for service in SERVICES), _HEALTH, reflection.SERVICE_NAME),
            server,
        )
    return server


async def _drain(
    server: grpc.aio.Server, health: HealthMonitor, admission: AdmissionInterceptor, settings: Settings
) -> None:
    """Stops without a call being lost: says that it does not serve, and is there until nobody calls any more.

    gRPC's own stop cuts off calls that have come and not begun. So clients are told by the health protocol, and get as
    long as they take to go elsewhere; who still calls then is refused in words, and may ask another.
    """
    await health.drain()
    await _until_quiet(admission, settings.drain_delay_seconds)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_timeout_seconds):
            await admission.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await admission.end_streams()
    await server.stop(_LAST_SECONDS)  # whoever watches our health would be waited for else


async def _until_quiet(admission: AdmissionInterceptor, most_seconds: float) -> None:
    """Returns once nobody has called for a while, or after so many seconds.

    Both are counted in steps. A machine that stood still for longer has calls waiting, which come as it goes on: by the
    clock alone it would have been quiet.
    """
    # Before, the clock has to do; the last step is always waited for.
    since = min((time.perf_counter() - admission.let_in_at) / _STEP_SECONDS, _QUIET_STEPS - 1)
    quiet = math.floor(since)
    for _ in range(math.ceil(most_seconds / _STEP_SECONDS)):
        before = admission.let_in_at
        await asyncio.sleep(_STEP_SECONDS)
        quiet = quiet + 1 if admission.let_in_at == before else 0
        if quiet >= _QUIET_STEPS:
            return


def _connection_age(settings: Settings) -> list[tuple[str, int]]:
    """Options that end old connections; a call under way on one goes on to its end."""
    seconds = settings.max_connection_age_seconds
    return [("grpc.max_connection_age_ms", round(1_000 * seconds))] if seconds else []


async def _check_encoder(parts: Parts) -> None:
    """An encoder is well while it gets on with its work or, when it has none, answers a probe."""
    serving = parts.board.last
    batcher, encoder = serving.batcher, serving.encoder
    if batcher.stalled_seconds > _STALLED_SECONDS:
        raise TimeoutError("no batch has come to its end")
    if batcher.stalled_seconds == 0:
        await asyncio.to_thread(encoder.encode, encoder.tokenize(["hello"]))


async def _check_store(parts: Parts) -> None:
    await parts.board.last.store.ping()


async def _check_space(parts: Parts) -> None:
    """Something answers: no other replica has switched to an encoder that is not loaded here."""
    _ = parts.now


async def _check_writes(parts: Parts) -> None:
    """The store takes writes, as far as is known: it is tried only where the last one failed."""
    if parts.engine.last_write_failed:
        await parts.board.last.store.try_writing()


async def _count_examples(parts: Parts) -> None:
    while True:
        try:
            registry = parts.now.tasks
            tasks = [(tenant, task) for tenant in parts.access.gate.tenants for task in await registry.list_all(tenant)]
            parts.metrics.policies({(tenant, task.name): task.policy_version for tenant, task in tasks})
            parts.metrics.examples(
                {(tenant, task.name): await registry.class_sizes(tenant, task.name) for tenant, task in tasks}
            )
        except Exception as error:  # noqa: BLE001 - a metric that can't be read is no reason to stop
            _log.warning("examples_not_counted", cause=cause_of(error))
        await asyncio.sleep(_EXAMPLE_COUNT_SECONDS)


async def _sweep(parts: Parts, seconds: float) -> None:
    """Deletes what has ended. Nobody sees it before either; this is what gets rid of it."""
    while True:
        sweeps: dict[str, Callable[[], Awaitable[int | None]]] = {
            "examples_ended": lambda: parts.now.eraser.sweep(),  # noqa: PLW0108 - what answers by then
            "feedback_promoted": lambda: parts.now.inbox.sweep(),  # noqa: PLW0108
            "events_pruned": parts.audit.prune,
            "explanations_pruned": lambda: parts.now.classifier.prune(),  # noqa: PLW0108
        }
        for what, sweep in sweeps.items():
            try:
                count = await sweep()
            except Exception as error:  # noqa: BLE001 - the next sweep tries again
                _log.warning("not_swept", what=what, cause=cause_of(error))
                continue
            if count:
                _log.info(what, count=count)
        await asyncio.sleep(seconds)


async def _follow(parts: Parts) -> None:
    """Switches to another encoder once another replica has."""
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        try:
            await parts.board.follow(parts.reindexer)
        except Exception as error:  # noqa: BLE001 - the next look tries again
            _log.warning("not_followed", cause=cause_of(error))


def _end_at_once_while_starting() -> None:
    """Has SIGTERM end a container's first process, too, until it serves: the kernel lets that live through it."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


async def _stop_signal() -> None:
    """Returns at the first signal to stop. A second one ends the process at once: what was acknowledged is stored."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopped(number: int) -> None:
        if stop.is_set():
            _log.warning("killed", signal=signal.Signals(number).name)
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped, number)
    await stop.wait()
