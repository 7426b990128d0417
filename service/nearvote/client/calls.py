"""What each call sends and what it makes of the answer: once, for both clients."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from nearvote.classify import Classification, Options
from nearvote.client.errors import ServiceError, error_of_item
from nearvote.erase import Erased
from nearvote.examples.example import Draft, Example, Saved, SearchedExample
from nearvote.limits import Limits
from nearvote.rpc import wire
from nearvote.tasks.task import Task
from nearvote.v1 import audit_service_pb2 as audit
from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1 import example_service_pb2 as examples
from nearvote.v1 import feedback_service_pb2 as feedback
from nearvote.v1 import info_service_pb2 as info
from nearvote.v1 import learning_service_pb2 as learning
from nearvote.v1 import reindex_service_pb2 as reindex
from nearvote.v1 import task_service_pb2 as tasks

_T = TypeVar("_T")

DEFAULT_ADDRESS = "127.0.0.1:50051"

# What may be sent twice without harm is sent again; what would fail the second time, having worked the first, is not.
# Adding an example is of the first kind: its id comes from its text.
_NOT_REPEATABLE = (
    "CreateTask",
    "UpdateTask",
    "DeleteTask",
    "DeleteExample",
    "StartFit",
    "RollBackFit",
    "PromoteShadow",
    "StopShadow",
    "StartReindex",
    "SwitchReindex",
    "DropFormer",
)
_SERVICES = (classification, examples, tasks, learning, audit, feedback, info, reindex)

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", -1),
    # A stream has no deadline; a service that is gone without a word is noticed all the same.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [
                            {"service": service.full_name, "method": method.name}
                            for module in _SERVICES
                            for service in module.DESCRIPTOR.services_by_name.values()
                            for method in service.methods
                            # Nor a stream of requests: gRPC may then never say that the service is gone.
                            if method.name not in _NOT_REPEATABLE and not method.client_streaming
                        ],
                        "retryPolicy": {
                            "maxAttempts": 3,
                            "initialBackoff": "0.1s",
                            "maxBackoff": "1s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
]


@dataclass(frozen=True, slots=True)
class Call(Generic[_T]):
    """A unary call: the stub and the method to use, the request, and how to read the answer."""

    service: str
    method: str
    request: Message
    read: Callable[[Any], _T]


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """What became of a chunk of an import.

    Attributes:
        last_line: Line of its last item; an interrupted import may resume after it.
        accepted_count: Items that were valid, and are stored unless they were only to be checked.
        created_count: How many of these were new.
        rejections: What was wrong with the others, by line.
    """

    last_line: int
    accepted_count: int
    created_count: int
    rejections: Mapping[int, ServiceError]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task and its examples in numbers."""

    name: str
    example_count: int
    label_counts: Mapping[str, int]
    policy_version: int
    examples_version: int


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """The encoder, as the service describes it; equal keys, comparable vectors."""

    model: str
    revision: str
    dimension: int
    pooling: str
    max_tokens: int
    engine: str
    key: str
    label_agreement: float


@dataclass(frozen=True, slots=True)
class CallerInfo:
    """Who calls, as the service knows it: name, role (classify, curate or admin), and tenant."""

    name: str
    role: str
    tenant: str


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What is running."""

    version: str
    encoder: EncoderInfo
    limits: Limits
    store: str
    tasks: tuple[TaskSummary, ...]
    caller: CallerInfo


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """The answer to one text of a stream: its place, from 0, and its classification or what was wrong with it."""

    index: int
    classification: Classification | None
    error: ServiceError | None


def listed(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Several names, where one alone would be taken for its letters.

    Raises:
        TypeError: It is one.
    """
    if isinstance(names, str):
        raise TypeError(f"{what} is a list: [{names!r}]")
    return tuple(names)


def classify(text: str, names: Sequence[str], options: Options) -> Call[Classification]:
    """Labels one text."""
    request = classification.ClassifyRequest(
        text=text, tasks=listed(names, "tasks"), options=wire.options_to_wire(options)
    )
    return Call(
        "classification", "Classify", request, lambda reply: wire.classification_from_wire(reply.classification)
    )


def classify_batch(texts: Sequence[str], names: Sequence[str], options: Options) -> Call[list[Classification]]:
    """Labels many texts."""
    request = classification.BatchClassifyRequest(
        texts=texts, tasks=listed(names, "tasks"), options=wire.options_to_wire(options)
    )
    return Call(
        "classification",
        "BatchClassify",
        request,
        lambda reply: [wire.classification_from_wire(one) for one in reply.classifications],
    )


def stream_request(
    index: int, text: str, names: Sequence[str], options: Options
) -> classification.StreamClassifyRequest:
    """One text of a stream."""
    return classification.StreamClassifyRequest(
        correlation_id=str(index), text=text, tasks=listed(names, "tasks"), options=wire.options_to_wire(options)
    )


def stream_answer(reply: classification.StreamClassifyResponse) -> StreamAnswer:
    """The answer to one text of a stream."""
    index = int(reply.correlation_id)
    if reply.HasField("error"):
        return StreamAnswer(index, None, error_of_item(reply.error))
    return StreamAnswer(index, wire.classification_from_wire(reply.classification), None)


def create_example(draft: Draft) -> Call[Saved]:
    """Adds an example."""
    request = examples.CreateExampleRequest(example=wire.draft_to_wire(draft))
    return Call(
        "example",
        "CreateExample",
        request,
        lambda reply: Saved(wire.example_from_wire(reply.example), reply.created),
    )


def create_examples(drafts: Sequence[Draft]) -> Call[list[Example]]:
    """Adds examples."""
    request = examples.BatchCreateExamplesRequest(examples=map(wire.draft_to_wire, drafts))
    return Call(
        "example", "BatchCreateExamples", request, lambda reply: [wire.example_from_wire(one) for one in reply.examples]
    )


def get_example(task: str, id_: str) -> Call[Example]:
    """Reads an example."""
    request = examples.GetExampleRequest(task=task, id=id_)
    return Call("example", "GetExample", request, lambda reply: wire.example_from_wire(reply.example))


def list_examples(task: str, label: str, source: str, page_token: str) -> Call[tuple[list[Example], str]]:
    """Reads a page of examples, and the token of the next."""
    request = examples.ListExamplesRequest(task=task, label=label, source=source, page_token=page_token)
    return Call(
        "example",
        "ListExamples",
        request,
        lambda reply: ([wire.example_from_wire(one) for one in reply.examples], reply.next_page_token),
    )


def search_examples(task: str, text: str, label: str, limit: int) -> Call[list[SearchedExample]]:
    """Finds the nearest examples."""
    request = examples.SearchExamplesRequest(task=task, text=text, label=label, limit=limit)
    return Call(
        "example",
        "SearchExamples",
        request,
        lambda reply: [SearchedExample(wire.example_from_wire(one.example), one.similarity) for one in reply.results],
    )


def delete_example(task: str, id_: str) -> Call[None]:
    """Deletes an example."""
    return Call("example", "DeleteExample", examples.DeleteExampleRequest(task=task, id=id_), lambda _: None)


def delete_examples(task: str, source: str, subject: str) -> Call[Erased]:
    """Deletes the examples of a source or a subject."""
    request = examples.DeleteExamplesRequest(task=task, source=source, subject=subject)
    return Call(
        "example",
        "DeleteExamples",
        request,
        lambda reply: Erased(reply.deleted_count, tuple(reply.fitted_tasks)),
    )


def import_request(items: Sequence[tuple[int, Draft]], *, validate_only: bool) -> examples.ImportExamplesRequest:
    """A chunk of an import: examples with their lines."""
    return examples.ImportExamplesRequest(
        items=[examples.ImportItem(line=line, example=wire.draft_to_wire(draft)) for line, draft in items],
        validate_only=validate_only,
    )


def import_progress(reply: examples.ImportExamplesResponse) -> ImportProgress:
    """What became of a chunk."""
    return ImportProgress(
        reply.last_line,
        reply.accepted_count,
        reply.created_count,
        {rejection.line: error_of_item(rejection.error) for rejection in reply.rejections},
    )


def export_request(task: str) -> examples.ExportExamplesRequest:
    """Asks for all examples of a task."""
    return examples.ExportExamplesRequest(task=task)


def exported(reply: examples.ExportExamplesResponse) -> list[Example]:
    """A chunk of an export."""
    return [wire.example_from_wire(one) for one in reply.examples]


def create_task(task: Task) -> Call[Task]:
    """Creates a task."""
    request = tasks.CreateTaskRequest(task=wire.task_to_wire(task))
    return Call("task", "CreateTask", request, lambda reply: wire.task_from_wire(reply.task))


def get_task(name: str) -> Call[Task]:
    """Reads a task."""
    return Call("task", "GetTask", tasks.GetTaskRequest(name=name), lambda reply: wire.task_from_wire(reply.task))


def list_tasks(page_token: str) -> Call[tuple[list[Task], str]]:
    """Reads a page of tasks, and the token of the next."""
    request = tasks.ListTasksRequest(page_token=page_token)
    return Call(
        "task",
        "ListTasks",
        request,
        lambda reply: ([wire.task_from_wire(one) for one in reply.tasks], reply.next_page_token),
    )


def update_task(task: Task, fields: Sequence[str]) -> Call[Task]:
    """Changes fields of a task."""
    request = tasks.UpdateTaskRequest(task=wire.task_to_wire(task))
    request.update_mask.paths.extend(fields)
    return Call("task", "UpdateTask", request, lambda reply: wire.task_from_wire(reply.task))


def delete_task(name: str, *, force: bool) -> Call[int]:
    """Deletes a task."""
    request = tasks.DeleteTaskRequest(name=name, force=force)
    return Call("task", "DeleteTask", request, lambda reply: reply.deleted_example_count)


def get_info() -> Call[ServiceInfo]:
    """Asks what is running."""
    return Call("info", "GetInfo", info.GetInfoRequest(), _info)


def _info(reply: info.GetInfoResponse) -> ServiceInfo:
    encoder = reply.encoder
    return ServiceInfo(
        reply.version,
        EncoderInfo(
            encoder.model,
            encoder.revision,
            encoder.dimension,
            encoder.pooling,
            encoder.max_tokens,
            encoder.engine,
            encoder.key,
            encoder.label_agreement,
        ),
        wire.limits_from_wire(reply.limits),
        reply.store,
        tuple(
            TaskSummary(
                task.name, task.example_count, dict(task.label_counts), task.policy_version, task.examples_version
            )
            for task in reply.tasks
        ),
        CallerInfo(reply.caller.name, reply.caller.role, reply.caller.tenant),
    )
