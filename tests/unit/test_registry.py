"""Tasks, kept where all replicas see them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
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
from nearvote.tasks.document import Revision
from nearvote.tasks.fit import Fit
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.snapshots import REFRESH_SECONDS
from nearvote.tasks.task import Label, Task
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Action, LabelPolicy, Policy
from tests.conftest import FakeClock

SPAM = Task("spam", (Label("spam", "bad"), Label("ham")), "Is it?", benign_label="ham")


class FakeStore:
    """Documents and class sizes in memory. Counts what it is asked, and can keep an answer back."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        self.sizes: dict[tuple[str, str], ClassSizes] = {}
        self.ends: dict[tuple[str, str], int] = {}
        self.documents_read = 0
        self.written = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None  # before the next conditional write
        self.classes_counted = 0
        self.answered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def documents(self, kind: str, tenant: str) -> dict[str, dict[str, Any]]:
        self.documents_read += 1
        answer = dict(self.kept.get((kind, tenant), {}))
        await self._hand_over()
        return answer

    async def document(self, kind: str, tenant: str, name: str) -> dict[str, Any] | None:
        return self.kept.get((kind, tenant), {}).get(name)

    async def put_document(self, kind: str, tenant: str, name: str, body: Mapping[str, Any]) -> None:
        self.written += 1
        self.kept.setdefault((kind, tenant), {})[name] = dict(body)

    async def read_document(self, kind: str, tenant: str, name: str) -> tuple[dict[str, Any], Revision] | None:
        body = self.kept.get((kind, tenant), {}).get(name)
        return None if body is None else (body, (str(self.written),))

    async def put_document_if(
        self, kind: str, tenant: str, name: str, body: Mapping[str, Any], revision: Revision | None
    ) -> bool:
        if self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            await act()
        read = await self.read_document(kind, tenant, name)
        if (read and read[1]) != revision:
            return False
        await self.put_document(kind, tenant, name, body)
        return True

    async def delete_document(self, kind: str, tenant: str, name: str) -> None:
        self.kept.get((kind, tenant), {}).pop(name, None)

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        self.classes_counted += 1
        answer = self.sizes.get((tenant, task), ClassSizes())
        await self._hand_over()
        return answer

    async def next_end(self, tenant: str, task: str) -> int | None:
        return self.ends.get((tenant, task))

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


async def test_a_change_that_is_overtaken_is_judged_again(
    store: FakeStore, tasks: TaskRegistry, clock: FakeClock
) -> None:
    """A change that another replica overtakes as it is written: made anew on any version, refused on a stated one."""
    created = await tasks.create("acme", SPAM)

    async def other() -> None:
        await replica(store, clock).update("acme", replace(created, description="theirs"))

    store.meanwhile = other
    changed = await tasks.update("acme", replace(created, description="ours"))
    assert (changed.policy_version, changed.description) == (3, "ours"), "after theirs, which was version 2"
    store.meanwhile = other
    with pytest.raises(TaskChanged, match="at version 4, not 3"):
        await tasks.update("acme", replace(created, description="ours"), expected_version=3)
    assert (await tasks.get("acme", "spam")).description == "theirs"


async def test_two_create_a_task(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """Of two replicas that create a task at once one does, and the other is told that there is one."""

    async def other() -> None:
        await replica(store, clock).create("acme", replace(SPAM, description="theirs"))

    store.meanwhile = other
    with pytest.raises(TaskExists):
        await tasks.create("acme", SPAM)
    assert (await tasks.get("acme", "spam")).description == "theirs"


async def test_a_task_deleted_as_it_is_changed_stays_deleted(
    store: FakeStore, tasks: TaskRegistry, clock: FakeClock
) -> None:
    """A change of a task that another replica deletes meanwhile does not bring it back."""
    created = await tasks.create("acme", SPAM)
    store.meanwhile = lambda: replica(store, clock).delete("acme", "spam", force=True)
    with pytest.raises(TaskNotFound):
        await tasks.update("acme", replace(created, description="ours"))
    assert await tasks.list_all("acme") == []


async def test_each_change_of_examples_has_a_version_of_its_own(
    store: FakeStore, tasks: TaskRegistry, clock: FakeClock
) -> None:
    """Two replicas that note changes at the same instant write two versions: nobody takes the second for the first."""
    await tasks.create("acme", SPAM)
    seen = []
    other = replica(store, clock)

    async def first() -> None:
        await other.examples_changed("acme", "spam")
        seen.append(await other.examples_version("acme", "spam"))

    store.meanwhile = first
    await tasks.examples_changed("acme", "spam")
    assert await tasks.examples_version("acme", "spam") > seen[0]


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


async def test_what_ends_is_counted_anew(tasks: TaskRegistry, store: FakeStore, clock: FakeClock) -> None:
    """A count is good until the next example ends, though nothing was written."""
    store.sizes["acme", "spam"], store.ends["acme", "spam"] = ClassSizes(2, {}), clock.now_us() + 500_000
    assert (await tasks.class_sizes("acme", "spam")).total == 2
    store.sizes["acme", "spam"] = ClassSizes(1, {})
    clock.advance(0.4)
    assert (await tasks.class_sizes("acme", "spam")).total == 2
    clock.advance(0.1)
    assert (await tasks.class_sizes("acme", "spam")).total == 1


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


FIT_POLICY = Policy(k=9, scope_floor=0.25)


async def switch(
    tasks: TaskRegistry, task: Task, fit_version: int, slot: Slot | None = Slot.A, policy: Policy = FIT_POLICY
) -> Task:
    """Lets a fit serve, as the learner does."""
    async with tasks.changing("acme"):
        return await tasks.switch("acme", task, policy=policy, fit_version=fit_version, slot=slot)


async def test_switch(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """Another fit serves with its policy from the next version on, here and elsewhere; what is not its own stays."""
    created = await tasks.create("acme", SPAM)
    clock.advance(3)
    switched = await switch(tasks, created, 1, Slot.B)
    expected = replace(
        created,
        policy=FIT_POLICY,
        policy_version=2,
        fit_version=1,
        slot=Slot.B,
        slots={Slot.B: 1},
        updated_us=clock.now_us(),
    )
    assert switched == expected == await tasks.get("acme", "spam") == await replica(store, clock).get("acme", "spam")
    back = await switch(tasks, switched, 0, None, Policy())
    assert back == replace(expected, policy=Policy(), policy_version=3, fit_version=0, slot=None)


async def test_a_policy_changed_meanwhile(tasks: TaskRegistry) -> None:
    """A change of the task while the fit was made is not lost: the fit is not switched to."""
    created = await tasks.create("acme", SPAM)
    changed = await tasks.update("acme", replace(created, policy=Policy(k=1)))
    with pytest.raises(TaskChanged, match="fit it again"):
        await switch(tasks, created, 1)
    assert await tasks.get("acme", "spam") == changed


@pytest.mark.parametrize(
    "labels",
    [
        (*SPAM.labels, Label("new")),
        (Label("spam"), Label("gone")),
        (Label("ham"), Label("spam")),
    ],
)
async def test_labels_changed_meanwhile(tasks: TaskRegistry, labels: tuple[Label, ...]) -> None:
    """A fit made on other labels than the task has now, or in another order, is not switched to."""
    created = await tasks.create("acme", replace(SPAM, benign_label=""))
    changed = await tasks.update("acme", replace(created, labels=labels))
    with pytest.raises(TaskChanged, match="fit it again") as caught:
        await switch(tasks, created, 1)
    assert caught.value.field == "task"
    assert await tasks.get("acme", "spam") == changed


async def test_another_fit_meanwhile(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A fit is not switched to when another one, also of another replica, serves since it was begun."""
    created = await tasks.create("acme", SPAM)
    switched = await switch(replica(store, clock), created, 1)
    with pytest.raises(TaskChanged):
        await switch(tasks, created, 2)
    assert await replica(store, clock).get("acme", "spam") == switched


async def test_created_again_meanwhile(tasks: TaskRegistry, clock: FakeClock) -> None:
    """A fit of a task that was deleted is not switched to by a new task of its name."""
    created = await tasks.create("acme", SPAM)
    await tasks.delete("acme", "spam", force=False)
    with pytest.raises(TaskNotFound):
        await switch(tasks, created, 1)
    clock.advance(1)
    again = await tasks.create("acme", SPAM)
    with pytest.raises(TaskChanged):
        await switch(tasks, created, 1)
    assert await tasks.get("acme", "spam") == again


async def test_update_keeps_the_fit(tasks: TaskRegistry) -> None:
    """A change of the task leaves the fit that serves and where its vectors are, whatever the change says of them."""
    switched = await switch(tasks, await tasks.create("acme", SPAM), 1, Slot.B)
    changed = await tasks.update("acme", replace(SPAM, description="new", fit_version=9, slot=Slot.A))
    assert (changed.fit_version, changed.slot, changed.description) == (1, Slot.B, "new")
    assert changed.policy_version == switched.policy_version + 1


async def test_two_fits_claim_a_slot(store: FakeStore, tasks: TaskRegistry, clock: FakeClock) -> None:
    """A slot is the fit's that claimed it last, on whatever replica; the former is refused, to write as to serve."""
    created = await tasks.create("acme", SPAM)
    other = replica(store, clock)
    assert await tasks.claim("acme", created, 1) == (Slot.A, False)
    await tasks.check_claim("acme", created, Slot.A, 1)
    assert await other.claim("acme", created, 2) == (Slot.A, True), "what it had before may still be searched"
    with pytest.raises(TaskChanged):
        await tasks.check_claim("acme", created, Slot.A, 1)
    with pytest.raises(TaskChanged):
        await switch(tasks, created, 1)
    assert (await switch(other, created, 2)).fit_version == 2


async def test_slots_are_written_for_as_long_as_they_may_be_searched(tasks: TaskRegistry) -> None:
    """Examples go to the slot that serves, to the one that served before, and to one that is claimed in its place."""
    task = await tasks.create("acme", SPAM)
    assert task.written_slots == {}
    task = await switch(tasks, task, 1, (await tasks.claim("acme", task, 1))[0])
    assert task.written_slots == {Slot.A: 1}
    task = await switch(tasks, task, 2, (await tasks.claim("acme", task, 2))[0])
    assert task.written_slots == {Slot.A: 1, Slot.B: 2}
    assert await tasks.claim("acme", task, 3) == (Slot.A, True)
    assert (await tasks.get("acme", "spam")).written_slots == {Slot.A: 3, Slot.B: 2}
    assert (await switch(tasks, task, 3, None)).written_slots == {Slot.B: 2}


async def test_a_label_that_another_replica_has_just_used_comes_back(
    store: FakeStore, tasks: TaskRegistry, clock: FakeClock
) -> None:
    """A label that gets its first example as it is taken away stays, and whoever takes it away is told."""
    created = await tasks.create("acme", SPAM)

    async def added() -> None:
        store.sizes["acme", "spam"] = ClassSizes(1, {"spam": 1})

    store.meanwhile = added
    with pytest.raises(LabelInUse):
        await tasks.update("acme", replace(created, labels=(Label("ham"),)))
    assert (await replica(store, clock).get("acme", "spam")).label_names == ("spam", "ham")


async def test_a_fit_goes_with_its_task(store: FakeStore, tasks: TaskRegistry) -> None:
    """Deleting a task deletes its fits, those it was once served by too, and no other task's."""
    fit = Fit(
        1, None, in_metric=False, prototypes=None, policy=FIT_POLICY, replaced_version=0, replaced_policy=Policy()
    )
    task = await tasks.create("acme", SPAM)
    await tasks.create("acme", replace(SPAM, name="other"))
    for version in (1, 2):
        await tasks.fits.put("acme", "spam", replace(fit, version=version))
        await tasks.fits.put("acme", "other", replace(fit, version=version))
        task = await switch(tasks, task, version, None)
    await tasks.delete("acme", "spam", force=False)
    assert set(store.kept["fit", "acme"]) == {"other/1", "other/2"}


async def test_a_fit_that_was_gone_back_from_goes_with_its_task(store: FakeStore, tasks: TaskRegistry) -> None:
    """Deleting a task deletes also the fits that were made after the one that serves."""
    fit = Fit(
        1, None, in_metric=False, prototypes=None, policy=FIT_POLICY, replaced_version=0, replaced_policy=Policy()
    )
    task = await tasks.create("acme", SPAM)
    for version in (1, 2):
        await tasks.fits.put("acme", "spam", replace(fit, version=version))
        task = await switch(tasks, task, version, None)
    await switch(tasks, task, 1, None)
    await tasks.delete("acme", "spam", force=False)
    assert store.kept["fit", "acme"] == {}


async def test_a_task_is_created_without_a_fit(tasks: TaskRegistry) -> None:
    """Who creates a task can't say what was learned for it."""
    created = await tasks.create("acme", replace(SPAM, fit_version=4, slot=Slot.A))
    assert (created.fit_version, created.slot) == (0, None)
