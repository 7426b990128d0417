"""Adding, importing, finding and deleting examples."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearvote.deadline import set_deadline, within_deadline
from nearvote.embedding.embedder import EmbeddedTexts
from nearvote.errors import (
    ExampleNotFound,
    InvalidExample,
    InvalidField,
    InvalidPageToken,
    KOutOfRange,
    NearvoteError,
    StoreUnavailable,
    TaskNotFound,
    TextTooLong,
    TooManyTexts,
    UnknownLabel,
)
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Match, Point
from nearvote.examples.example import Draft, Example, Saved, example_id
from nearvote.examples.qdrant_store import STATE_COLLECTION
from nearvote.examples.store import SearchQuery
from nearvote.limits import Limits
from nearvote.tasks.fit import Fit
from nearvote.text.clean import clean
from nearvote.text.surface import fingerprint, surface_vector
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.neighbor import View
from nearvote.voting.policy import Policy
from tests.conftest import Desk, OpenDesk

LONG = " ".join(f"word{i}" for i in range(300))


class BreakingEdge(EdgeEngine):
    """Qdrant Edge that fails once: writes only so many points of a collection's next write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.breaks_after: dict[str, int] = {}

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        for prefix in [prefix for prefix in self.breaks_after if collection.startswith(prefix)]:
            await super().upsert(collection, points[: self.breaks_after.pop(prefix)])
            raise StoreUnavailable("cut short")
        await super().upsert(collection, points)

    async def put_if(self, collection: str, point: Point, match: Match | None) -> None:
        if any(
            self.breaks_after.pop(prefix, None) == 0 for prefix in [*self.breaks_after] if collection.startswith(prefix)
        ):
            raise StoreUnavailable("cut short")
        await super().put_if(collection, point, match)


def draft(text: str, *labels: str, task: str = "spam") -> Draft:
    """An example as somebody gives it."""
    return Draft(task, text, labels or ("ham",))


async def all_of(desk: Desk, task: str = "spam") -> list[Example]:
    """A task's examples."""
    return [example async for page in desk.browser.export(desk.tenant, task) for example in page]


async def test_add(desk: Desk) -> None:
    """An added example has an id of its own, its labels sorted, and its time; it can be read back."""
    given = Draft("abuse", "I will find you\x00", ("threat", "hate"), 2.0, "moderator")
    (saved,) = await desk.curator.create("acme", [given])
    id_, now = example_id("acme", "abuse", given.text), desk.clock.now_us()
    stored = Example(id_, "acme", "abuse", given.text, ("hate", "threat"), 2.0, "moderator", now, now)
    assert saved == Saved(stored, created=True)
    assert await desk.browser.get("acme", "abuse", id_) == stored
    assert await desk.browser.get("acme", "abuse", id_.replace("-", "").upper()) == stored
    assert await desk.tasks.examples_version("acme", "abuse") == now
    assert await desk.tasks.examples_version("acme", "spam") == 0


async def test_add_twice(desk: Desk) -> None:
    """Adding an example twice is adding it once: nothing is embedded, nothing written, no version is passed."""
    (first,) = await desk.curator.create("acme", [draft("win money", "spam")])
    assert desk.encoder.encoded_count == 1
    version = await desk.tasks.examples_version("acme", "spam")
    desk.clock.advance(10)
    assert await desk.curator.create("acme", [draft("win money", "spam")]) == [Saved(first.example, created=False)]
    assert desk.encoder.encoded_count == 1
    assert await all_of(desk) == [first.example]
    assert await desk.tasks.examples_version("acme", "spam") == version


async def test_relabel(desk: Desk) -> None:
    """A known text with another label, weight or source is changed: its time of creation and its vectors stay."""
    (first,) = await desk.curator.create("acme", [draft("win money", "spam")])
    ((before,),) = await desk.store.search([await query(desk, "win money")])
    desk.clock.advance(10)
    (second,) = await desk.curator.create("acme", [Draft("spam", "win money", ("ham",), 3.0, "review")])
    expected = replace(
        first.example, labels=("ham",), weight=3.0, source="review", updated_us=first.example.created_us + 10_000_000
    )
    assert second == Saved(expected, created=False)
    assert await all_of(desk) == [expected]
    assert desk.encoder.encoded_count == 2, "one for the example, one for the search"
    ((after,),) = await desk.store.search([await query(desk, "win money")])
    assert (after.similarity, after.labels) == (before.similarity, ("ham",))
    assert await desk.tasks.examples_version("acme", "spam") == desk.clock.now_us()
    assert await desk.tasks.class_sizes("acme", "spam") == ClassSizes(1, {"ham": 1})


async def query(desk: Desk, text: str) -> SearchQuery:
    """A search for what is near a short text."""
    ((vector,),) = (await desk.embedder.embed([text])).windows
    return SearchQuery("acme", "spam", np.asarray(vector), 10)


async def test_same_text_elsewhere(desk: Desk) -> None:
    """The same text in two tasks is two examples, and each task's version is its own."""
    spam, abuse = await desk.curator.create("acme", [draft("a", "spam"), draft("a", "hate", task="abuse")])
    assert spam.example.id != abuse.example.id
    assert [await all_of(desk, task) for task in ("spam", "abuse")] == [[spam.example], [abuse.example]]
    version = await desk.tasks.examples_version("acme", "abuse")
    desk.clock.advance(1)
    await desk.curator.create("acme", [draft("a", "spam"), draft("a", "threat", task="abuse"), draft("a", "spam")])
    assert await desk.tasks.examples_version("acme", "abuse") > version
    assert await desk.tasks.examples_version("acme", "spam") == version


async def test_twice_in_a_batch(desk: Desk) -> None:
    """Of a text given twice in a batch the last one counts, and the answer to both says so."""
    saved = await desk.curator.create("acme", [draft("a", "spam"), draft("b"), draft("a", "ham")])
    assert [(s.example.text, s.example.labels) for s in saved] == [("a", ("ham",)), ("b", ("ham",)), ("a", ("ham",))]
    assert saved[0] == saved[2]
    assert len(await all_of(desk)) == 2
    assert desk.encoder.encoded_count == 2


@pytest.mark.parametrize(
    ("wrong", "error", "field"),
    [
        (draft(" \n"), InvalidExample, "text"),
        (draft("\u0301\u0301"), InvalidExample, "text"),
        (draft("\x00\x07"), InvalidExample, "text"),
        (draft("a" * 65_537), TextTooLong, "text"),
        (draft("a", "spma"), UnknownLabel, "labels[0]"),
        (draft("a", "ham", "spam"), InvalidExample, "labels"),
        (Draft("spam", "a", ()), InvalidExample, "labels"),
        (Draft("spam", "a", ("ham",), 0.0), InvalidExample, "weight"),
        (Draft("spam", "a", ("ham",), float("nan")), InvalidExample, "weight"),
        (Draft("spam", "a", ("ham",), 1.0, "é" * 129), InvalidExample, "source"),
        (draft("a", "none", "hate", task="abuse"), InvalidExample, "labels"),
        (draft("a", task="intent"), TaskNotFound, "task"),
    ],
)
async def test_one_wrong_of_a_batch(desk: Desk, wrong: Draft, error: type[NearvoteError], field: str) -> None:
    """A batch with one example that can't be right stores none and says which; an import stores the others."""
    batch = [draft("first"), wrong, draft("last")]
    with pytest.raises(error) as caught:
        await desk.curator.create("acme", batch)
    assert caught.value.field == f"examples[1].{field}"
    assert await desk.store.example_count() == 0
    assert await desk.tasks.examples_version("acme", "spam") == 0

    chunk = await desk.curator.import_chunk("acme", batch, validate_only=False)
    assert [saved.example.text for saved in chunk.saved] == ["first", "last"]
    ((place, rejection),) = chunk.rejected.items()
    assert (place, type(rejection), rejection.field) == (1, error, field)
    assert {example.text for example in await all_of(desk)} == {"first", "last"}


async def test_name_of_the_list(desk: Desk) -> None:
    """Errors call the list what the caller calls it."""
    with pytest.raises(UnknownLabel) as caught:
        await desk.curator.create("acme", [draft("a", "spma")], field="example")
    assert caught.value.field == "example[0].labels[0]"


async def test_nothing_to_import(desk: Desk) -> None:
    """A chunk of which nothing is right stores nothing and embeds nothing."""
    chunk = await desk.curator.import_chunk("acme", [draft("a", "x"), draft("b", "x")], validate_only=False)
    assert (chunk.saved, sorted(chunk.rejected)) == ([], [0, 1])
    assert desk.encoder.encoded_count == 0


async def test_validate_only(desk: Desk) -> None:
    """A checked import finds the same faults as a real one, and stores and embeds nothing."""
    batch = [draft("a", "spam"), draft("b", "x"), draft("\u0301"), draft("c")]
    checked = await desk.curator.import_chunk("acme", batch, validate_only=True)
    assert [saved.example.text for saved in checked.saved] == ["a", "c"]
    assert sorted(checked.rejected) == [1, 2]
    assert (await desk.store.example_count(), desk.encoder.encoded_count) == (0, 0)
    assert await desk.tasks.examples_version("acme", "spam") == 0
    real = await desk.curator.import_chunk("acme", batch, validate_only=False)
    assert [str(error) for error in real.rejected.values()] == [str(error) for error in checked.rejected.values()]
    assert [saved.example.id for saved in real.saved] == [saved.example.id for saved in checked.saved]


async def test_size_of_a_batch(desk: Desk) -> None:
    """A batch has an example or more, and no more than the service takes."""
    for batch in ([], [draft("a")] * (Limits().max_batch_texts + 1)):
        with pytest.raises(TooManyTexts) as caught:
            await desk.curator.create("acme", batch)
        assert caught.value.field == "examples"
        with pytest.raises(TooManyTexts):
            await desk.curator.import_chunk("acme", batch, validate_only=True)
    assert len(await desk.curator.create("acme", [draft("a")] * Limits().max_batch_texts)) == Limits().max_batch_texts


@pytest.mark.parametrize("written", [0, 1, 3])
async def test_again_after_a_cut(open_desk: OpenDesk, data_folder: Path, written: int) -> None:
    """An example whose writing was cut short is whole when it is added again."""
    engine = BreakingEdge(data_folder / "breaking")
    desk = await open_desk(engine=engine)
    windows = (await desk.embedder.embed([LONG])).windows[0]
    assert len(windows) == 6
    engine.breaks_after["nearvote_examples"] = written
    with pytest.raises(StoreUnavailable):
        await desk.add(LONG, "spam")
    await desk.add(LONG, "spam")
    found = await desk.store.search([SearchQuery("acme", "spam", window, 1) for window in windows])
    assert [round(by_window[0].similarity, 4) for by_window in found] == [1.0] * 6


async def test_version_after_a_cut(open_desk: OpenDesk, data_folder: Path) -> None:
    """A change whose version could not be written is seen, at the latest, when it is made again."""
    engine = BreakingEdge(data_folder / "breaking")
    desk = await open_desk(engine=engine)
    assert await desk.tasks.class_sizes("acme", "spam") == ClassSizes(0, {})
    engine.breaks_after[STATE_COLLECTION] = 0
    with pytest.raises(StoreUnavailable):
        await desk.add("a", "spam")
    await desk.add("a", "spam")
    assert await desk.tasks.class_sizes("acme", "spam") == ClassSizes(1, {"spam": 1})


async def test_delete(desk: Desk) -> None:
    """A deleted example is gone, and the version tells; one that is not there is not found, nor is a later window."""
    id_ = await desk.add(LONG, "spam")
    version = await desk.tasks.examples_version("acme", "spam")
    window = str(uuid.uuid5(uuid.UUID(id_), "1"))
    for unknown in (str(uuid.uuid4()), window):
        with pytest.raises(ExampleNotFound) as caught:
            await desk.curator.delete("acme", "spam", unknown)
        assert caught.value.field == "id"
    assert await desk.tasks.examples_version("acme", "spam") == version
    await desk.curator.delete("acme", "spam", id_)
    assert await desk.tasks.examples_version("acme", "spam") > version
    assert await desk.tasks.class_sizes("acme", "spam") == ClassSizes(0, {})
    for attempt in (desk.browser.get("acme", "spam", id_), desk.curator.delete("acme", "spam", id_)):
        with pytest.raises(ExampleNotFound):
            await attempt


async def test_ids_that_are_none(desk: Desk) -> None:
    """What is no UUID is refused as a field, or as a page token."""
    for attempt in (desk.browser.get("acme", "spam", "1"), desk.curator.delete("acme", "spam", "\x00")):
        with pytest.raises(InvalidField) as caught:
            await attempt
        assert caught.value.field == "id"
    with pytest.raises(InvalidPageToken):
        await desk.browser.list_page("acme", "spam", from_id="1")


async def test_list(desk: Desk) -> None:
    """Lists come in pages of the size asked for, 100 when none is, narrowed to a label where one is given."""
    await desk.curator.create("acme", [draft(f"text {i}", "spam" if i < 3 else "ham") for i in range(105)])
    page = await desk.browser.list_page("acme", "spam")
    assert len(page.examples) == 100
    assert len((await desk.browser.list_page("acme", "spam", from_id=page.next_id)).examples) == 5
    assert len((await desk.browser.list_page("acme", "spam", page_size=7)).examples) == 7
    assert len((await desk.browser.list_page("acme", "spam", label="spam")).examples) == 3
    for size in (-1, 1_001):
        with pytest.raises(InvalidField) as caught:
            await desk.browser.list_page("acme", "spam", page_size=size)
        assert caught.value.field == "page_size"


async def test_search(desk: Desk) -> None:
    """A search gives the nearest examples first, each once however many windows it is near to, as many as asked."""
    near = await desk.add("cheap pills for you", "spam")
    far = await desk.add("cheap holidays", "spam")
    await desk.add(LONG, "ham")
    found = await desk.browser.search("acme", "spam", "cheap pills for you", limit=2)
    assert [each.example.id for each in found] == [near, far]
    assert 1.0 == pytest.approx(found[0].similarity, abs=1e-5) != found[1].similarity
    (longest,) = await desk.browser.search("acme", "spam", LONG + " other" * 200, limit=1)
    assert longest.example.text == LONG
    assert longest.similarity == pytest.approx(1.0, abs=1e-5)
    assert len(await desk.browser.search("acme", "spam", LONG)) == 3
    assert [each.example.text for each in await desk.browser.search("acme", "spam", "cheap", label="ham")] == [LONG]


async def test_search_for_nothing(desk: Desk) -> None:
    """A search needs something to read, of a length and for a number that the service takes, in a task it has."""
    for text, limit, task, error, field in (
        ("\u0301", 0, "spam", InvalidField, "text"),
        ("a" * 65_537, 0, "spam", TextTooLong, "text"),
        ("a", 201, "spam", KOutOfRange, "limit"),
        ("a", -1, "spam", KOutOfRange, "limit"),
        ("a", 0, "intent", TaskNotFound, "task"),
    ):
        with pytest.raises(error) as caught:
            await desk.browser.search("acme", task, text, limit=limit)
        assert caught.value.field == field
    assert await desk.browser.search("acme", "spam", "a") == []


async def test_task_deleted_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example whose task is deleted while it is embedded is refused, and not left behind."""
    embed = desk.embedder.embed

    async def embed_and_delete(texts: Sequence[str]) -> EmbeddedTexts:
        embedded = await embed(texts)
        await desk.tasks.delete("acme", "spam", force=True)
        return embedded

    monkeypatch.setattr(desk.embedder, "embed", embed_and_delete)
    with pytest.raises(TaskNotFound):
        await desk.add("a", "spam")
    assert await desk.store.example_count() == 0


async def test_example_deleted_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that is deleted while it is being relabelled is added anew, not acknowledged and gone."""
    id_ = await desk.add("a", "spam")
    embed = desk.embedder.embed

    async def embed_and_delete(texts: Sequence[str]) -> EmbeddedTexts:
        if texts == ["b"]:  # the first round, in which "a" is known
            await desk.curator.delete("acme", "spam", id_)
        return await embed(texts)

    monkeypatch.setattr(desk.embedder, "embed", embed_and_delete)
    saved = await desk.curator.create("acme", [draft("a", "ham"), draft("b")])
    assert [one.created for one in saved] == [True, True]
    assert (await desk.browser.get("acme", "spam", id_)).labels == ("ham",)
    assert await desk.store.example_count() == 2


def fit_of(metric: LinearMetric | None) -> Fit:
    """A first fit, with this metric."""
    return Fit(
        1,
        metric,
        in_metric=metric is not None,
        prototypes=None,
        policy=Policy(),
        replaced_version=0,
        replaced_policy=Policy(),
    )


async def serve(desk: Desk, fit: Fit, slot: Slot | None) -> None:
    """Lets a fit serve the task `spam`."""
    await desk.tasks.fits.put("acme", "spam", fit)
    async with desk.tasks.changing("acme"):
        task = await desk.tasks.get("acme", "spam")
        await desk.tasks.switch("acme", task, policy=fit.policy, fit_version=fit.version, slot=slot)


@pytest.mark.parametrize("slot", Slot)
async def test_new_examples_are_in_the_metric_that_serves(desk: Desk, slot: Slot) -> None:
    """An example that is added while a fit serves has each window's vector in its metric at once, and in no other."""
    metric = LinearMetric(np.random.default_rng(4).standard_normal((256, 256)).astype(np.float32))
    await serve(desk, fit_of(metric), slot)
    served = await desk.tasks.fits.serving("acme", await desk.tasks.get("acme", "spam"))
    assert served is not None
    assert served.metric is not None
    id_ = await desk.add(LONG, "spam")
    await desk.add(LONG, "hate", task="abuse")
    windows = (await desk.embedder.embed([LONG])).windows[0]
    assert len(windows) > 1
    queries = [SearchQuery("acme", "spam", row, 5, slot=slot) for row in served.metric.project(windows)]
    for found in await desk.store.search(queries):
        assert [n.example_id for n in found] == [id_]
        assert found[0].similarity == pytest.approx(1.0, abs=1e-4)
    assert await desk.store.search([replace(query, slot=slot.other) for query in queries]) == [[]] * len(queries)
    assert await desk.store.search([replace(query, task="abuse") for query in queries]) == [[]] * len(queries)
    plain = await desk.store.search([SearchQuery("acme", "spam", row, 5) for row in windows])
    assert [found[0].similarity for found in plain] == pytest.approx([1.0] * len(windows), abs=1e-4)


@pytest.mark.parametrize("metric", [None, LinearMetric(np.eye(256, dtype=np.float32))])
async def test_without_a_slot_there_is_nothing_to_map(desk: Desk, metric: LinearMetric | None) -> None:
    """An example is mapped only where vectors in the metric are searched."""
    await serve(desk, fit_of(metric), None)
    await desk.add("win money", "spam")
    asked = await query(desk, "win money")
    assert await desk.store.search([replace(asked, slot=slot) for slot in Slot]) == [[], []]
    assert len((await desk.store.search([asked]))[0]) == 1


async def test_each_example_has_its_own_n_grams(desk: Desk) -> None:
    """Of examples that are added together each is found by its own n-grams, unreadable ones among them or not."""
    texts = ["win money", "\u0301", "see you", "FREE <b>pills</b>", "win money"]
    await desk.curator.import_chunk("acme", [draft(text) for text in texts], validate_only=False)
    for text in ("win money", "see you", "FREE <b>pills</b>"):
        grams = surface_vector(clean(text))
        asked = SearchQuery("acme", "spam", grams, 1, view=View.SURFACE)
        ((found,),) = await desk.store.search([asked], with_text=True)
        assert (found.text, found.fingerprint) == (text, fingerprint(grams))


async def test_a_write_is_not_cut_short_by_its_callers_deadline(open_desk: OpenDesk, data_folder: Path) -> None:
    """What is written is written to its end in its own time, when the caller has no time left."""
    allowed: list[float] = []

    class WatchedEngine(EdgeEngine):
        async def upsert(self, collection: str, points: Sequence[Point]) -> None:
            allowed.append(within_deadline(10.0))
            await super().upsert(collection, points)

    desk = await open_desk(engine=WatchedEngine(data_folder / "data"))
    allowed.clear()

    async def call() -> None:
        set_deadline(0.0)
        await desk.add("win money", "spam")

    await asyncio.create_task(call())
    assert allowed
    assert set(allowed) == {10.0}
