"""The Python clients."""

import inspect

import pytest

from nearvote import AsyncClient, Client
from nearvote.client import Draft, Label, Policy, ServiceError, ServiceUnreachable, Task
from tests.integration.server import Server, free_port


def test_both_clients_do_the_same() -> None:
    """The blocking and the asyncio client have the same methods with the same parameters."""
    blocking = {name: inspect.signature(getattr(Client, name)) for name in vars(Client) if not name.startswith("_")}
    waiting = {
        name: inspect.signature(getattr(AsyncClient, name)) for name in vars(AsyncClient) if not name.startswith("_")
    }
    # The one difference: what goes into a stream may be waited for.
    assert {name: list(signature.parameters) for name, signature in blocking.items()} == {
        name: list(signature.parameters) for name, signature in waiting.items()
    }


def test_the_blocking_client(plain: Server) -> None:
    """Every method of the blocking client does what it says."""
    with plain.client() as client:
        task = client.create_task(
            Task("mood", (Label("up", "cheerful"), Label("down")), policy=Policy(k=3, margin_floor=0.0))
        )
        assert (task.policy_version, task.labels[0].description, task.policy.margin_floor) == (1, "cheerful", 0.0)
        assert [one.name for one in client.list_tasks()] == ["mood", "spam"]
        saved = client.add_example("mood", "what a lovely day", ["up"], weight=2.0, source="test")
        assert saved.created
        assert client.get_example("mood", saved.example.id).weight == 2.0
        assert len(client.add_examples([Draft("mood", f"rainy day {i}", ("down",)) for i in range(150)])) == 150
        assert sum(1 for _ in client.list_examples("mood", label="down")) == 150
        assert client.search_examples("mood", "a lovely day", limit=1)[0].example.id == saved.example.id
        result = client.classify("a lovely day", ["mood"], with_texts=True, neighbor_limit=1)
        assert result.predictions[0].neighbors[0].text == "what a lovely day"
        voters = client.classify("a lovely day", ["mood"], k=2).predictions[0].neighbors
        assert sorted(voter.view.value for voter in voters) == ["meaning", "meaning", "surface", "surface"]
        batch = client.classify_batch(["a lovely day", "rainy day 5"], ["mood"], k=1)
        assert [one.predictions[0].label for one in batch] == ["up", "down"]
        streamed = {one.index: one for one in client.classify_stream(["rainy day 5", "x" * 70_000], ["mood"], k=1)}
        assert streamed[0].classification is not None
        assert streamed[0].classification.predictions[0].label == "down"
        assert streamed[1].error is not None
        assert streamed[1].error.reason == "TEXT_TOO_LONG"
        progress = list(
            client.import_examples([[(1, Draft("mood", "sunny", ("up",))), (2, Draft("mood", "", ("up",)))]])
        )
        assert (progress[0].accepted_count, list(progress[0].rejections)) == (1, [2])
        assert sum(1 for _ in client.export_examples("mood")) == 152
        client.delete_example("mood", saved.example.id)
        with pytest.raises(ServiceError) as caught:
            client.get_example("mood", saved.example.id)
        assert (caught.value.code, caught.value.reason, caught.value.field) == ("NOT_FOUND", "EXAMPLE_NOT_FOUND", "id")
        updated = client.update_task(Task("mood", (), policy=Policy(k=9)), ["policy.k"])
        assert (updated.policy.k, updated.policy.margin_floor, updated.policy_version) == (9, 0.0, 2)
        assert client.get_task("mood") == updated
        assert client.delete_task("mood", force=True) == 151
        assert client.info().store == "edge"


async def test_the_asyncio_client(plain: Server) -> None:
    """Every method of the asyncio client does what it says."""
    async with AsyncClient(plain.address) as client:
        await client.create_task(Task("mood", (Label("up"), Label("down"))))
        assert [one.name async for one in client.list_tasks()] == ["mood", "spam"]
        saved = await client.add_example("mood", "what a lovely day", ["up"])
        await client.add_examples([Draft("mood", f"rainy day {i}", ("down",)) for i in range(150)])
        assert len([one async for one in client.list_examples("mood")]) == 151
        assert (await client.search_examples("mood", "lovely"))[0].example == saved.example
        assert (await client.get_example("mood", saved.example.id)) == saved.example
        assert (await client.classify("a lovely day", ["mood"], k=1)).predictions[0].label == "up"
        assert len(await client.classify_batch(["a", "b"], ["mood"])) == 2
        streamed = [one async for one in client.classify_stream(["a", "b", "c"], ["mood"])]
        assert sorted(one.index for one in streamed) == [0, 1, 2]
        progress = [one async for one in client.import_examples([[(1, Draft("mood", "sunny", ("up",)))]])]
        assert progress[0].created_count == 1
        assert len([one async for one in client.export_examples("mood")]) == 152
        await client.delete_example("mood", saved.example.id)
        task = await client.get_task("mood")
        assert (await client.update_task(task, ["description"])).policy_version == 2
        with pytest.raises(ServiceError, match="TASK_NOT_EMPTY"):
            await client.delete_task("mood")
        assert (await client.info()).tasks[0].name == "mood"


async def test_no_service_is_an_error_of_its_own() -> None:
    """Where nothing listens, both clients raise ServiceUnreachable, which says how to start a service."""
    address = f"127.0.0.1:{free_port()}"
    with Client(address) as client, pytest.raises(ServiceUnreachable, match="nearvote serve"):
        client.info()
    async with AsyncClient(address) as client:
        with pytest.raises(ServiceUnreachable, match="nearvote serve"):
            await client.info()
        with pytest.raises(ServiceUnreachable):
            [one async for one in client.classify_stream(["a"])]


def test_a_call_has_a_deadline(plain: Server) -> None:
    """A call that takes longer than the client's timeout ends with DEADLINE_EXCEEDED."""
    with Client(plain.address, timeout_seconds=0.000_001) as client, pytest.raises(ServiceError) as caught:
        client.classify("hello")
    assert caught.value.code == "DEADLINE_EXCEEDED"
