"""Streams and pages."""

import queue
from collections.abc import Iterator

import grpc
import pytest

from nearvote.client import Draft, Label, Task
from nearvote.v1 import classification_service_pb2 as classification
from nearvote.v1 import example_pb2
from nearvote.v1 import example_service_pb2 as examples
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from tests.integration.server import Server, with_spam

LONG = "x" * 65_537


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a task `spam` and one example."""
    with with_spam(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


def draft(text: str, label: str = "spam") -> example_pb2.Example:
    """An example of the task `spam`."""
    return example_pb2.Example(task="spam", text=text, labels=[label])


def test_a_page_token_is_of_its_query(server: Server) -> None:
    """Pages follow one another, and a token of one query is refused by another."""
    with server.client() as client:
        for i in range(5):
            client.add_example("spam", f"page {i}", ["spam"], source="pages")
    with server.channel() as channel:
        stub = ExampleServiceStub(channel)
        request = examples.ListExamplesRequest(task="spam", source="pages", page_size=2)
        texts = []
        while True:
            page = stub.ListExamples(request)
            texts += [one.text for one in page.examples]
            if not page.next_page_token:
                break
            assert len(page.examples) == 2
            request.page_token = page.next_page_token
        assert sorted(texts) == [f"page {i}" for i in range(5)]
        first = stub.ListExamples(examples.ListExamplesRequest(task="spam", source="pages", page_size=2))
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            stub.ListExamples(examples.ListExamplesRequest(task="spam", page_token=first.next_page_token))


def test_answers_are_such_as_any_client_takes(server: Server) -> None:
    """Long texts come in several answers, or as many as go into one: gRPC's clients take 4 MiB."""
    with server.client() as client:
        client.create_task(Task("long", (Label("long"),)))
        drafts = [Draft("long", f"{i} " + "word " * 13_000, ("long",)) for i in range(70)]
        for start in range(0, len(drafts), 10):
            client.add_examples(drafts[start : start + 10])
    with server.channel() as channel:
        stub = ExampleServiceStub(channel)
        exported = [*stub.ExportExamples(examples.ExportExamplesRequest(task="long"))]
        assert len({one.text for part in exported for one in part.examples}) == len(drafts)
        found = stub.SearchExamples(examples.SearchExamplesRequest(task="long", text="9 word", limit=70)).results
        assert 40 < len(found) < len(drafts)
        similarities = [one.similarity for one in found]
        assert similarities == sorted(similarities, reverse=True)


def test_a_stream_answers_each_item_for_itself(server: Server) -> None:
    """Every item of a stream is answered with its id; an invalid one gets an error and does not end the stream."""
    requests = [
        classification.StreamClassifyRequest(
            correlation_id=str(i), text=LONG if i == 50 else f"text {i}", tasks=["nope" if i == 70 else "spam"]
        )
        for i in range(200)
    ]
    with server.channel() as channel:
        answers = {one.correlation_id: one for one in ClassificationServiceStub(channel).StreamClassify(iter(requests))}
    assert len(answers) == 200
    failed = {
        id_: (one.error.reason, one.error.code, one.error.field)
        for id_, one in answers.items()
        if one.HasField("error")
    }
    assert failed == {"50": ("TEXT_TOO_LONG", 3, "text"), "70": ("TASK_NOT_FOUND", 5, "tasks[0]")}
    assert answers["7"].classification.predictions[0].task == "spam"


def test_a_stream_that_is_not_read_is_held_back(server: Server) -> None:
    """A caller that sends and does not read makes the service stop reading, not remember without end."""
    taken = 0

    def endless() -> Iterator[classification.StreamClassifyRequest]:
        nonlocal taken
        for _ in range(200_000):
            taken += 1
            yield classification.StreamClassifyRequest(text="held back " * 500, tasks=["spam"])

    with server.channel() as channel:
        stub = ClassificationServiceStub(channel)
        call = stub.StreamClassify(endless())
        next(call)
        # Other calls are answered meanwhile, and after each of them little more was taken.
        for _ in range(20):
            stub.Classify(classification.ClassifyRequest(text="hello", tasks=["spam"]))
        call.cancel()
    assert taken < 20_000


def test_an_import_says_which_lines_it_refused(server: Server) -> None:
    """A chunk of an import stores its valid items, and names the others by line."""
    items = [
        examples.ImportItem(line=11, example=draft("import one")),
        examples.ImportItem(line=12, example=draft("import two", "nope")),
        examples.ImportItem(line=13, example=draft("\x00\x01")),
    ]
    with server.channel() as channel:
        stub = ExampleServiceStub(channel)
        (checked,) = stub.ImportExamples(iter([examples.ImportExamplesRequest(items=items, validate_only=True)]))
        assert (checked.accepted_count, checked.created_count, len(checked.rejections)) == (1, 0, 2)
        (first,) = stub.ImportExamples(iter([examples.ImportExamplesRequest(items=items)]))
        (second,) = stub.ImportExamples(iter([examples.ImportExamplesRequest(items=items)]))
    assert (first.last_line, first.accepted_count, first.created_count) == (13, 1, 1)
    assert [(one.line, one.error.reason) for one in first.rejections] == [
        (12, "UNKNOWN_LABEL"),
        (13, "INVALID_EXAMPLE"),
    ]
    assert (second.accepted_count, second.created_count) == (1, 0)


def test_an_import_answers_each_chunk(server: Server) -> None:
    """Who sends a chunk once the one before is answered gets his answers; a text of two chunks is one example."""
    sent: queue.Queue[int | None] = queue.Queue()
    chunks = [["waiting one", "waiting two"], ["waiting two", "waiting three"], ["waiting one"]]

    def requests() -> Iterator[examples.ImportExamplesRequest]:
        while (number := sent.get(timeout=20)) is not None:
            items = [examples.ImportItem(line=number, example=draft(text)) for text in chunks[number]]
            yield examples.ImportExamplesRequest(items=items)

    created = []
    with server.channel() as channel:
        sent.put(0)
        for number, reply in enumerate(ExampleServiceStub(channel).ImportExamples(requests(), timeout=30), start=1):
            created.append((reply.last_line, reply.accepted_count, reply.created_count))
            sent.put(number if number < len(chunks) else None)
    assert created == [(0, 2, 2), (1, 2, 1), (2, 1, 0)]


def test_an_import_in_order(server: Server) -> None:
    """Chunks that come before their answers are written in order: of one text in several the last label stays."""
    labels = ["spam", "ham", "spam", "ham"]
    texts = [f"in order {i}" for i in range(40)]

    def requests() -> Iterator[examples.ImportExamplesRequest]:
        for number, label in enumerate(labels):
            items = [examples.ImportItem(line=number, example=draft(text, label)) for text in texts]
            yield examples.ImportExamplesRequest(items=items)

    with server.channel() as channel:
        replies = list(ExampleServiceStub(channel).ImportExamples(requests(), timeout=30))
    assert [reply.last_line for reply in replies] == [0, 1, 2, 3]
    assert [reply.created_count for reply in replies] == [40, 0, 0, 0]
    with server.client() as client:
        stored = [example for example in client.export_examples("spam") if example.text in texts]
    assert {example.labels for example in stored} == {("ham",)}


def test_an_import_that_fails_half_way(server: Server) -> None:
    """What came before a chunk that can't be read is stored and answered."""

    def requests() -> Iterator[examples.ImportExamplesRequest]:
        yield examples.ImportExamplesRequest(items=[examples.ImportItem(line=1, example=draft("half way"))])
        yield examples.ImportExamplesRequest(items=[])

    with server.channel() as channel:
        replies = ExampleServiceStub(channel).ImportExamples(requests(), timeout=30)
        assert next(replies).created_count == 1
        with pytest.raises(grpc.RpcError) as refused:
            next(replies)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
