"""Tasks, kept where all replicas see them."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from nearvote.errors import (
    InvalidTask,
    LabelInUse,
    LimitReached,
    TaskChanged,
    TaskExists,
    TaskNotEmpty,
    TaskNotFound,
)
from nearvote.limits import Limits
from nearvote.tasks.registry import REFRESH_SECONDS, TaskRegistry
from nearvote.tasks.task import Label, Task
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.policy import Action, LabelPolicy, Policy
from tests.conftest import FakeClock

SPAM = Task("spam", (Label("spam", "bad"), Label("ham")), "Is it?", benign_label="ham")


class FakeStore:
    """Documents and class sizes in memory. Counts what it is asked, and can keep an answer back."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.sizes: dict[tuple[str, str], ClassSizes] = {}
        self.documents_read = 0
        self.classes_counted = 0
        self.answered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def documents(self, kind: str, tenant: str) -> dict[str, dict[str, Any]]:
        self.documents_read += 1
        answer = dict(self.kept.get((kind, tenant), {}))
        await self._hand_over()
        return answer

    async def put_document(self, kind: str, tenant: str, name: str, body: Mapping[str, Any]) -> None:
        self.kept.setdefault((kind, tenant), {})[name] = dict(body)

    async def delete_document(self, kind: str, tenant: str, name: str) -> None:
        self.kept.get((kind, tenant), {}).pop(name, None)

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        self.classes_counted += 1
        answer = self.sizes.get((tenant, task), ClassSizes())
        await self._hand_over()
        return answer

    async def delete_task(self, tenant: str, task: str) -> int:
        return self.sizes.pop((tenant, task), ClassSizes()).total

    async def _hand_over(self) -> None:
        """Whoever comes while the gate is shut waits, the answer already in hand: a reply on a slow wire."""
        self.answered.set()
        await self.gate.wait()


@pytest.fixture
def store() -> FakeStore:
    """What all replicas share."""
    return FakeStore()


def replica(store: FakeStore, clock: FakeClock, **limits: int) -> TaskRegistry:
    """A registry of its own on the shared store."""
    return TaskRegistry(store, Limits(**limits), now_us=clock.now_us, monotonic=clock.monotonic)


@pytest.fixture
def tasks(store: FakeStore, clock: FakeClock) -> TaskRegistry:
    """A replica."""
    return replica(store, clock)


async def test_create(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A new task has version 1 and its time, whatever it was given with, and every part of it is kept."""
    policy = Policy(k=7, labels={"spam": LabelPolicy(block_score=0.9)}, abstention_action=Action.REVIEW)
    created = await tasks.create("acme", replace(SPAM, policy=policy, policy_version=9, created_us=1, updated_us=1))
    now = clock.now_us()
    assert created == replace(SPAM, policy=policy, policy_version=1, created_us=now, updated_us=now)
    assert await tasks.get("acme", "spam") == created
    assert await replica(store, clock).list_all("acme") == [created]


async def test_listed_by_name(tasks: TaskRegistry) -> None:
    """A tenant's tasks are listed by name, and no other tenant's."""
    for tenant, name in (("acme", "b"), ("acme", "c"), ("acme", "a"), ("other", "x")):
        await tasks.create(tenant, replace(SPAM, name=name))
    assert [task.name for task in await tasks.list_all("acme")] == ["a", "b", "c"]
    assert await tasks.list_all("nobody") == []


async def test_create_twice(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A task of a name that is taken is refused, also when another replica took it a moment ago."""
    assert await tasks.list_all("acme") == []
    await replica(store, clock).create("acme", SPAM)
    with pytest.raises(TaskExists) as caught:
        await tasks.create("acme", replace(SPAM, description="another"))
    assert caught.value.field == "name"
    assert (await tasks.get("acme", "spam")).description == "Is it?"


async def test_as_many_tasks_as_allowed(store: FakeStore, clock: FakeClock) -> None:
    """There can be as many tasks as the limit says, for each tenant, and no more."""
    tasks = replica(store, clock, max_tasks=2)
    for name in ("a", "b"):
        await tasks.create("acme", replace(SPAM, name=name))
    with pytest.raises(LimitReached):
        await tasks.create("acme", replace(SPAM, name="c"))
    await tasks.create("other", replace(SPAM, name="c"))
    await tasks.delete("acme", "a", force=False)
    await tasks.create("acme", replace(SPAM, name="c"))


async def test_invalid_tasks(store: FakeStore, clock: FakeClock) -> None:
    """A task beyond the limits is neither created nor made of another one."""
    tasks = replica(store, clock, max_labels=2, max_k=30)
    stored = await tasks.create("acme", SPAM)
    for wrong, field in (
        (replace(SPAM, labels=(*SPAM.labels, Label("third"))), "labels"),
        (replace(SPAM, policy=Policy(k=31)), "policy.k"),
        (replace(SPAM, benign_label="unknown"), "benign_label"),
    ):
        for attempt in (tasks.create("other", wrong), tasks.update("acme", wrong)):
            with pytest.raises(InvalidTask) as caught:
                await attempt
            assert caught.value.field == field
    assert await tasks.list_all("acme") == [stored]
    assert await tasks.list_all("other") == []


async def test_unknown_task(tasks: TaskRegistry) -> None:
    """An unknown task is said not to be there, and those that are there are named."""
    await tasks.create("acme", SPAM)
    wrong = replace(SPAM, name="intent")
    for attempt in (
        tasks.get("acme", "intent"),
        tasks.update("acme", wrong),
        tasks.delete("acme", "intent", force=True),
    ):
        with pytest.raises(TaskNotFound, match="use one of: spam") as caught:
            await attempt
        assert caught.value.field == "task"


async def test_update(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A change counts at once where it is made, has the next version and a new time, and keeps that of creation."""
    created = await tasks.create("acme", SPAM)
    clock.advance(0.5)
    changed = await tasks.update("acme", replace(created, policy=Policy(k=3)))
    assert changed == replace(created, policy=Policy(k=3), policy_version=2, updated_us=clock.now_us())
    assert changed.updated_us == created.created_us + 500_000
    assert await tasks.get("acme", "spam") == changed == await replica(store, clock).get("acme", "spam")


async def test_update_keeps_time_of_creation(tasks: TaskRegistry) -> None:
    """A change that is made of whole cloth, not of the stored task, keeps the time of creation."""
    created = await tasks.create("acme", SPAM)
    changed = await tasks.update("acme", replace(SPAM, description="new"))
    assert (changed.created_us, changed.policy_version) == (created.created_us, 2)


async def test_update_of_a_version(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A change made on another version than the stored one is refused; one on any version is not."""
    created = await tasks.create("acme", SPAM)
    await replica(store, clock).update("acme", replace(created, description="theirs"), expected_version=1)
    with pytest.raises(TaskChanged, match="at version 2, not 1") as caught:
        await tasks.update("acme", replace(created, description="ours"), expected_version=1)
    assert caught.value.field == "policy_version"
    assert (await tasks.get("acme", "spam")).description == "theirs"
    assert (await tasks.update("acme", replace(created, description="ours"))).policy_version == 3


async def test_label_in_use(store: FakeStore, tasks: TaskRegistry) -> None:
    """A label that has examples can't be taken away; one that has none can, and one can always be added."""
    created = await tasks.create("acme", replace(SPAM, labels=(*SPAM.labels, Label("odd"))))
    store.sizes["acme", "spam"] = ClassSizes(3, {"spam": 3})
    with pytest.raises(LabelInUse, match="3 examples") as caught:
        await tasks.update("acme", replace(created, labels=(Label("ham"), Label("odd"))))
    assert caught.value.field == "labels"
    changed = await tasks.update("acme", replace(created, labels=(*SPAM.labels, Label("new"))))
    assert changed.label_names == ("spam", "ham", "new")


async def test_delete(store: FakeStore, tasks: TaskRegistry) -> None:
    """A task with examples goes only by force, with them; its version of examples goes too."""
    await tasks.create("acme", SPAM)
    store.sizes["acme", "spam"] = ClassSizes(3, {"spam": 3})
    await tasks.examples_changed("acme", "spam")
    with pytest.raises(TaskNotEmpty, match="3 examples") as caught:
        await tasks.delete("acme", "spam", force=False)
    assert caught.value.field == "force"
    assert await tasks.get("acme", "spam")
    assert await tasks.delete("acme", "spam", force=True) == 3
    assert not any(store.kept.values())
    assert await tasks.list_all("acme") == []
    with pytest.raises(TaskNotFound, match="none yet"):
        await tasks.get("acme", "spam")


async def test_another_replicas_change(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """Another replica's change is seen after the refresh time, and until then the store is not asked again."""
    other = replica(store, clock)
    assert await tasks.list_all("acme") == []
    created = await other.create("acme", SPAM)
    await other.examples_changed("acme", "spam")
    reads = store.documents_read
    clock.advance(REFRESH_SECONDS)
    assert await tasks.list_all("acme") == []
    assert await tasks.examples_version("acme", "spam") == 0
    assert store.documents_read == reads
    clock.advance(0.01)
    assert await tasks.list_all("acme") == [created]
    assert await tasks.examples_version("acme", "spam") == await other.examples_version("acme", "spam") > 0


async def test_examples_version_increases(tasks: TaskRegistry, clock: FakeClock) -> None:
    """Each change of the examples has a later version, also within a microsecond and when the clock goes back."""
    assert await tasks.examples_version("acme", "spam") == 0
    versions = []
    for seconds in (0, 0, 0, 5, -60, 0, 1):
        clock.advance(seconds)
        await tasks.examples_changed("acme", "spam")
        versions.append(await tasks.examples_version("acme", "spam"))
    assert versions[0] == 1_000_000_000
    assert versions == sorted(set(versions))
    assert await tasks.examples_version("acme", "abuse") == 0


async def test_class_sizes_are_cached(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """Examples are counted once, and again when they change: here at once, elsewhere after the refresh time."""
    other = replica(store, clock)
    for size in (1, 2, 3):
        store.sizes["acme", "spam"] = ClassSizes(size, {"spam": size})
        await tasks.examples_changed("acme", "spam")
        clock.advance(REFRESH_SECONDS + 1)
        for _ in range(3):
            assert (await tasks.class_sizes("acme", "spam")).total == size
            assert (await other.class_sizes("acme", "spam")).total == size
            clock.advance(REFRESH_SECONDS + 1)
    assert store.classes_counted == 6


async def test_change_while_counting(store: FakeStore, tasks: TaskRegistry) -> None:
    """A count that was under way when the examples changed is not taken for the new one."""
    await tasks.list_all("acme")
    store.gate.clear()
    store.answered.clear()
    counting = asyncio.create_task(tasks.class_sizes("acme", "spam"))
    await asyncio.wait_for(store.answered.wait(), 5)
    store.sizes["acme", "spam"] = ClassSizes(1, {"spam": 1})
    store.gate.set()  # the change overtakes the count that is in hand
    await tasks.examples_changed("acme", "spam")
    await counting
    assert await tasks.class_sizes("acme", "spam") == ClassSizes(1, {"spam": 1})


async def test_change_while_refreshing(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A replica sees its own change at once, also when it was reading the tasks anew while it was made."""
    await tasks.create("acme", SPAM)
    await tasks.list_all("acme")
    clock.advance(REFRESH_SECONDS + 1)
    store.gate.clear()
    store.answered.clear()
    refreshing = asyncio.create_task(tasks.list_all("acme"))
    await asyncio.wait_for(store.answered.wait(), 5)
    store.gate.set()  # the change overtakes the answer that is in hand
    changed = await tasks.update("acme", replace(SPAM, description="new"))
    await refreshing
    assert (await tasks.get("acme", "spam")) == changed
