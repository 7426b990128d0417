"""Deleting examples by whose they are, and those that have ended."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE, EventQuery
from nearvote.classify import Options
from nearvote.embedding.cache import ViewCache
from nearvote.embedding.embedder import Embedder
from nearvote.erase import Erased, Eraser
from nearvote.errors import InvalidExample, InvalidField, TaskNotFound
from nearvote.examples import qdrant_store
from nearvote.examples.example import Draft
from nearvote.examples.store import Selection
from nearvote.voting.policy import Policy
from tests.conftest import Desk

ANN = Caller(name="ann", address="ipv4:192.0.2.7:1234")


class Office:
    """A desk with an eraser, which notes what it is told to forget and to stop."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.forgotten: list[str] = []
        self.stopped: list[tuple[str, str]] = []
        self.eraser = Eraser(desk.store, desk.tasks, desk.audit, self._stop, self._forget, desk.clock.now_us)

    async def _stop(self, tenant: str, task: str) -> None:
        self.stopped.append((tenant, task))

    def _forget(self, texts: Sequence[str], tenant: str) -> None:
        assert tenant
        self.forgotten += texts

    async def fill(self) -> None:
        """Examples of two persons, from two sources, in two tasks."""
        drafts = [
            Draft("spam", f"{who} {source} {i}", ("ham",), source=source, subject=who)
            for who in ("person-1", "person-2")
            for source in ("mail", "chat")
            for i in range(2)
        ]
        await self.desk.curator.create("acme", [*drafts, replace(drafts[0], task="abuse", labels=("none",))])


@pytest.fixture
def office(desk: Desk) -> Office:
    """An office."""
    return Office(desk)


async def texts(desk: Desk, task: str = "spam") -> set[str]:
    """What a task has."""
    return {one.text for one in (await desk.store.list_page("acme", task)).examples}


async def test_by_subject(office: Office) -> None:
    """A subject's examples go from all tasks, and what is remembered of them; fits under way are stopped."""
    desk = office.desk
    await office.fill()
    task = await desk.tasks.get("acme", "spam")
    await desk.tasks.switch("acme", task, policy=Policy(), fit_version=1, slot=None)
    version = await desk.tasks.examples_version("acme", "abuse")
    erased = await office.eraser.delete_selected("acme", Selection(subject="person-1"), ANN)
    assert erased == Erased(5, ("spam",)), "the fitted task is named"
    assert await texts(desk) == {f"person-2 {source} {i}" for source in ("mail", "chat") for i in range(2)}
    assert await texts(desk, "abuse") == set()
    assert set(office.forgotten) == {f"person-1 {source} {i}" for source in ("mail", "chat") for i in range(2)}
    assert sorted(office.stopped) == [("acme", "abuse"), ("acme", "spam")]
    assert await desk.tasks.examples_version("acme", "abuse") > version
    assert (await desk.tasks.class_sizes("acme", "abuse")).total == 0
    (answer,) = await desk.classifier.classify("acme", ["person-1 mail 0"], ["abuse"], Options(with_texts=True))
    assert not answer.predictions[0].neighbors

    found = (await desk.audit.page("acme", EventQuery(actor="ann"), 10)).events
    assert sorted((one.change.task, one.change.example_count) for one in found) == [("abuse", 1), ("spam", 4)]
    digest = hashlib.sha256(b"person-1").hexdigest()
    assert {one.change.selected_by for one in found} == {(f"subject:{digest}",)}
    assert "person-1" not in str(found), "whom it was about is not written down"
    assert await office.eraser.delete_selected("acme", Selection(subject="person-1"), ANN) == Erased(0, ())


async def test_page_by_page(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many examples there are, they are read, recorded and deleted some at a time, all of them in the end."""
    await office.fill()
    monkeypatch.setattr(qdrant_store, "_SCROLL_PAGE", 2)
    sizes = []
    delete = office.desk.store.delete_selected

    async def noted(tenant: str, selection: Selection, ids: Sequence[str]) -> None:
        sizes.append(len(ids))
        await delete(tenant, selection, ids)

    monkeypatch.setattr(office.desk.store, "delete_selected", noted)
    assert await office.eraser.delete_selected("acme", Selection(subject="person-1"), ANN) == Erased(5, ())
    assert sizes == [2, 2, 1]
    assert len(await texts(office.desk)) == 4
    found = (await office.desk.audit.page("acme", EventQuery(actor="ann"), 10)).events
    assert sum(one.change.example_count for one in found) == 5


async def test_by_source(office: Office) -> None:
    """A source's examples go, of one task where it is named, and of one subject where it is."""
    await office.fill()
    delete = office.eraser.delete_selected
    assert (await delete("acme", Selection("spam", source="mail"), ANN)).example_count == 4
    assert await texts(office.desk, "abuse") == {"person-1 mail 0"}
    assert (await delete("acme", Selection(source="chat", subject="person-2"), ANN)).example_count == 2
    assert await texts(office.desk) == {"person-1 chat 0", "person-1 chat 1"}
    assert (await delete("other", Selection(source="chat"), ANN)).example_count == 0, "of nobody else"


async def test_refusals(office: Office) -> None:
    """Everything at once is not to be deleted like this, nor the examples of a task that there is not."""
    with pytest.raises(InvalidField, match="a source or a subject"):
        await office.eraser.delete_selected("acme", Selection("spam"), ANN)
    with pytest.raises(TaskNotFound):
        await office.eraser.delete_selected("acme", Selection("nope", source="mail"), ANN)


async def test_sweep(office: Office) -> None:
    """A sweep deletes what has ended, of all tenants, and says so in the record; what came back in time stays."""
    desk = office.desk
    end = desk.clock.now_us() + 1_000_000
    await desk.curator.create("acme", [Draft("spam", one, ("ham",), expires_us=end) for one in ("a", "b", "c")])
    await desk.tasks.create("other", await desk.tasks.get("acme", "spam"))
    await desk.curator.create("other", [Draft("spam", "a", ("ham",), expires_us=end + 5)])
    assert await office.eraser.sweep() == 0
    assert (await desk.tasks.class_sizes("acme", "spam")).total == 3
    desk.clock.advance(1)
    assert (await desk.tasks.class_sizes("acme", "spam")).total == 0, "counted anew without a sweep"
    (answer,) = await desk.classifier.classify("acme", ["a"], ["spam"], Options())
    assert not answer.predictions[0].neighbors
    (again,) = await desk.curator.create("acme", [Draft("spam", "c", ("spam",))])
    assert again.created, "what has ended is as good as gone"
    assert await office.eraser.sweep() == 2
    desk.clock.advance(1)
    assert await office.eraser.sweep() == 1
    assert await desk.store.ended(end * 2) == {}
    assert await texts(desk) == {"c"}
    assert sorted(office.forgotten) == ["a", "a", "b"]
    found = (await desk.audit.page("acme", EventQuery(actor=SERVICE.name), 100)).events
    assert [one.change.example_count for one in found if one.change.action is Action.EXAMPLES_EXPIRED] == [2]


@pytest.mark.parametrize("seconds", [0, -1, 9e12])
async def test_an_end_is_to_come(desk: Desk, seconds: float) -> None:
    """An example can't have ended when it is added, nor end when no clock can tell any more."""
    draft = Draft("spam", "a", ("ham",), expires_us=desk.clock.now_us() + round(seconds * 1_000_000))
    with pytest.raises(InvalidExample) as caught:
        await desk.curator.create("acme", [draft])
    assert caught.value.field == "examples[0].expire_time"


async def test_a_correction_keeps_subject_and_end(office: Office) -> None:
    """Whoever corrects a label changes neither whom the text is about nor how long it is kept, unless they say so."""
    desk = office.desk
    end = desk.clock.now_us() + 1_000_000
    await desk.curator.create("acme", [Draft("spam", "a", ("ham",), source="x", subject="p", expires_us=end)])
    (saved,) = await desk.curator.create("acme", [Draft("spam", "a", ("spam",))])
    assert (saved.example.source, saved.example.subject, saved.example.expires_us) == ("", "p", end)
    (saved,) = await desk.curator.create("acme", [Draft("spam", "a", ("spam",), subject="q", expires_us=end + 1)])
    assert (saved.example.subject, saved.example.expires_us) == ("q", end + 1)
    assert (await office.eraser.delete_selected("acme", Selection(subject="q"), ANN)).example_count == 1


async def test_a_subject_is_bounded(desk: Desk) -> None:
    """A subject has at most 256 bytes."""
    with pytest.raises(InvalidExample, match="256"):
        await desk.curator.create("acme", [Draft("spam", "a", ("ham",), subject="é" * 129)])


async def test_cache_forgets(desk: Desk) -> None:
    """What the cache has of a text is let go, and embedded anew when it comes again."""
    cache = ViewCache(10_000_000)
    embedder = Embedder(desk.encoder, desk.embedder._batcher, cache=cache)
    await embedder.embed(["one", "two"])
    used = cache.used_bytes
    embedder.forget(["one", "never seen"])
    assert 0 < cache.used_bytes < used
    count = desk.encoder.encoded_count
    await embedder.embed(["one", "two"])
    assert (desk.encoder.encoded_count - count, cache.used_bytes) == (1, used)
