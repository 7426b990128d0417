"""Nothing of one tenant's is seen or changed by another, whichever RPC is called."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nearvote.client import Draft, Label, Selection, ServiceError, Task
from nearvote.learn.jobs import JobState
from nearvote.v1 import audit_service_pb2 as audit
from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1 import example_pb2, feedback_pb2, task_pb2
from nearvote.v1 import example_service_pb2 as examples
from nearvote.v1 import feedback_service_pb2 as feedback
from nearvote.v1 import info_service_pb2 as info
from nearvote.v1 import learning_service_pb2 as learning
from nearvote.v1 import reindex_service_pb2 as reindex
from nearvote.v1 import task_service_pb2 as tasks
from tests.integration.server import Server
from tests.integration.test_access import new_key
from tests.rpcs import OURS, Rpc

TASK = "spam"
ANSWER = "an-answer-of-the-owners"
PRIVATE = "private"  # a task that only the owner has


@dataclass(frozen=True, slots=True)
class World:
    """A server, the keys of three tenants, and what the first one has."""

    server: Server
    owner: str
    stranger: str  # has a task of the same name
    nobody: str  # has nothing
    example_id: str
    text: str
    job_id: str
    feedback_id: str
    page_token: str
    task_page_token: str
    feedback_page_token: str

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What a stranger must never see."""
        return tuple(secret.encode() for secret in ("canary", PRIVATE, self.example_id, self.job_id, self.feedback_id))


def _texts(word: str) -> list[Draft]:
    return [
        Draft(TASK, f"{word} {label} {own} number{i}", (label,), source=f"{word}-source")
        for i in range(12)
        for label, own in (("spam", "prize money"), ("ham", "lunch meeting"))
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An owner with tasks, examples, a fit and pages; a stranger with a task of the same name; and one with nothing."""
    folder = tmp_path_factory.mktemp("tenants")
    file = folder / "keys.toml"
    owner, stranger, nobody = (new_key(file, name, "admin", name) for name in ("acme", "globex", "initech"))
    seeds = folder / "seeds"
    seeds.mkdir()
    (seeds / "tasks.json").write_text('[{"name": "seeded", "labels": [{"name": "yes"}, {"name": "no"}]}]')
    (seeds / "seeded.jsonl").write_text('{"text": "seeded canary", "label": "yes"}\n')
    server = Server(
        folder / "data",
        "--model",
        "hashing",
        NEARVOTE_API_KEYS=str(file),
        NEARVOTE_SEEDS_DIR=str(seeds),
        NEARVOTE_EXPLAIN_HOURS="1",
    )
    server.start()
    try:
        with server.client(api_key=stranger) as client:
            client.create_task(Task(TASK, (Label("spam"), Label("ham"))))
            client.add_examples(_texts("plain"))
        with server.client(api_key=owner) as client:
            client.create_task(Task(TASK, (Label("spam"), Label("ham")), description="canary"))
            client.create_task(Task(PRIVATE, (Label("canary-label"), Label("b"))))
            client.add_examples(_texts("canary"))
            text = "canary spam prize money number0"
            (found,) = client.search_examples(TASK, text, limit=1)
            job = client.start_fit(TASK)
            while job.state is JobState.RUNNING:
                time.sleep(0.02)
                job = client.fit_job(job.id)
            assert job.state is JobState.SUCCEEDED
            waiting = [
                client.submit_feedback(f"key {i}", TASK, ["ham"], source="canary-source", text=f"canary {i} waits")
                for i in range(3)
            ]
            client.promote_feedback(Selection(TASK, [waiting[2].feedback.id]))
        with server.channel() as channel:
            page = _rpc("ListExamples").call(channel, examples.ListExamplesRequest(task=TASK, page_size=1), owner)
            answered = classification.ClassifyRequest(text=text, tasks=[TASK])
            _rpc("Classify").call(channel, answered, owner, ANSWER)
            task_page = _rpc("ListTasks").call(channel, tasks.ListTasksRequest(page_size=1), owner)
            feedback_page = _rpc("ListFeedback").call(channel, feedback.ListFeedbackRequest(page_size=1), owner)
        tokens = [getattr(one, "next_page_token") for (one,) in (page, task_page, feedback_page)]  # noqa: B009 - not of every message
        assert all(tokens)
        submitted = waiting[0].feedback.id
        yield World(server, owner, stranger, nobody, found.example.id, text, job.id, submitted, *tokens)
    finally:
        server.stop()


def _rpc(name: str) -> Rpc:
    (rpc,) = (rpc for rpc in OURS if rpc.name == name)
    return rpc


ALL_TENANTS = {"StartReindex", "SwitchReindex", "CancelReindex", "DropFormer"}

Ask = Callable[[World], list[Message]]


def _classify(_: World) -> list[Message]:
    options = classification.ClassifyOptions(include_neighbor_texts=True)
    text = "spam prize money number0"
    return [
        classification.ClassifyRequest(text=text, tasks=names, options=options) for names in ([], [TASK], ["seeded"])
    ]


def _draft(task: str = TASK) -> example_pb2.Example:
    return example_pb2.Example(task=task, text="a text of the stranger's", labels=["spam"])


def _changed(name: str) -> tasks.UpdateTaskRequest:
    request = tasks.UpdateTaskRequest(task=task_pb2.Task(name=name, description="changed"))
    request.update_mask.paths.append("description")
    return request


def _selections(world: World) -> list[feedback_pb2.FeedbackSelection]:
    """By id, by source, and by time alone, each in a task of that name that the stranger has, too."""
    return [
        feedback_pb2.FeedbackSelection(task=TASK, ids=[world.feedback_id]),
        feedback_pb2.FeedbackSelection(task=TASK, source="canary-source"),
        feedback_pb2.FeedbackSelection(task=TASK, until_time=Timestamp(seconds=2**33)),
    ]


# What a stranger asks of each RPC, naming what is the owner's. A new RPC needs its line here.
ASKED: dict[str, Ask] = {
    "Classify": _classify,
    "BatchClassify": lambda w: [
        classification.BatchClassifyRequest(texts=[one.text], tasks=one.tasks, options=one.options)
        for one in _classify(w)
        if isinstance(one, classification.ClassifyRequest)
    ],
    "StreamClassify": lambda w: [
        classification.StreamClassifyRequest(text=one.text, tasks=one.tasks, options=one.options)
        for one in _classify(w)
        if isinstance(one, classification.ClassifyRequest)
    ],
    "CreateExample": lambda _: [examples.CreateExampleRequest(example=_draft(name)) for name in (TASK, PRIVATE)],
    "BatchCreateExamples": lambda _: [examples.BatchCreateExamplesRequest(examples=[_draft()])],
    "GetExample": lambda w: [examples.GetExampleRequest(task=TASK, id=w.example_id)],
    "ListExamples": lambda w: [
        examples.ListExamplesRequest(task=TASK, page_size=1000),
        examples.ListExamplesRequest(task=TASK, source="canary-source"),
        examples.ListExamplesRequest(task=TASK, page_size=1, page_token=w.page_token),
        examples.ListExamplesRequest(task="seeded"),
    ],
    "SearchExamples": lambda _: [examples.SearchExamplesRequest(task=TASK, text="spam prize money", limit=200)],
    "DeleteExample": lambda w: [examples.DeleteExampleRequest(task=TASK, id=w.example_id)],
    "DeleteExamples": lambda _: [examples.DeleteExamplesRequest(source="canary-source")],
    "ImportExamples": lambda _: [
        examples.ImportExamplesRequest(items=[examples.ImportItem(line=1, example=_draft(name))])
        for name in (TASK, PRIVATE)
    ],
    "ExportExamples": lambda _: [examples.ExportExamplesRequest(task=name) for name in (TASK, PRIVATE, "seeded")],
    "CreateTask": lambda _: [
        tasks.CreateTaskRequest(task=task_pb2.Task(name="spare", labels=[task_pb2.Label(name="a")]))
    ],
    "GetTask": lambda _: [tasks.GetTaskRequest(name=name) for name in (TASK, PRIVATE, "seeded")],
    "ListTasks": lambda w: [tasks.ListTasksRequest(), tasks.ListTasksRequest(page_token=w.task_page_token)],
    "UpdateTask": lambda _: [_changed(TASK), _changed(PRIVATE)],
    "DeleteTask": lambda _: [tasks.DeleteTaskRequest(name=name, force=True) for name in (PRIVATE, TASK)],
    "StartShadow": lambda _: [tasks.StartShadowRequest(task=name, share=1.0) for name in (TASK, PRIVATE)],
    "ListShadows": lambda _: [tasks.ListShadowsRequest()],
    "PromoteShadow": lambda _: [tasks.PromoteShadowRequest(task=name) for name in (TASK, PRIVATE)],
    "StopShadow": lambda _: [tasks.StopShadowRequest(task=name) for name in (TASK, PRIVATE)],
    "StartFit": lambda _: [learning.StartFitRequest(task=name) for name in (TASK, PRIVATE)],
    "GetFitJob": lambda w: [learning.GetFitJobRequest(id=w.job_id)],
    "CancelFitJob": lambda w: [learning.CancelFitJobRequest(id=w.job_id)],
    "RollBackFit": lambda _: [learning.RollBackFitRequest(task=TASK)],
    "GetFit": lambda _: [learning.GetFitRequest(task=TASK)],
    "CheckExamples": lambda _: [learning.CheckExamplesRequest(task=TASK)],
    "ListAuditEvents": lambda _: [audit.ListAuditEventsRequest(page_size=1000)],
    "ExplainPrediction": lambda _: [audit.ExplainPredictionRequest(request_id=ANSWER)],
    "SubmitFeedback": lambda w: [
        feedback.SubmitFeedbackRequest(key="key 0", task=TASK, text="mine", labels=["ham"], source="canary-source"),
        feedback.SubmitFeedbackRequest(key="id", task=TASK, example_id=w.example_id, labels=["ham"], source="s"),
    ],
    "GetFeedback": lambda w: [feedback.GetFeedbackRequest(id=w.feedback_id)],
    "ListFeedback": lambda w: [
        feedback.ListFeedbackRequest(task=TASK, page_size=1000),
        feedback.ListFeedbackRequest(source="canary-source"),
        feedback.ListFeedbackRequest(page_size=1, page_token=w.feedback_page_token),
    ],
    "PreviewPromotion": lambda w: [feedback.PreviewPromotionRequest(selection=one) for one in _selections(w)],
    "PromoteFeedback": lambda w: [feedback.PromoteFeedbackRequest(selection=one) for one in _selections(w)],
    "RejectFeedback": lambda w: [feedback.RejectFeedbackRequest(selection=one) for one in _selections(w)],
    "RevokeFeedback": lambda _: [feedback.RevokeFeedbackRequest(source="canary-source")],
    "StartReindex": lambda _: [reindex.StartReindexRequest(model="hashing"), reindex.StartReindexRequest(back=True)],
    "GetReindex": lambda _: [reindex.GetReindexRequest()],
    "SwitchReindex": lambda _: [reindex.SwitchReindexRequest()],
    "CancelReindex": lambda _: [reindex.CancelReindexRequest()],
    "DropFormer": lambda _: [reindex.DropFormerRequest()],
    "GetInfo": lambda _: [info.GetInfoRequest()],
}

# What names something of the owner's by an id or a token, which is nothing at all to others.
NAMED: dict[str, Ask] = {
    "GetExample": ASKED["GetExample"],
    "DeleteExample": ASKED["DeleteExample"],
    "ExplainPrediction": ASKED["ExplainPrediction"],
    "GetFitJob": ASKED["GetFitJob"],
    "CancelFitJob": ASKED["CancelFitJob"],
    "GetFeedback": ASKED["GetFeedback"],
    "PreviewPromotion": lambda w: ASKED["PreviewPromotion"](w)[:1],
    "PromoteFeedback": lambda w: ASKED["PromoteFeedback"](w)[:1],
    "RejectFeedback": lambda w: ASKED["RejectFeedback"](w)[:1],
    "ListFeedback": lambda w: [feedback.ListFeedbackRequest(page_size=1, page_token=w.feedback_page_token)],
    "ListExamples": lambda w: [examples.ListExamplesRequest(task=TASK, page_size=1, page_token=w.page_token)],
    "ListTasks": lambda w: [tasks.ListTasksRequest(page_size=1, page_token=w.task_page_token)],
}

# Those whose answers show the owner something of its own: else this would prove nothing.
SHOWING = [
    "Classify", "BatchClassify", "StreamClassify", "GetExample", "ListExamples", "SearchExamples", "ExportExamples",
    "GetTask", "ListTasks", "GetFitJob", "ListAuditEvents", "ExplainPrediction", "SubmitFeedback", "GetFeedback",
    "ListFeedback", "GetInfo",
]  # fmt: skip


def _answers(world: World, rpc: Rpc, key: str) -> list[bytes]:
    """All that is answered, refusals' texts and details among it."""
    answers = []
    with world.server.channel() as channel:
        for request in ASKED[rpc.name](world):
            try:
                answers += [reply.SerializeToString() for reply in rpc.call(channel, request, key)]
            except grpc.RpcError as error:
                call: Any = error
                assert call.code().name not in {"UNAUTHENTICATED", "INTERNAL", "UNIMPLEMENTED"}
                # What is all tenants' is for the one tenant whose service it is.
                assert (call.code().name == "PERMISSION_DENIED") == (rpc.name in ALL_TENANTS)
                details = [value for _, value in call.trailing_metadata()]
                answers += [value.encode() if isinstance(value, str) else value for value in details]
    return answers


def _state(world: World) -> str:
    """Everything that the owner has, or what is missing of it."""
    with world.server.client(api_key=world.owner) as client:
        try:
            return repr(
                (
                    list(client.list_tasks()),
                    sorted(client.export_examples(TASK), key=lambda example: example.id),
                    client.get_fit(TASK),
                    client.fit_job(world.job_id),
                    list(client.list_feedback()),
                    client.info().tasks,
                )
            )
        except ServiceError as error:
            return str(error)


@pytest.mark.parametrize("who", ["stranger", "nobody"])
@pytest.mark.parametrize("rpc", OURS, ids=lambda rpc: rpc.name)
def test_nothing_of_anothers_is_seen_or_changed(world: World, rpc: Rpc, who: str) -> None:
    """Whatever a tenant asks by whichever RPC, nothing of another's is in the answers, and all of it stays."""
    assert rpc.name in ASKED, "a new RPC: say here what a stranger could ask of it"
    asked = b"".join(request.SerializeToString() for request in ASKED[rpc.name](world))
    before = _state(world)
    for answer in _answers(world, rpc, getattr(world, who)):
        for secret in world.secrets:
            # What the stranger has said may be said again: the name of a task that there is not, for example.
            assert secret not in answer or secret in asked
    assert _state(world) == before


@pytest.mark.parametrize("name", NAMED)
def test_anothers_ids_and_tokens_are_none(world: World, name: str) -> None:
    """An id or a page token of another's is refused like one that there never was."""
    (request,) = NAMED[name](world)
    with world.server.channel() as channel, pytest.raises(grpc.RpcError, match=r"NOT_FOUND|INVALID_ARGUMENT"):
        _rpc(name).call(channel, request, world.stranger)


@pytest.mark.parametrize("name", SHOWING)
def test_the_owner_sees_it(world: World, name: str) -> None:
    """The same requests show the owner what the stranger must not see."""
    answers = b"".join(_answers(world, _rpc(name), world.owner))
    assert any(secret in answers for secret in world.secrets)


def test_a_tenant_without_tasks_has_none(world: World) -> None:
    """A tenant that has created nothing has nothing, not even the seeds, which are the default tenant's."""
    with world.server.client(api_key=world.nobody) as client:
        listed = {task.name for task in client.list_tasks()} - {"spare"}  # which another test creates
        assert listed == set()
        assert {task.name for task in client.info().tasks} - {"spare"} == set()


def test_one_text_is_an_example_of_each(world: World) -> None:
    """The same text in tasks of the same name is one example for each tenant, under ids that tell nothing."""
    ids = set()
    for key in (world.owner, world.stranger):
        with world.server.client(api_key=key) as client:
            name = "shared"
            client.create_task(Task(name, (Label("a"), Label("b"))))
            ids.add(client.add_example(name, "the very same text", ["a"]).example.id)
            client.delete_task(name, force=True)
    assert len(ids) == 2


def test_metrics_tell_tenants_apart(world: World) -> None:
    """What is counted by task is counted by tenant too."""
    for tenant, key in (("acme", world.owner), ("initech", world.nobody)):
        with world.server.client(api_key=key) as client:
            client.create_task(Task("counted", (Label("a"), Label("b"))))
            client.add_example("counted", "hello", ["a"])
            client.classify("hello", ["counted"])
            names = ('task="counted"', f'tenant="{tenant}"')
            for metric in ("nearvote_predictions_total", "nearvote_margin_count", "nearvote_examples"):
                assert world.server.metric_with(metric, *names) == 1
            client.delete_task("counted", force=True)


def test_a_message_is_not_known_from_another_tenant(world: World) -> None:
    """A message that one tenant has sent is embedded anew for another: its haste would tell that it was sent."""
    text = "a message that two tenants send"
    for key, hits in ((world.owner, 0), (world.owner, 1), (world.stranger, 0), (world.stranger, 1)):
        before = world.server.metrics()["nearvote_embedding_cache_hits_total"]
        with world.server.client(api_key=key) as client:
            client.classify(text)
        assert world.server.metrics()["nearvote_embedding_cache_hits_total"] - before == hits


def test_the_owner_changes_it(world: World) -> None:
    """The same requests change what the owner has. The last test: it leaves nothing behind."""
    names = ["CreateExample", "DeleteExample", "UpdateTask", "PromoteFeedback", "RevokeFeedback", "RollBackFit"]
    names.append("DeleteTask")
    states = [_state(world)]
    for name in names:
        _answers(world, _rpc(name), world.owner)
        states.append(_state(world))
    assert len(set(states)) == len(names) + 1
