"""Corrections come in, are promoted or not, and are taken back, in a real store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nearvote.access.caller import Caller
from nearvote.audit.event import Action, ExampleChange, ExampleState
from nearvote.audit.log import EventQuery
from nearvote.classify import Options
from nearvote.erase import Erased, Eraser
from nearvote.errors import (
    ExampleNotFound,
    FeedbackKeyReused,
    FeedbackNotFound,
    FeedbackNotPending,
    FeedbackRateReached,
    InvalidExample,
    InvalidField,
    InvalidPageToken,
    LimitReached,
    NearvoteError,
    StoreUnavailable,
    TaskNotFound,
    TextTooLong,
    UnknownLabel,
)
from nearvote.examples.example import Draft, Example, ImportedChunk, example_id
from nearvote.examples.store import Selection as ExampleSelection
from nearvote.feedback import inbox as module
from nearvote.feedback.correction import (
    Correction,
    Feedback,
    FeedbackState,
    Promoted,
    Revoked,
    Selection,
    Submitted,
    feedback_id,
)
from nearvote.feedback.inbox import Inbox
from nearvote.feedback.store import FeedbackStore, open_feedback
from nearvote.learn.jobs import Jobs
from nearvote.learn.learner import Learner
from nearvote.limits import Limits
from nearvote.tasks.leases import Leases
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.task import Label
from tests.conftest import Desk, OpenDesk

HOUR = 3_600
DAY = 24 * HOUR


class Office:
    """A desk with an inbox, and what it counted."""

    def __init__(
        self, desk: Desk, store: FeedbackStore, limits: Limits, promote_after: int = 0, keep_days: int = 0
    ) -> None:
        self.desk = desk
        self.store = store
        self.counted: list[tuple[str, str, str, int]] = []
        self.forgotten: list[tuple[str, str]] = []
        desk.tasks.also_delete(store.delete_task)
        self.learner = Learner(
            desk.embedder,
            desk.store,
            desk.tasks,
            limits,
            Jobs(desk.clock.now_us),
            Leases(desk.store),
            Shadows(desk.store, desk.tasks, limits),
        )
        self.inbox = Inbox(
            store,
            desk.store,
            desk.tasks,
            desk.embedder,
            desk.curator,
            self.learner,
            audit=desk.audit,
            forget=lambda texts, tenant: self.forgotten.extend((tenant, text) for text in texts),
            keep_days=keep_days,
            promote_after=promote_after,
            count=lambda *what: self.counted.append(what),
            now_us=desk.clock.now_us,
        )
        desk.curator.also_delete(self.inbox.erase_about)

    async def submit(self, key: str, text: str = "win money", *labels: str, source: str = "s") -> Feedback:
        given = Correction(key, "spam", labels or ("ham",), source, text)
        return (await self.inbox.submit("acme", given)).feedback

    async def promote(self, *feedback: Feedback) -> Promoted:
        return await self.inbox.promote("acme", Selection("spam", [one.id for one in feedback]))

    async def state(self, feedback: Feedback) -> FeedbackState:
        return (await self.inbox.get("acme", feedback.id)).state

    async def examples(self) -> dict[str, Example]:
        return {one.text: one for one in (await self.desk.browser.list_page("acme", "spam")).examples}

    async def label(self, text: str) -> str | None:
        (found,) = await self.desk.classifier.classify("acme", [text], ["spam"], Options())
        return found.predictions[0].label


OpenOffice = Callable[..., Awaitable[Office]]


@pytest.fixture
async def open_office(open_desk: OpenDesk) -> AsyncIterator[OpenOffice]:
    """Opens offices on a desk of its own limits."""
    offices: list[Office] = []

    async def open_(promote_after: int = 0, keep_days: int = 0, **limits: int) -> Office:
        bounds = Limits(**limits)
        desk = await open_desk(limits=bounds)
        offices.append(Office(desk, await open_feedback(desk.engine), bounds, promote_after, keep_days))
        return offices[-1]

    yield open_
    for office in offices:
        await office.learner.close()


@pytest.fixture
async def office(open_office: OpenOffice) -> Office:
    """An office with the tasks `spam` and `abuse`, without examples and without a rule."""
    return await open_office()


async def test_a_correction_waits(office: Office) -> None:
    """What is submitted is there as it was given, pending, and votes nowhere."""
    given = Correction("k", "abuse", ("threat", "hate"), "moderator-7", "I will find you")
    submitted = await office.inbox.submit("acme", given)
    now = office.desk.clock.now_us()
    assert submitted == Submitted(
        Feedback(
            feedback_id("acme", "k"),
            "acme",
            "k",
            "abuse",
            "I will find you",
            example_id("acme", "abuse", "I will find you"),
            ("hate", "threat"),
            "moderator-7",
            FeedbackState.PENDING,
            now,
            now,
        ),
        created=True,
    )
    assert await office.inbox.get("acme", submitted.feedback.id) == submitted.feedback
    assert (await office.desk.tasks.class_sizes("acme", "abuse")).total == 0
    assert office.desk.encoder.encoded_count == 0
    assert office.counted == [("acme", "abuse", "submitted", 1)]


async def test_a_key_is_submitted_once(office: Office) -> None:
    """The same key again returns the same, whatever became of it; other content under it is refused."""
    first = await office.submit("k", "win money", "ham")
    office.desk.clock.advance(5)
    again = await office.inbox.submit("acme", Correction("k", "spam", ("ham",), "s", "win money"))
    assert again == Submitted(first, created=False)
    for other in (
        Correction("k", "spam", ("spam",), "s", "win money"),
        Correction("k", "spam", ("ham",), "t", "win money"),
        Correction("k", "spam", ("ham",), "s", "win more money"),
        Correction("k", "abuse", ("ham",), "s", "win money"),
        Correction("k", "spam", ("ham",), "s", example_id="no id"),
    ):
        with pytest.raises(FeedbackKeyReused):
            await office.inbox.submit("acme", other)
    await office.inbox.reject("acme", Selection("spam", [first.id]))
    again = await office.inbox.submit("acme", Correction("k", "spam", ("ham",), "s", "win money"))
    assert (again.created, again.feedback.state) == (False, FeedbackState.REJECTED)
    assert len((await office.inbox.list_page("acme")).feedback) == 1
    other_tenant = await office.store.get("other", [first.id])
    assert other_tenant == {}


async def test_an_example_is_corrected_by_its_id(office: Office) -> None:
    """An example named by its id is the same as its text, also for the key."""
    id_ = await office.desk.add("win money", "spam")
    by_id = await office.inbox.submit("acme", Correction("k", "spam", ("ham",), "s", example_id=id_.upper()))
    assert (by_id.feedback.text, by_id.feedback.example_id) == ("win money", id_)
    by_text = await office.inbox.submit("acme", Correction("k", "spam", ("ham",), "s", "win money"))
    assert by_text == Submitted(by_id.feedback, created=False)
    unknown = example_id("acme", "spam", "unknown")
    with pytest.raises(ExampleNotFound) as caught:
        await office.inbox.submit("acme", Correction("l", "spam", ("ham",), "s", example_id=unknown))
    assert caught.value.field == "example_id"


@pytest.mark.parametrize(
    ("given", "error", "field"),
    [
        (Correction("", "spam", ("ham",), "s", "t"), InvalidField, "key"),
        (Correction("k" * 129, "spam", ("ham",), "s", "t"), InvalidField, "key"),
        (Correction("k", "spam", ("ham",), "", "t"), InvalidField, "source"),
        (Correction("k", "spam", ("ham",), "é" * 129, "t"), InvalidField, "source"),
        (Correction("k", "spam", ("ham",), "s"), InvalidField, "text"),
        (Correction("k", "spam", ("ham",), "s", "t", "an id"), InvalidField, "text"),
        (Correction("k", "nope", ("ham",), "s", "t"), TaskNotFound, "task"),
        (Correction("k", "spam", ("eggs",), "s", "t"), UnknownLabel, "labels[0]"),
        (Correction("k", "spam", (), "s", "t"), InvalidExample, "labels"),
        (Correction("k", "spam", ("ham", "spam"), "s", "t"), InvalidExample, "labels"),
        (Correction("k", "spam", ("ham",), "s", " \n"), InvalidExample, "text"),
        (Correction("k", "spam", ("ham",), "s", "\u200b"), InvalidExample, "text"),
        (Correction("k", "spam", ("ham",), "s", "x" * 70_000), TextTooLong, "text"),
    ],
)
async def test_what_can_not_be_right(office: Office, given: Correction, error: type[NearvoteError], field: str) -> None:
    """A correction that could not become an example is not taken."""
    with pytest.raises(error) as caught:
        await office.inbox.submit("acme", given)
    assert caught.value.field == field
    assert (await office.inbox.list_page("acme")).feedback == []


async def test_pending_is_limited_by_source(open_office: OpenOffice) -> None:
    """A source that has as many pending as it may is told to wait; others, and what it sent before, are not held up."""
    office = await open_office(max_pending_feedback=2)
    first = await office.submit("1", "one")
    await office.submit("2", "two")
    with pytest.raises(LimitReached) as caught:
        await office.submit("3", "three")
    assert caught.value.field == "source"
    assert (await office.submit("1", "one")) == first
    await office.submit("4", "four", source="t")
    await office.inbox.reject("acme", Selection("spam", [first.id]))
    await office.submit("3", "three")
    assert office.counted.count(("acme", "spam", "limited", 1)) == 1


async def test_a_source_may_submit_so_many_an_hour(open_office: OpenOffice) -> None:
    """A source that has submitted as many in this hour as it may is refused until the next."""
    office = await open_office(max_feedback_per_hour=2)
    office.desk.clock.seconds = 10 * HOUR
    for key in "12":
        await office.inbox.reject("acme", Selection("spam", [(await office.submit(key, key + " text")).id]))
    office.desk.clock.advance(HOUR - 1)
    with pytest.raises(FeedbackRateReached) as caught:
        await office.submit("3", "three")
    assert caught.value.field == "source"
    await office.submit("3", "three", source="t")
    office.desk.clock.advance(1)
    await office.submit("4", "four")


async def test_many_at_once_keep_to_the_limit(open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrections that come in the same moment are counted one after the other."""
    office = await open_office(max_pending_feedback=3)
    count = office.store.pending_count

    async def slowly(tenant: str, source: str) -> int:
        found = await count(tenant, source)
        await asyncio.sleep(0)  # others get their turn
        return found

    monkeypatch.setattr(office.store, "pending_count", slowly)
    done = await asyncio.gather(*(office.submit(str(i), f"text {i}") for i in range(9)), return_exceptions=True)
    assert sum(isinstance(one, Feedback) for one in done) == 3
    assert sum(isinstance(one, LimitReached) for one in done) == 6


async def test_promotion_makes_an_example(office: Office) -> None:
    """A promoted correction is an example of its source, which votes at once; promoting it again changes nothing."""
    await office.desk.add("lunch with the team", "ham")
    await office.desk.add("prize money waiting", "spam")
    feedback = await office.submit("k", "prize money for lunch", "ham", source="moderator-7")
    assert await office.label("prize money for lunch") != "ham"
    office.desk.clock.advance(1)
    assert await office.promote(feedback) == Promoted(1, 1, 0, {})
    example = (await office.examples())["prize money for lunch"]
    assert (example.labels, example.source, example.weight) == (("ham",), "moderator-7", 1.0)
    assert await office.label("prize money for lunch") == "ham"
    assert await office.state(feedback) is FeedbackState.PROMOTED
    version = await office.desk.tasks.examples_version("acme", "spam")
    assert await office.promote(feedback) == Promoted(0, 0, 0, {})
    assert await office.desk.tasks.examples_version("acme", "spam") == version
    assert office.counted == [("acme", "spam", *one) for one in (("submitted", 1), ("promoted", 1), ("promoted", 0))]


async def test_of_several_the_last_word_counts(office: Office) -> None:
    """Of corrections of one text in a batch the one submitted last shows; all are promoted."""
    sent = []
    for key, label in (("1", "spam"), ("2", "ham"), ("3", "spam"), ("4", "ham")):
        sent.append(await office.submit(key, "win money", label, source=f"s{key}"))
        office.desk.clock.advance(1)
    assert await office.promote(*reversed(sent)) == Promoted(4, 1, 0, {})
    assert (await office.examples())["win money"].source == "s4"
    assert {await office.state(one) for one in sent} == {FeedbackState.PROMOTED}


async def test_promotion_relabels_and_keeps_the_weight(office: Office) -> None:
    """A correction of an example that is there replaces its labels and its source; nothing is embedded again."""
    (saved,) = await office.desk.curator.create("acme", [Draft("spam", "win money", ("spam",), 5.0, "seed")])
    feedback = await office.submit("k")
    encoded = office.desk.encoder.encoded_count
    assert await office.promote(feedback) == Promoted(1, 0, 1, {})
    assert office.desk.encoder.encoded_count == encoded
    example = await office.desk.browser.get("acme", "spam", saved.example.id)
    assert (example.labels, example.source, example.weight) == (("ham",), "s", 5.0)


async def test_selection_by_source_and_time(office: Office) -> None:
    """Of a source or a time what is pending is meant, from the first moment to before the last."""
    times = []
    for i in range(4):
        times.append(office.desk.clock.now_us())
        await office.submit(f"s{i}", f"from s {i}", source="s")
        await office.submit(f"t{i}", f"from t {i}", source="t")
        office.desk.clock.advance(1)
    assert await office.inbox.reject("acme", Selection("spam", source="t", until_us=times[1])) == 1
    assert await office.inbox.reject("acme", Selection("spam", source="t", until_us=times[1])) == 0
    assert (await office.inbox.promote("acme", Selection("spam", source="t", until_us=times[1]))) == Promoted(
        0, 0, 0, {}
    )
    assert (
        await office.inbox.promote("acme", Selection("spam", source="s", from_us=times[1], until_us=times[3]))
    ).count == 2
    assert set(await office.examples()) == {"from s 1", "from s 2"}
    assert (await office.inbox.promote("acme", Selection("spam", from_us=times[3]))).count == 2
    assert set(await office.examples()) == {"from s 1", "from s 2", "from s 3", "from t 3"}


async def test_a_selection_says_something(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither nothing, nor ids and a source; ids are known ones of the task, and there are not too many."""
    feedback = await office.submit("k")
    await office.submit("l", "another")
    unknown = feedback_id("acme", "unknown")
    for selection, error in (
        (Selection("spam"), InvalidField),
        (Selection("spam", [feedback.id], source="s"), InvalidField),
        (Selection("spam", ["no id"]), InvalidField),
        (Selection("spam", [feedback.id, unknown]), FeedbackNotFound),
        (Selection("abuse", [feedback.id]), FeedbackNotFound),
        (Selection("nope", [feedback.id]), TaskNotFound),
    ):
        for use in (office.inbox.promote, office.inbox.reject, office.inbox.preview):
            with pytest.raises(error):
                await use("acme", selection)
    with pytest.raises(FeedbackNotFound):
        await office.inbox.get("acme", unknown)
    monkeypatch.setattr(module, "MAX_SELECTED", 1)
    for selection in (Selection("spam", source="s"), Selection("spam", [feedback.id, unknown])):
        with pytest.raises(LimitReached):
            await office.inbox.promote("acme", selection)
    assert await office.state(feedback) is FeedbackState.PENDING


async def test_what_can_no_longer_be_an_example_is_refused(office: Office) -> None:
    """A label that the task has lost, and what was rejected, are told one by one; the rest is promoted."""
    task = await office.desk.tasks.get("acme", "spam")
    task = await office.desk.tasks.update("acme", replace(task, labels=(*task.labels, Label("maybe"))))
    lost, closed, good = (
        await office.submit("1", "one", "maybe"),
        await office.submit("2", "two"),
        await office.submit("3", "three"),
    )
    await office.inbox.reject("acme", Selection("spam", [closed.id]))
    await office.desk.tasks.update("acme", replace(task, labels=task.labels[:2]))
    seen = await office.inbox.preview("acme", Selection("spam", [lost.id, closed.id, good.id]))
    done = await office.promote(lost, closed, good)
    assert (seen.count, seen.new_count, seen.relabeled_count) == (done.count, done.new_count, done.relabeled_count)
    assert (done.count, done.new_count) == (1, 1)
    for refused in (seen.refused, done.refused):
        assert {id_: type(error) for id_, error in refused.items()} == {
            lost.id: UnknownLabel,
            closed.id: FeedbackNotPending,
        }
    assert await office.state(lost) is FeedbackState.PENDING


async def test_revoking_drops_and_undoes(office: Office) -> None:
    """What a source said is dropped where it waits and undone where it counts; the rest is untouched."""
    await office.desk.curator.create("acme", [Draft("spam", "known", ("spam",), 2.0, "seed")])
    before = await office.examples()
    office.desk.clock.advance(1)
    new, changed, waiting = (
        await office.submit("1", "new"),
        await office.submit("2", "known"),
        await office.submit("3", "waits"),
    )
    other = await office.submit("4", "others", source="t")
    await office.promote(new, changed, other)
    assert await office.inbox.revoke("acme", "s") == Revoked(1, 2, 1, 1, 0)
    after = await office.examples()
    assert after.pop("others").source == "t"
    assert after == before
    assert {await office.state(one) for one in (new, changed, waiting)} == {FeedbackState.REVOKED}
    assert await office.state(other) is FeedbackState.PROMOTED
    assert await office.inbox.revoke("acme", "s") == Revoked()
    assert office.counted[-1] == ("acme", "spam", "revoked", 3)


async def test_revoking_by_time_and_task(office: Office) -> None:
    """Only what was submitted in the time is taken back, and only in the task that is named."""
    sent = []
    for i in range(3):
        sent.append(await office.submit(str(i), f"text {i}"))
        office.desk.clock.advance(1)
    await office.promote(*sent)
    elsewhere = (await office.inbox.submit("acme", Correction("a", "abuse", ("none",), "s", "hello"))).feedback
    first, last = sent[1].created_us, sent[2].created_us
    assert await office.inbox.revoke("acme", "s", from_us=first, until_us=last) == Revoked(0, 1, 1, 0, 0)
    assert set(await office.examples()) == {"text 0", "text 2"}
    assert await office.inbox.revoke("acme", "s", task="abuse") == Revoked(1, 0, 0, 0, 0)
    assert await office.state(elsewhere) is FeedbackState.REVOKED
    for source, task, error in (("", "", InvalidField), ("s", "nope", TaskNotFound)):
        with pytest.raises(error):
            await office.inbox.revoke("acme", source, task=task)


async def test_revoking_leaves_what_others_have_done_since(office: Office) -> None:
    """An example that somebody relabelled or deleted since stays so, one with its correction; another's stands."""
    sent = [await office.submit(str(i), f"text {i}") for i in range(3)]
    await office.promote(*sent)
    await office.desk.add("text 0", "spam")
    await office.desk.curator.delete("acme", "spam", example_id("acme", "spam", "text 1"))
    await office.promote(await office.submit("t", "text 2", "spam", source="t"))
    assert await office.inbox.revoke("acme", "s") == Revoked(0, 2, 0, 0, 2)
    assert {text: one.labels for text, one in (await office.examples()).items()} == {
        "text 0": ("spam",),
        "text 2": ("spam",),
    }
    assert await office.inbox.revoke("acme", "t") == Revoked(0, 1, 1, 0, 0)
    assert set(await office.examples()) == {"text 0"}


async def test_a_former_label_that_is_gone_is_not_restored(office: Office) -> None:
    """An example whose former label the task no longer has is deleted."""
    task = await office.desk.tasks.get("acme", "spam")
    task = await office.desk.tasks.update("acme", replace(task, labels=(*task.labels, Label("maybe"))))
    await office.desk.add("win money", "maybe")
    await office.promote(await office.submit("k"))
    await office.desk.tasks.update("acme", replace(task, labels=task.labels[:2]))
    assert await office.inbox.revoke("acme", "s") == Revoked(0, 1, 1, 0, 0)
    assert await office.examples() == {}


async def test_a_task_takes_its_feedback_with_it(office: Office) -> None:
    """Feedback of a task that is deleted is not that of another one of its name."""
    feedback = await office.submit("k")
    task = await office.desk.tasks.get("acme", "spam")
    await office.desk.tasks.delete("acme", "spam", force=True)
    await office.desk.tasks.create("acme", task)
    with pytest.raises(FeedbackNotFound):
        await office.inbox.get("acme", feedback.id)


async def test_lists_by_page(office: Office) -> None:
    """Lists are narrowed and paged; what can't be right is refused."""
    sent = [await office.submit(str(i), f"text {i}", source="st"[i % 2]) for i in range(5)]
    ids = sorted(one.id for one in sent)
    page = await office.inbox.list_page("acme", page_size=3)
    assert [one.id for one in page.feedback] == ids[:3]
    page = await office.inbox.list_page("acme", page_size=3, from_id=page.next_id)
    assert ([one.id for one in page.feedback], page.next_id) == (ids[3:], None)
    await office.inbox.reject("acme", Selection("spam", [sent[0].id]))
    narrow = await office.inbox.list_page("acme", task="spam", state=FeedbackState.PENDING, source="s")
    assert {one.key for one in narrow.feedback} == {"2", "4"}
    assert (await office.inbox.list_page("acme", task="abuse")).feedback == []
    assert (await office.inbox.list_page("other")).feedback == []
    for given, error in (
        ({"page_size": 1001}, InvalidField),
        ({"from_id": "x"}, InvalidPageToken),
        ({"task": "nope"}, TaskNotFound),
    ):
        with pytest.raises(error):
            await office.inbox.list_page("acme", **given)


async def test_a_promotion_that_was_cut_short(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short before or after the example is changed, a promotion can be made again, and undone."""
    await office.desk.curator.create("acme", [Draft("spam", "win money", ("spam",), 2.0, "seed")])
    before = await office.examples()
    feedback = await office.submit("k")
    real = office.desk.curator.import_chunk

    after = False

    async def cut(tenant: str, drafts: Sequence[Draft], **rest: Any) -> ImportedChunk:
        if after:
            await real(tenant, drafts, **rest)
        raise StoreUnavailable("cut short")

    monkeypatch.setattr(office.desk.curator, "import_chunk", cut)
    for after in (False, True):  # noqa: B007 - `cut` looks at it
        with pytest.raises(StoreUnavailable):
            await office.promote(feedback)
        assert await office.state(feedback) is FeedbackState.PENDING
    assert (await office.examples())["win money"].labels == ("ham",)
    monkeypatch.setattr(office.desk.curator, "import_chunk", real)
    assert (await office.promote(feedback)).count == 1
    assert await office.inbox.revoke("acme", "s") == Revoked(0, 1, 0, 1, 0)
    assert await office.examples() == before


async def test_without_a_rule_nothing_is_promoted(office: Office) -> None:
    """However many sources agree, by default somebody has to promote."""
    for source in "abcdef":
        await office.submit(source, source=source)
    assert await office.examples() == {}


async def test_the_rule_promotes_what_enough_sources_say(open_office: OpenOffice) -> None:
    """The correction by which enough sources agree is promoted with the others; a source counts once."""
    office = await open_office(promote_after=3)
    await office.submit("1", source="a")
    await office.submit("2", source="a")
    await office.submit("3", source="b")
    assert await office.examples() == {}
    office.desk.clock.advance(1)
    last = await office.submit("4", source="c")
    assert last.state is FeedbackState.PROMOTED
    assert (await office.examples())["win money"].labels == ("ham",)
    states = [one.state for one in (await office.inbox.list_page("acme")).feedback]
    assert states == [FeedbackState.PROMOTED] * 4
    assert office.counted[-1] == ("acme", "spam", "promoted", 4)
    await office.inbox.revoke("acme", "c")
    assert (await office.examples())["win money"].labels == ("ham",), "two others say so still"
    await office.inbox.revoke("acme", "b")
    await office.inbox.revoke("acme", "a")
    assert await office.examples() == {}


async def test_the_rule_asks_for_more_than_say_otherwise(open_office: OpenOffice) -> None:
    """As many as say otherwise are not enough; a source's last word counts, and rejected ones do not."""
    office = await open_office(promote_after=2)
    await office.submit("1", "win money", "spam", source="a")
    await office.submit("2", "win money", "spam", source="b")
    assert (await office.examples())["win money"].labels == ("spam",)
    await office.submit("3", source="c")
    await office.submit("4", source="d")
    assert (await office.examples())["win money"].labels == ("spam",)
    office.desk.clock.advance(1)
    await office.submit("5", source="a")
    assert (await office.examples())["win money"].labels == ("ham",)
    rejected = await office.submit("6", "free cruise", source="a")
    await office.inbox.reject("acme", Selection("spam", [rejected.id]))
    await office.submit("7", "free cruise", source="b")
    assert "free cruise" not in await office.examples()


async def test_a_promotion_by_rule_that_fails_is_made_up_for(
    open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction is taken when what the rule says can't be done; that is counted, and the next sweep does it."""
    office = await open_office(promote_after=2)
    await office.submit("1", source="a")

    async def away(*_: object, **__: object) -> ImportedChunk:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(office.desk.curator, "import_chunk", away)
        assert (await office.submit("2", source="b")).state is FeedbackState.PENDING
        assert office.counted[-1] == ("acme", "spam", "deferred", 1)
        assert await office.inbox.sweep() == 0
        assert office.counted[-1] == ("acme", "spam", "deferred", 1)
    assert await office.examples() == {}
    assert await office.inbox.sweep() == 2
    assert (await office.examples())["win money"].labels == ("ham",)
    assert office.counted[-1] == ("acme", "spam", "promoted", 2)
    assert {one.state async for one in office.store.each("acme")} == {FeedbackState.PROMOTED}
    assert (await office.inbox.sweep(), await office.store.due()) == (0, [])


async def test_what_the_rule_says_no_more_is_not_made_up_for(
    open_office: OpenOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be promoted is judged again by what has been said since."""
    office = await open_office(promote_after=2)

    async def away(*_: object, **__: object) -> ImportedChunk:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(office.desk.curator, "import_chunk", away)
        for source in ("a", "b"):
            await office.submit(source, source=source)
    for source in ("c", "d"):
        await office.submit(source, "win money", "spam", source=source)
    assert await office.inbox.sweep() == 0
    assert (await office.examples(), await office.store.due()) == ({}, [])


async def test_what_is_closed_goes_in_the_end(open_office: OpenOffice) -> None:
    """Rejected and revoked corrections are deleted some days after; what is pending or promoted stays, however old."""
    office = await open_office(keep_days=2)
    every = {key: await office.submit(key, f"text {key}", source=key) for key in ("a", "b", "c", "d")}
    await office.promote(every["b"])
    office.desk.clock.advance(DAY)
    await office.inbox.reject("acme", Selection("spam", [every["c"].id]))
    await office.inbox.revoke("acme", "d")
    office.desk.clock.advance(2 * DAY)
    await office.inbox.sweep()
    assert await _keys(office) == {"a", "b", "c", "d"}
    office.desk.clock.advance(1)
    await office.inbox.sweep()
    assert await _keys(office) == {"a", "b"}
    assert (await office.submit("c", "another text")).state is FeedbackState.PENDING, "its key is free again"


async def test_a_preview_says_what_promotion_does(office: Office) -> None:
    """Counts of a preview are those of the promotion, flips are what comes about, and nothing is changed by looking."""
    for i in range(6):
        await office.desk.add(f"win a prize now {i}", "spam")
        await office.desk.add(f"lunch with the team {i}", "ham")
    bad = [await office.submit(f"r{i}", f"win a prize now {i}", source="bad") for i in range(5)]
    bad += [await office.submit(f"n{i}", f"win the prize now {i}", source="bad") for i in range(20)]
    before, selection = await office.examples(), Selection("spam", source="bad")
    seen = await office.inbox.preview("acme", selection)
    assert await office.examples() == before
    assert {await office.state(one) for one in bad} == {FeedbackState.PENDING}
    assert (seen.count, seen.new_count, seen.relabeled_count, seen.refused) == (25, 20, 5, {})
    preview = seen.preview
    assert (preview.judged_count, preview.agreeing_before_count, preview.agreeing_after_count) == (12, 12, 6)
    assert (preview.flip_count, len(preview.flips)) == (6, 6)
    assert {(flip.labels, flip.before, flip.after) for flip in preview.flips} == {(("spam",), ("spam",), ("ham",))}
    done = await office.inbox.promote("acme", selection)
    assert (done.count, done.new_count, done.relabeled_count) == (25, 20, 5)
    assert (await office.inbox.preview("acme", selection)).preview.flip_count == 0


ANN, BOB = Caller(name="ann", address="ipv4:192.0.2.7:1234"), Caller(name="bob")


async def test_who_promotes_and_revokes_is_recorded(office: Office) -> None:
    """A promotion and its undoing are in the record of changes once, by who asked, with examples before and after."""
    (saved,) = await office.desk.curator.create("acme", [Draft("spam", "win money", ("spam",), 2.0, "mail")])
    changed, new = await office.submit("1"), await office.submit("2", "hello you")
    at = office.desk.clock.now_us()
    await office.inbox.promote("acme", Selection("spam", [changed.id, new.id]), by=ANN)
    await office.inbox.promote("acme", Selection("spam", [changed.id, new.id]), by=BOB)  # nothing is left to do
    office.desk.clock.advance(1)
    await office.inbox.revoke("acme", "s", by=BOB)
    before = ExampleState(("spam",), 2.0, "mail")
    relabelled, added = ExampleState(("ham",), 2.0, "s"), ExampleState(("ham",), 1.0, "s")
    found = (await office.desk.audit.page("acme", EventQuery(start_us=at, task="spam"), 10)).events
    promoted, gone, restored = [one for one in found if one.actor in ("ann", "bob")]
    assert (promoted.actor, promoted.address, promoted.change.action) == ("ann", ANN.address, Action.EXAMPLES_PROMOTED)
    assert set(promoted.change.examples) == {
        ExampleChange(saved.example.id, before, relabelled),
        ExampleChange(new.example_id, None, added),
    }
    assert (gone.actor, gone.change.action) == ("bob", Action.EXAMPLES_DELETED)
    assert gone.change.examples == (ExampleChange(new.example_id, added, None),)
    assert (restored.actor, restored.change.action) == ("bob", Action.EXAMPLES_CHANGED)
    assert restored.change.examples == (ExampleChange(saved.example.id, relabelled, before),)
    assert "hello" not in str(found)
    assert office.forgotten == [("acme", "hello you")]


async def test_a_promotion_by_rule_is_recorded(open_office: OpenOffice) -> None:
    """What a rule promotes is recorded as of whose correction was the last that it took."""
    office = await open_office(promote_after=2)
    await office.inbox.submit("acme", Correction("1", "spam", ("ham",), "a", "win money"), by=BOB)
    await office.inbox.submit("acme", Correction("2", "spam", ("ham",), "b", "win money"), by=ANN)
    found = (await office.desk.audit.page("acme", EventQuery(actor="ann"), 10)).events
    assert [one.change.action for one in found] == [Action.EXAMPLES_PROMOTED]
    assert not (await office.desk.audit.page("acme", EventQuery(actor="bob"), 10)).events


async def _stop(_tenant: str, _task: str) -> None:
    """No fit is under way."""


def _eraser(office: Office) -> Eraser:
    desk = office.desk
    return Eraser(
        desk.store, desk.tasks, desk.audit, _stop, lambda _texts, _tenant: None, desk.clock.now_us, office.inbox.erase
    )


async def _keys(office: Office, tenant: str = "acme") -> set[str]:
    return {one.key async for one in office.store.each(tenant)}


async def test_what_a_source_submitted_goes_with_its_examples(office: Office) -> None:
    """Deleting a source's examples deletes its feedback in whatever state, of one task where it is named."""
    for key in ("pending", "promoted", "rejected"):
        await office.submit(key, f"text {key}", source="leaver")
    await office.inbox.submit("acme", Correction("other task", "abuse", ("hate",), "leaver", "a text"))
    await office.submit("about", "text promoted", source="stayer")
    await office.submit("stays", "another text", source="stayer")
    await office.inbox.promote("acme", Selection("spam", [feedback_id("acme", "promoted")]))
    await office.inbox.reject("acme", Selection("spam", [feedback_id("acme", "rejected")]))
    chosen = ExampleSelection("spam", source="leaver")
    assert await _eraser(office).delete_selected("acme", chosen, ANN) == Erased(1, ())
    assert await _keys(office) == {"other task", "stays"}
    await _eraser(office).delete_selected("acme", ExampleSelection(source="leaver"), ANN)
    assert await _keys(office) == {"stays"}


async def test_what_is_about_a_subject_goes_with_its_examples(office: Office) -> None:
    """Deleting a subject's examples deletes the feedback that has their texts, and no other; so does their end."""
    ends = office.desk.clock.now_us() + 10
    await office.desk.curator.create(
        "acme",
        [
            Draft("spam", "hers", ("ham",), subject="person-1"),
            Draft("spam", "ending", ("ham",), expires_us=ends),
            Draft("spam", "his", ("ham",), subject="person-2"),
        ],
    )
    for text in ("hers", "ending", "his", "nobody's"):
        await office.submit(text, text, "spam")
    await _eraser(office).delete_selected("acme", ExampleSelection(source="s", subject="person-2"), ANN)
    assert await _keys(office) == {"hers", "ending", "his", "nobody's"}, "his example is not from that source"
    await _eraser(office).delete_selected("acme", ExampleSelection(subject="person-1"), ANN)
    assert await _keys(office) == {"ending", "his", "nobody's"}
    office.desk.clock.advance(1)
    assert await _eraser(office).sweep() == 1
    assert await _keys(office) == {"his", "nobody's"}


async def test_what_is_about_an_example_goes_with_it(office: Office) -> None:
    """Deleting an example deletes the feedback that has its text, in whatever state; where there is none, nothing."""
    for key in ("pending", "rejected", "promoted"):
        await office.submit(key, "hers", "spam", source=key)
    await office.submit("stays", "his", "spam")
    await office.inbox.reject("acme", Selection("spam", [feedback_id("acme", "rejected")]))
    example = example_id("acme", "spam", "hers")
    with pytest.raises(ExampleNotFound):
        await office.desk.curator.delete("acme", "spam", example)
    assert await _keys(office) == {"pending", "rejected", "promoted", "stays"}, "it is no example yet"
    await office.inbox.promote("acme", Selection("spam", [feedback_id("acme", "promoted")]))
    await office.desk.curator.delete("acme", "spam", example)
    assert await _keys(office) == {"stays"}
    assert await office.examples() == {}


async def test_an_erasure_cut_short_finds_the_feedback_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the examples could not be deleted, the same call deletes feedback that has come since, and them."""
    await office.desk.curator.create("acme", [Draft("spam", "hers", ("ham",), subject="person-1")])
    await office.submit("first", "hers", "spam")

    async def away(*_: object) -> None:
        raise StoreUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(office.desk.store, "delete_selected", away)
        with pytest.raises(StoreUnavailable):
            await _eraser(office).delete_selected("acme", ExampleSelection(subject="person-1"), ANN)
    await office.submit("second", "hers", "spam")
    await _eraser(office).delete_selected("acme", ExampleSelection(subject="person-1"), ANN)
    assert await _keys(office) == set()
    assert await office.examples() == {}
