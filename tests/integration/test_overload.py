"""What happens when there is more to do than can be done."""

import asyncio
import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from nearvote.client import AsyncClient, ServiceError
from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from tests.integration.conftest import Start
from tests.integration.server import Server, wait_until

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def _with_task(server: Server) -> Server:
    assert server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham").returncode == 0
    assert server.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize now").returncode == 0
    return server


async def _outcomes(address: str, count: int, *, words: int = 3) -> list[Any]:
    async with AsyncClient(address) as client:
        return await asyncio.gather(
            *(client.classify(f"{i} {'win ' * words}", ["spam"]) for i in range(count)), return_exceptions=True
        )


def test_calls_above_the_limit_are_turned_away(start: Start) -> None:
    """Beyond its share of calls a client is refused at once and told when to come again; those let in are answered."""
    server = _with_task(start(NEARVOTE_MAX_CONCURRENT_CALLS="4"))
    outcomes = asyncio.run(_outcomes(server.address, 200))
    refused = [error for error in outcomes if isinstance(error, ServiceError)]
    assert Counter((error.code, error.reason) for error in refused) == {
        ("RESOURCE_EXHAUSTED", "OVERLOADED"): len(refused)
    }
    assert all(error.retry_seconds and error.retry_seconds > 0 for error in refused)
    answered = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(refused) + len(answered) == 200
    assert len(refused) > 0
    assert {one.predictions[0].labels for one in answered} == {("spam",)}
    assert all(not isinstance(outcome, BaseException) for outcome in asyncio.run(_outcomes(server.address, 2)))


def test_a_full_queue_turns_calls_away_and_holds_streams_back(start: Start) -> None:
    """Where the queue is full calls are refused; a stream goes slower, and loses nothing."""
    server = _with_task(start(NEARVOTE_MAX_QUEUED_TOKENS="16", NEARVOTE_EMBEDDING_CACHE_MIB="0"))
    outcomes = asyncio.run(_outcomes(server.address, 300, words=2_000))
    assert {error.reason for error in outcomes if isinstance(error, ServiceError)} == {"OVERLOADED"}
    with server.client() as client:
        answers = list(client.classify_stream((f"win a prize {i}" for i in range(300)), ["spam"]))
    assert len(answers) == 300
    assert [answer.error for answer in answers if answer.error] == []


def test_limits_are_told(start: Start) -> None:
    """What the service takes stands in its info, as it was set."""
    server = start(NEARVOTE_MAX_STREAMS="3", NEARVOTE_MAX_TASK_EXAMPLES="2", NEARVOTE_MAX_STREAM_REQUESTS="5")
    with server.client() as client:
        limits = client.info().limits
        assert (limits.max_streams, limits.max_task_examples, limits.max_stream_requests) == (3, 2, 5)
        _with_task(server)
        client.add_example("spam", "another one", ["ham"])
        client.add_example("spam", "another one", ["spam"])
        with pytest.raises(ServiceError) as told:
            client.add_example("spam", "one too many", ["ham"])
        assert (told.value.code, told.value.reason) == ("FAILED_PRECONDITION", "LIMIT_REACHED")
        example = next(iter(client.list_examples("spam"))).id
        client.delete_example("spam", example)
        client.add_example("spam", "one too many", ["ham"])


def test_streams_are_limited_in_number_and_length(start: Start) -> None:
    """A client can't open more than its share of streams, nor send more in one than is allowed."""
    server = _with_task(start(NEARVOTE_MAX_STREAMS="4", NEARVOTE_MAX_STREAM_REQUESTS="3"))
    go_on = threading.Event()

    def requests(count: int) -> Iterator[classification.StreamClassifyRequest]:
        for i in range(count):
            yield classification.StreamClassifyRequest(correlation_id=str(i), text="win", tasks=["spam"])
        go_on.wait(20)

    with server.channel() as channel:
        stub: Any = ClassificationServiceStub(channel)
        streams = [stub.StreamClassify(requests(1)) for _ in range(2)]
        for stream in streams:
            assert next(stream).correlation_id == "0"
        with pytest.raises(grpc.RpcError) as told:
            next(stub.StreamClassify(requests(1)))
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        go_on.set()
        for stream in streams:
            assert list(stream) == []
        with pytest.raises(grpc.RpcError) as told:
            list(stub.StreamClassify(requests(4)))
        assert told.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_second_signal_ends_it_at_once(plain: Server) -> None:
    """While calls under way are waited for, another signal ends the process; what was stored is there again."""
    assert plain.cli("examples", "add", "-t", "spam", "-l", "spam", "win a prize now").returncode == 0
    started, go_on = threading.Event(), threading.Event()

    def requests() -> Iterator[classification.StreamClassifyRequest]:
        yield classification.StreamClassifyRequest(correlation_id="first", text="win", tasks=["spam"])
        started.set()
        go_on.wait(20)

    with plain.channel() as channel:
        stub: Any = ClassificationServiceStub(channel)
        stream = stub.StreamClassify(requests())
        assert next(stream).correlation_id == "first"
        assert plain.process is not None
        os.kill(plain.process.pid, signal.SIGTERM)
        plain.wait_for_log("draining")
        os.kill(plain.process.pid, signal.SIGTERM)
        assert plain.process.wait(5) == 128 + signal.SIGTERM
        go_on.set()
    plain.start()
    assert "prize" in plain.cli("examples", "list", "-t", "spam").stdout


async def _codes(address: str, connections: int, calls: int) -> Counter[grpc.StatusCode]:
    """How so many calls at once over each of so many connections end."""
    async with contextlib.AsyncExitStack() as stack:
        stubs: list[Any] = [
            HealthStub(await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OWN_CONNECTION)))
            for _ in range(connections)
        ]
        started = [stub.Check(HealthCheckRequest(), timeout=120) for stub in stubs for _ in range(calls)]
        return Counter(await asyncio.gather(*(one.code() for one in started)))


def test_a_burst_over_few_connections_is_not_cut_off(plain: Server) -> None:
    """What comes faster than it is looked at waits, in the client and before the service, and gets its answer."""
    assert asyncio.run(_codes(plain.address, 1, 3_000)) == {grpc.StatusCode.OK: 3_000}
    assert asyncio.run(_codes(plain.address, 6, 500)) == {grpc.StatusCode.OK: 3_000}


def test_connections_are_limited(start: Start) -> None:
    """A connection above the limit is closed, and finds room when another has gone."""
    server = start(NEARVOTE_MAX_CONNECTIONS="2")

    def asked(channel: grpc.Channel, seconds: float) -> bool:
        stub: Any = HealthStub(channel)
        try:
            stub.Check(HealthCheckRequest(), timeout=seconds, wait_for_ready=True)
        except grpc.RpcError:
            return False
        return True

    with contextlib.ExitStack() as stack:
        first, second, third = (
            stack.enter_context(grpc.insecure_channel(server.address, options=OWN_CONNECTION)) for _ in range(3)
        )
        assert asked(first, 20)
        assert asked(second, 20)
        assert not asked(third, 1)
        assert asked(first, 20)
        second.close()
        assert asked(third, 60)


def test_watches_of_health_are_limited(start: Start) -> None:
    """A client has its share of watches, and what it watches no more makes room; a plain check is always answered."""
    server = start(NEARVOTE_MAX_WATCHES="4")
    with server.channel() as channel:
        stub: Any = HealthStub(channel)
        reflection: Any = ServerReflectionStub(channel)
        watches = [stub.Watch(HealthCheckRequest()) for _ in range(2)]
        for watch in watches:
            assert next(watch).status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as told:
            next(stub.Watch(HealthCheckRequest()))
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as told:
            next(reflection.ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")])))
        assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()
        wait_until(lambda: _is_watched(stub))


def _is_watched(stub: Any) -> bool:
    watch = stub.Watch(HealthCheckRequest())
    try:
        return bool(next(watch).status == HealthCheckResponse.SERVING)
    except grpc.RpcError:
        return False
    finally:
        watch.cancel()


def test_calls_that_are_never_sent_whole_are_bounded(start: Start) -> None:
    """Calls that are opened, and whose request never comes, are refused beyond a bound."""
    server = start(NEARVOTE_MAX_CONCURRENT_CALLS="1", NEARVOTE_MAX_STREAMS="1", NEARVOTE_MAX_WATCHES="1")

    async def refused() -> Counter[grpc.StatusCode]:
        async with contextlib.AsyncExitStack() as stack:
            calls: list[Any] = []
            for _ in range(3):
                channel = await stack.enter_async_context(
                    grpc.aio.insecure_channel(server.address, options=OWN_CONNECTION)
                )
                method: Any = channel.stream_unary("/nearvote.v1.ClassificationService/Classify")
                calls += [method() for _ in range(400)]
            ended = asyncio.as_completed([call.code() for call in calls], timeout=60)
            return Counter([await next(ended) for _ in range(1_200 - 1_027)])

    assert asyncio.run(refused()) == {grpc.StatusCode.RESOURCE_EXHAUSTED: 1_200 - 1_027}
    with server.client() as client:
        assert client.info().limits.max_watches == 1
