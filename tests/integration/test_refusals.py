"""What is refused, and how."""

import base64
from collections.abc import Callable, Iterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1 import example_pb2, task_pb2
from nearvote.v1 import example_service_pb2 as examples
from nearvote.v1 import task_service_pb2 as tasks
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from nearvote.v1.task_service_pb2_grpc import TaskServiceStub
from tests.integration.server import Server, with_spam

LONG = "x" * 65_537


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a task `spam` and one example."""
    with with_spam(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


def example(**fields: Any) -> example_pb2.Example:
    """An example of the task `spam`, right but for what is given."""
    return example_pb2.Example(**{"task": "spam", "text": "t", "labels": ["spam"], **fields})


def task(**fields: Any) -> task_pb2.Task:
    """A new task, right but for what is given."""
    return task_pb2.Task(**{"name": "new", "labels": [task_pb2.Label(name="a")], **fields})


def options(**fields: Any) -> classification.ClassifyOptions:
    """Options of a classification."""
    return classification.ClassifyOptions(**fields)


NO_ID = "00000000-0000-0000-0000-000000000000"
CLASSIFY, EXAMPLE, TASK = ClassificationServiceStub, ExampleServiceStub, TaskServiceStub
REFUSALS: list[tuple[Any, str, Message, str, str, str]] = [
    (CLASSIFY, "Classify", classification.ClassifyRequest(text=LONG), "INVALID_ARGUMENT", "TEXT_TOO_LONG", "text"),
    (
        CLASSIFY,
        "Classify",
        classification.ClassifyRequest(text="a", tasks=["spam", "nope"]),
        "NOT_FOUND",
        "TASK_NOT_FOUND",
        "tasks[1]",
    ),
    (
        CLASSIFY,
        "Classify",
        classification.ClassifyRequest(text="a", tasks=["spam", "spam"]),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "tasks",
    ),
    (
        CLASSIFY,
        "Classify",
        classification.ClassifyRequest(text="a", options=options(k=0)),
        "INVALID_ARGUMENT",
        "K_OUT_OF_RANGE",
        "options.k",
    ),
    (
        CLASSIFY,
        "Classify",
        classification.ClassifyRequest(text="a", options=options(k=201)),
        "INVALID_ARGUMENT",
        "K_OUT_OF_RANGE",
        "options.k",
    ),
    (
        CLASSIFY,
        "Classify",
        classification.ClassifyRequest(text="a", options=options(neighbor_limit=201)),
        "INVALID_ARGUMENT",
        "K_OUT_OF_RANGE",
        "options.neighbor_limit",
    ),
    (
        CLASSIFY,
        "BatchClassify",
        classification.BatchClassifyRequest(texts=["a"] * 257),
        "INVALID_ARGUMENT",
        "TOO_MANY_TEXTS",
        "texts",
    ),
    (CLASSIFY, "BatchClassify", classification.BatchClassifyRequest(), "INVALID_ARGUMENT", "TOO_MANY_TEXTS", "texts"),
    (
        CLASSIFY,
        "BatchClassify",
        classification.BatchClassifyRequest(texts=["a", LONG]),
        "INVALID_ARGUMENT",
        "TEXT_TOO_LONG",
        "texts[1]",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(text=" \n")),
        "INVALID_ARGUMENT",
        "INVALID_EXAMPLE",
        "example.text",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(text="́")),
        "INVALID_ARGUMENT",
        "INVALID_EXAMPLE",
        "example.text",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(task="nope")),
        "NOT_FOUND",
        "TASK_NOT_FOUND",
        "example.task",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(labels=["spamm"])),
        "INVALID_ARGUMENT",
        "UNKNOWN_LABEL",
        "example.labels[0]",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(labels=["spam", "ham"])),
        "INVALID_ARGUMENT",
        "INVALID_EXAMPLE",
        "example.labels",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(weight=0.0)),
        "INVALID_ARGUMENT",
        "INVALID_EXAMPLE",
        "example.weight",
    ),
    (
        EXAMPLE,
        "CreateExample",
        examples.CreateExampleRequest(example=example(weight=float("nan"))),
        "INVALID_ARGUMENT",
        "INVALID_EXAMPLE",
        "example.weight",
    ),
    (
        EXAMPLE,
        "BatchCreateExamples",
        examples.BatchCreateExamplesRequest(examples=[example(), example(labels=[])]),
        "INVALID_ARGUMENT",
        "INVALID_EXAMPLE",
        "examples[1].labels",
    ),
    (
        EXAMPLE,
        "GetExample",
        examples.GetExampleRequest(task="spam", id="7"),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "id",
    ),
    (
        EXAMPLE,
        "GetExample",
        examples.GetExampleRequest(task="spam", id=NO_ID),
        "NOT_FOUND",
        "EXAMPLE_NOT_FOUND",
        "id",
    ),
    (
        EXAMPLE,
        "DeleteExample",
        examples.DeleteExampleRequest(task="spam", id=NO_ID),
        "NOT_FOUND",
        "EXAMPLE_NOT_FOUND",
        "id",
    ),
    (
        EXAMPLE,
        "ListExamples",
        examples.ListExamplesRequest(task="spam", page_token="bm9uc2Vuc2U="),
        "INVALID_ARGUMENT",
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
    (
        EXAMPLE,
        "ListExamples",
        examples.ListExamplesRequest(task="spam", page_size=1001),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "page_size",
    ),
    (
        EXAMPLE,
        "SearchExamples",
        examples.SearchExamplesRequest(task="spam", text=""),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "text",
    ),
    (
        EXAMPLE,
        "SearchExamples",
        examples.SearchExamplesRequest(task="spam", text="a", limit=201),
        "INVALID_ARGUMENT",
        "K_OUT_OF_RANGE",
        "limit",
    ),
    (TASK, "CreateTask", tasks.CreateTaskRequest(task=task(name="X!")), "INVALID_ARGUMENT", "INVALID_TASK", "name"),
    (TASK, "CreateTask", tasks.CreateTaskRequest(task=task(name="spam")), "ALREADY_EXISTS", "TASK_EXISTS", "name"),
    (
        TASK,
        "CreateTask",
        tasks.CreateTaskRequest(task=task(policy=task_pb2.Policy(temperature=float("nan")))),
        "INVALID_ARGUMENT",
        "INVALID_TASK",
        "policy.temperature",
    ),
    (
        TASK,
        "CreateTask",
        tasks.CreateTaskRequest(task=task(policy=task_pb2.Policy(k=0))),
        "INVALID_ARGUMENT",
        "INVALID_TASK",
        "policy.k",
    ),
    (
        TASK,
        "CreateTask",
        tasks.CreateTaskRequest(task=task(policy=task_pb2.Policy(labels={"b": task_pb2.LabelPolicy()}))),
        "INVALID_ARGUMENT",
        "INVALID_TASK",
        "policy.labels[b]",
    ),
    (TASK, "GetTask", tasks.GetTaskRequest(name="nope"), "NOT_FOUND", "TASK_NOT_FOUND", "task"),
    (
        TASK,
        "UpdateTask",
        tasks.UpdateTaskRequest(task=task(name="spam")),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "update_mask",
    ),
    (TASK, "DeleteTask", tasks.DeleteTaskRequest(name="spam"), "FAILED_PRECONDITION", "TASK_NOT_EMPTY", "force"),
    (
        TASK,
        "ListTasks",
        tasks.ListTasksRequest(page_token="bm9uc2Vuc2U="),
        "INVALID_ARGUMENT",
        "INVALID_PAGE_TOKEN",
        "page_token",
    ),
]


@pytest.mark.parametrize(("stub", "method", "request_", "code", "reason", "field"), REFUSALS)
def test_bad_input_is_refused_with_reason_field_and_remedy(
    server: Server, stub: Callable[..., Any], method: str, request_: Message, code: str, reason: str, field: str
) -> None:
    """A bad request is refused with a stable reason, the field at fault, and what to do about it."""
    with server.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        getattr(stub(channel), method)(request_)
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    assert status is not None
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    violation = bad_request.field_violations[0]
    assert (caught.value.code().name, info.reason, info.domain) == (code, reason, "nearvote")
    assert (violation.field, violation.reason) == (field, reason)
    assert len(violation.description) > 10


def test_an_update_holds_for_what_was_read(server: Server) -> None:
    """An update with a version that is no longer the stored one is refused; a 0.0 in it is a value."""
    with server.channel() as channel:
        stub = TaskServiceStub(channel)
        stored = stub.GetTask(tasks.GetTaskRequest(name="spam")).task
        request = tasks.UpdateTaskRequest(task=stored)
        request.update_mask.paths.append("policy.margin_floor")
        request.task.policy.margin_floor = 0.0
        updated = stub.UpdateTask(request).task
        assert updated.policy.HasField("margin_floor")
        assert (updated.policy.margin_floor, updated.policy_version) == (0.0, stored.policy_version + 1)
        with pytest.raises(grpc.RpcError, match="ABORTED"):
            stub.UpdateTask(request)


@pytest.mark.parametrize("message", [b"\x0a\x02\xff\xfe", b"\xff\xff\xff"])
def test_what_is_not_of_the_contract_is_refused(server: Server, message: bytes) -> None:
    """A request with a text that is not UTF-8, or that is no message at all, is INVALID_ARGUMENT, also in a stream."""
    with server.channel() as channel:
        unary: Any = channel.unary_unary("/nearvote.v1.ClassificationService/Classify")
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            unary(message, timeout=10)
        stream: Any = channel.stream_stream("/nearvote.v1.ClassificationService/StreamClassify")
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            list(stream(iter([message]), timeout=10))


def test_a_long_refusal_arrives(server: Server) -> None:
    """However much there is to say, the refusal arrives with its reason: it is cut to what headers carry."""
    token = base64.urlsafe_b64encode(b"[" * 200_000).decode()
    policy = task_pb2.Policy(labels={"x" * 20_000: task_pb2.LabelPolicy()})
    long_name = tasks.CreateTaskRequest(task=task(policy=policy))
    many = [f"{'t' * 58}{i:03}" for i in range(60)]
    with server.channel() as channel:
        stub: Any = TaskServiceStub(channel)
        for name in many:
            stub.CreateTask(tasks.CreateTaskRequest(task=task(name=name)))
        for call, request, code in (
            (stub.CreateTask, long_name, "INVALID_ARGUMENT"),
            (stub.GetTask, tasks.GetTaskRequest(name="nope"), "NOT_FOUND"),
            (stub.ListTasks, tasks.ListTasksRequest(page_token=token), "INVALID_ARGUMENT"),
        ):
            with pytest.raises(grpc.RpcError, match=code):
                call(request)
        for name in many:
            stub.DeleteTask(tasks.DeleteTaskRequest(name=name))
