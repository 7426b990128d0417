"""One suite for every store."""

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearvote.errors import StoreUnavailable
from nearvote.examples.engine import Engine, Match, NearestQuery, NotUpTo, Point, Schema, Sparse, UpTo
from nearvote.examples.example import Example, example_id, point_id
from nearvote.examples.qdrant_store import QdrantStore, document_id
from nearvote.examples.spaces import create_space
from nearvote.examples.store import EmbeddedExample, SearchQuery, StoredWindow, Vectors
from nearvote.text.surface import SparseVector, fingerprint, surface_vector
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import Slot
from nearvote.voting.neighbor import Neighbor, View
from tests.contract.conftest import SPACE, Chance


def at(*degrees: float) -> Vectors:
    """A vector of length 1 for each angle, all in one plane: their cosine is that of the angle between them."""
    return np.array([[math.cos(a), math.sin(a), 0, 0] for a in map(math.radians, degrees)], dtype=np.float32)


def example(text: str, *labels: str, tenant: str = "acme", task: str = "spam", source: str = "") -> Example:
    """An example as a store is given it."""
    return Example(example_id(tenant, task, text), tenant, task, text, labels or ("ham",), 1.5, source, 10, 20)


def seen(example: Example, vectors: Vectors, projected: Mapping[Slot, Vectors] | None = None) -> EmbeddedExample:
    """An example with the vectors it is given, and its own n-grams."""
    return EmbeddedExample(example, vectors, surface_vector(example.text), projected or {})


def embedded(text: str, *degrees: float, labels: Sequence[str] = ("ham",), task: str = "spam") -> EmbeddedExample:
    """An example with a window at each of the angles."""
    return seen(example(text, *labels, task=task), at(*degrees))


def nearest_to(degrees: float, limit: int = 10, label: str = "") -> SearchQuery:
    """A question for what is nearest to an angle."""
    return SearchQuery("acme", "spam", at(degrees)[0], limit, label)


async def texts_found(store: QdrantStore, query: SearchQuery) -> list[str]:
    """The texts that are found, nearest first."""
    (found,) = await store.search([query], with_text=True)
    return [neighbor.text for neighbor in found]


async def test_what_is_put_is_got(store: QdrantStore) -> None:
    """An example comes back by its id as it was put, and only in its own tenant and task."""
    stored = example("hello", "ham", "spam", source="mail")
    await store.put([seen(stored, at(0, 10))])
    unknown = str(uuid.uuid4())
    assert await store.get("acme", "spam", [stored.id, unknown, stored.id]) == {stored.id: stored}
    assert await store.get("acme", "abuse", [stored.id]) == {}
    assert await store.get("other", "spam", [stored.id]) == {}
    assert await store.get("acme", "spam", [point_id(stored.id, 1)]) == {}, "a later window is no example"


async def test_examples_of_the_same_text(store: QdrantStore) -> None:
    """Examples are found by id in any task, as neighbours of similarity 1; later windows and other tenants' are not."""
    mine = example("hello", "ham", "spam", source="mail")
    elsewhere = example("hello", "mild", task="abuse")
    theirs = example("hello", tenant="other")
    await store.put([seen(mine, at(0, 10)), seen(elsewhere, at(0)), seen(theirs, at(0))])
    ids = [mine.id, elsewhere.id, theirs.id, point_id(mine.id, 1), str(uuid.uuid4()), mine.id]
    found = await store.same("acme", ids)
    assert found == {
        mine.id: Neighbor(mine.id, ("ham", "spam"), 1.0, 1.5, source="mail"),
        elsewhere.id: Neighbor(elsewhere.id, ("mild",), 1.0, 1.5),
    }
    assert [one.text for one in (await store.same("acme", [mine.id], with_text=True)).values()] == ["hello"]
    assert await store.same("acme", []) == {}


async def test_put_replaces(store: QdrantStore) -> None:
    """Of an example put twice the second counts, its vectors too."""
    await store.put([embedded("a", 0, labels=["spam"]), embedded("b", 40)])
    await store.put([embedded("a", 90, labels=["ham"])])
    assert await texts_found(store, nearest_to(0)) == ["b", "a"]
    assert await store.class_sizes("acme", "spam") == ClassSizes(2, {"ham": 2})


async def test_put_of_nothing(store: QdrantStore) -> None:
    """Putting, annotating and searching nothing is nothing."""
    await store.put([])
    await store.annotate([])
    assert await store.search([]) == []
    assert await store.get("acme", "spam", []) == {}
    assert await store.example_count() == 0


async def test_pages_in_order_of_ids(store: QdrantStore) -> None:
    """Pages follow one another in the order of ids; each example is on one, and the last one says so."""
    examples = [example(f"text {i}") for i in range(7)]
    await store.put([seen(e, at(*range(i + 1))) for i, e in enumerate(examples)])
    page = await store.list_page("acme", "spam", limit=3)
    pages = [page.examples]
    while page.next_id and len(pages) < 4:
        page = await store.list_page("acme", "spam", limit=3, from_id=page.next_id)
        pages.append(page.examples)
    expected = sorted(examples, key=lambda e: uuid.UUID(e.id).int)
    assert pages == [expected[:3], expected[3:6], expected[6:]]
    assert (await store.list_page("acme", "spam", limit=2, from_id=expected[4].id)).examples == expected[4:6]


async def test_pages_by_label_and_source(store: QdrantStore) -> None:
    """A list can be narrowed to a label, a source, or both."""
    mailed, texted, bare = example("1", "a", "b", source="mail"), example("2", "a", source="sms"), example("3", "b")
    elsewhere = [example("1", "a", "b", tenant="other"), example("1", "a", "b", task="abuse")]
    await store.put([seen(e, at(0, 1)) for e in (mailed, texted, bare, *elsewhere)])

    async def ids(label: str = "", source: str = "") -> set[str]:
        return {e.id for e in (await store.list_page("acme", "spam", label=label, source=source)).examples}

    assert await ids() == {mailed.id, texted.id, bare.id}
    assert await ids(label="a") == {mailed.id, texted.id}
    assert await ids(source="mail") == {mailed.id}
    assert await ids(label="b", source="mail") == {mailed.id}
    assert await ids(label="b", source="sms") == set()


async def test_search_nearest_first(store: QdrantStore) -> None:
    """A search gives the nearest examples first, with what a vote needs to know."""
    near, far = example("near", "spam", source="mail"), example("far")
    await store.put([seen(far, at(60)), seen(near, at(30)), embedded("farther", 120)])
    ((first, second),) = await store.search([nearest_to(0, limit=2)])
    assert (first.example_id, second.example_id) == (near.id, far.id)
    assert (first.similarity, second.similarity) == pytest.approx((math.cos(math.pi / 6), 0.5), abs=1e-5)
    assert (first.labels, first.example_weight, first.source, first.window) == (("spam",), 1.5, "mail", 0)


async def test_equally_near_by_id(store: QdrantStore) -> None:
    """Equally near examples come in the order of their ids."""
    examples = [example(f"text {i}") for i in range(9)]
    await store.put([seen(e, at(20)) for e in examples])
    (found,) = await store.search([nearest_to(0)])
    assert [neighbor.example_id for neighbor in found] == sorted(e.id for e in examples)


async def test_each_example_once(store: QdrantStore) -> None:
    """An example whose many windows are all nearer than the others' is found once, and the others still are."""
    others = [embedded(f"other {i}", 50 + i) for i in range(4)]
    await store.put([embedded("long", *(i / 10 for i in range(150))), *others])
    assert await texts_found(store, nearest_to(0, limit=3)) == ["long", "other 0", "other 1"]
    assert await texts_found(store, nearest_to(0, limit=9)) == ["long", "other 0", "other 1", "other 2", "other 3"]
    (found,) = await store.search([nearest_to(0, limit=1)])
    assert found[0].similarity == pytest.approx(1.0, abs=1e-5), "the nearest of its windows counts"


@pytest.mark.parametrize("windows", [2, 7, 40])
@pytest.mark.parametrize("limit", [1, 5, 30])
async def test_a_message_of_many_windows(store: QdrantStore, windows: int, limit: int) -> None:
    """The examples nearest to any of a message's windows are found, each at the window that it is nearest to."""
    rng = np.random.default_rng([windows, limit])
    # Half of the examples are long and lie close together, so that they fill the first places of some windows.
    counts = [*rng.integers(1, 4, 20), *rng.integers(10, 30, 5)]
    vectors = [rng.normal(size=(count, 4)) + (3 if count > 4 else 0) for count in counts]
    own = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in vectors]
    examples = [example(f"text {i}") for i in range(len(own))]
    await store.put([seen(e, v) for e, v in zip(examples, own, strict=True)])
    asked = rng.normal(size=(windows, 4)) + 1
    asked = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    (found,) = await store.search([SearchQuery("acme", "spam", asked, limit)])
    similarities = np.stack([(asked @ v.T).max(axis=1) for v in own])
    order = np.argsort(-similarities.max(axis=1))[:limit]
    assert [neighbor.example_id for neighbor in found] == [examples[i].id for i in order]
    assert [neighbor.window for neighbor in found] == [int(similarities[i].argmax()) for i in order]
    assert [neighbor.similarity for neighbor in found] == pytest.approx(similarities.max(axis=1)[order], abs=1e-5)


async def test_search_is_restricted(store: QdrantStore) -> None:
    """A search stays in its tenant and task, and with its label where it has one."""
    spam, ham = example("1", "spam", "odd"), example("2", "ham", "odd")
    elsewhere = [example("1", "spam", tenant="other"), example("1", "spam", task="abuse")]
    await store.put([seen(e, at(0, 5)) for e in (spam, *elsewhere)] + [seen(ham, at(50))])
    found = await store.search([nearest_to(0, label=label) for label in ("", "ham", "odd", "none")])
    both, ham_only = [spam.id, ham.id], [ham.id]
    assert [[neighbor.example_id for neighbor in by] for by in found] == [both, ham_only, both, []]


async def test_many_queries(store: QdrantStore) -> None:
    """Each of many queries has its own answer, in the order asked."""
    await store.put([embedded(str(i), 9 * i) for i in range(20)])
    results = await store.search([nearest_to(9 * i, limit=1 + i % 3) for i in range(20)], with_text=True)
    assert [found[0].text for found in results] == [str(i) for i in range(20)]
    assert [len(found) for found in results] == [1 + i % 3 for i in range(20)]


async def test_texts_when_asked(store: QdrantStore) -> None:
    """Texts come with neighbours only when asked for, also with those found by a later window."""
    await store.put([embedded("long", 0, 90)])
    ((without,),) = await store.search([nearest_to(90)])
    ((with_text,),) = await store.search([nearest_to(90)], with_text=True)
    assert (without.text, with_text.text) == ("", "long")


async def test_annotate(store: QdrantStore) -> None:
    """New labels, weight, source and times reach every window; text and vectors stay."""
    before = example("long", "ham", source="mail")
    await store.put([seen(before, at(0, 90)), embedded("other", 45)])
    after = replace(before, labels=("odd", "spam"), weight=3.0, source="review", updated_us=99, text="not this")
    await store.annotate([after])
    assert await store.get("acme", "spam", [before.id]) == {before.id: replace(after, text="long")}
    for degrees in (0, 90):
        ((found,),) = await store.search([nearest_to(degrees, label="spam")], with_text=True)
        assert (found.labels, found.example_weight, found.source) == (("odd", "spam"), 3.0, "review")
        assert found.text == "long"
        assert found.similarity == pytest.approx(1.0, abs=1e-5)
    assert await store.class_sizes("acme", "spam") == ClassSizes(2, {"ham": 1, "odd": 1, "spam": 1})


async def test_delete(store: QdrantStore) -> None:
    """A deleted example is gone with all its windows; what was not there is said not to have been."""
    long = embedded("long", 0, 45, 90)
    await store.put([long, embedded("other", 10)])
    assert not await store.delete("acme", "abuse", long.example.id)
    assert not await store.delete("other", "spam", long.example.id)
    assert await store.delete("acme", "spam", long.example.id)
    assert not await store.delete("acme", "spam", long.example.id)
    assert await texts_found(store, nearest_to(90)) == ["other"]
    assert await store.example_count() == 1


async def test_delete_task(store: QdrantStore) -> None:
    """Deleting a task's examples counts examples, not windows, and leaves other tasks and tenants alone."""
    kept = [example("1", task="abuse"), example("1", tenant="other")]
    await store.put([seen(e, at(0, 1)) for e in (example("1"), example("2"), *kept)])
    assert await store.delete_task("acme", "spam") == 2
    assert await store.delete_task("acme", "spam") == 0
    assert {e.id async for page in store.every_example() for e in page} == {e.id for e in kept}


async def test_class_sizes(store: QdrantStore) -> None:
    """Class sizes count an example once for each of its labels, however many windows it has."""
    await store.put([embedded("1", *range(9), labels=["a", "b"]), embedded("2", 0, labels=["b"])])
    await store.put([embedded("3", 0, labels=["a"], task="abuse")])
    assert await store.class_sizes("acme", "spam") == ClassSizes(2, {"a": 1, "b": 2})
    assert await store.class_sizes("acme", "unknown") == ClassSizes(0, {})


async def test_documents(store: QdrantStore) -> None:
    """Documents are put, replaced whole, and deleted; those of other kinds and tenants stay as they are."""
    body = {"name": "ä\x00", "list": [1, {"deep": None}], "share": 0.25, "time": 1_763_000_000_000_001}
    await store.put_document("task", "acme", "a", {"gone": True})
    await store.put_document("task", "acme", "a", body)
    await store.put_document("task", "acme", "b", {})
    await store.put_document("version", "acme", "a", {"version": 1})
    await store.put_document("task", "other", "a", {"other": True})
    assert await store.documents("task", "acme") == {"a": body, "b": {}}
    await store.delete_document("task", "acme", "a")
    await store.delete_document("task", "acme", "never there")
    assert await store.documents("task", "acme") == {"b": {}}
    assert await store.documents("version", "acme") == {"a": {"version": 1}}
    assert await store.documents("task", "other") == {"a": {"other": True}}


async def test_a_document_is_what_its_id_says(store: QdrantStore, engine: Engine) -> None:
    """A document whose name or tenant arrived wrong makes the answer unreadable: else it would seem to be gone."""
    await store.put_document("task", "acme", "spam", {})
    for wrong in ({"name": "spbm"}, {"tenant": "acne"}):
        await engine.set_payload("nearvote_state", {"kind": "task"}, {"name": "spam", "tenant": "acme", **wrong})
        with pytest.raises(StoreUnavailable, match="can't be read"):
            await store.every_document("task")
    await engine.set_payload("nearvote_state", {"kind": "task"}, {"name": "spbm", "tenant": "acme"})
    with pytest.raises(StoreUnavailable, match="can't be read"):
        await store.documents("task", "acme")


async def test_a_document_is_replaced_only_as_it_was_read(store: QdrantStore) -> None:
    """A document is added once and replaced only while it is the one that was read; else it stays, and this is said."""
    assert await store.put_document_if("task", "acme", "a", {"n": 1}, None)
    assert not await store.put_document_if("task", "acme", "a", {"n": 2}, None), "there is one already"
    body, first = await store.read_document("task", "acme", "a") or ({}, ())
    assert body == {"n": 1}
    assert await store.put_document_if("task", "acme", "a", {"n": 3}, first)
    assert not await store.put_document_if("task", "acme", "a", {"n": 4}, first), "it is another one by now"
    await store.put_document("task", "acme", "a", {"n": 3})
    assert not await store.put_document_if("task", "acme", "a", {"n": 5}, first), "also one of the same body"
    _, second = await store.read_document("task", "acme", "a") or ({}, ())
    await store.delete_document("task", "acme", "a")
    assert not await store.put_document_if("task", "acme", "a", {"n": 6}, second), "it does not come back"
    assert await store.read_document("task", "acme", "a") is None


async def test_of_many_that_replace_a_document_one_does(store: QdrantStore, engine: Engine) -> None:
    """Of ten that add or replace a document at once one does, and each is told rightly whether it was itself."""
    writers = [QdrantStore(engine, "", store.collections["state"]) for _ in range(10)]
    revision: tuple[str, ...] | None = None
    for _ in range(3):
        wrote = await asyncio.gather(
            *(one.put_document_if("task", "acme", "a", {"n": n}, revision) for n, one in enumerate(writers))
        )
        assert sum(wrote) == 1
        body, revision = await store.read_document("task", "acme", "a") or ({}, ())
        assert body == {"n": wrote.index(True)}


async def test_a_write_that_was_followed_by_another_counts_as_made(store: QdrantStore, engine: Engine) -> None:
    """Who writes a document and finds it replaced since by one who had read it, is told that it was written."""

    class Overtaking:
        """An engine on which another writer follows at once."""

        def __getattr__(self, name: str) -> Any:
            return getattr(engine, name)

        async def put_if(self, collection: str, point: Point, match: Match | None) -> None:
            await engine.put_if(collection, point, match)
            read = await store.read_document("task", "acme", "a")
            assert read is not None
            assert await store.put_document_if("task", "acme", "a", {"n": 2}, read[1])

    overtaken = QdrantStore(Overtaking(), "", store.collections["state"])
    assert await overtaken.put_document_if("task", "acme", "a", {"n": 1}, None)
    assert await store.document("task", "acme", "a") == {"n": 2}


async def test_documents_of_an_earlier_version_have_no_revision(store: QdrantStore, engine: Engine) -> None:
    """A document without a revision is replaced as long as it has none."""
    payload = {"kind": "task", "tenant": "acme", "name": "a", "body": {"n": 1}}
    await engine.upsert(store.collections["state"], [Point(document_id("task", "acme", "a"), payload)])
    assert await store.read_document("task", "acme", "a") == ({"n": 1}, ())
    assert await store.put_document_if("task", "acme", "a", {"n": 2}, ())
    assert not await store.put_document_if("task", "acme", "a", {"n": 3}, ())


async def test_odd_texts(store: QdrantStore, odd_texts: list[str]) -> None:
    """The oddest texts and sources come back as they were, and are found by source."""
    odd = [example(text, source=text[:100]) for text in odd_texts]
    await store.put([seen(e, at(10 * i)) for i, e in enumerate(odd)])
    assert await store.get("acme", "spam", [e.id for e in odd]) == {e.id: e for e in odd}
    for i, e in enumerate(odd):
        assert (await store.list_page("acme", "spam", source=e.source)).examples == [e]
        ((found,),) = await store.search([nearest_to(10 * i, limit=1)], with_text=True)
        assert (found.text, found.source) == (e.text, e.source)


async def test_every_example(store: QdrantStore) -> None:
    """All examples of all tenants and tasks are walked through and counted, also more than a page of them."""
    many = [example(str(i), tenant=f"tenant {i % 3}", task=f"task-{i % 2}") for i in range(1_003)]
    await store.put([seen(e, at(0, 1) if i % 100 == 0 else at(0)) for i, e in enumerate(many)])
    pages = [page async for page in store.every_example()]
    assert sorted(e.id for page in pages for e in page) == sorted(e.id for e in many)
    assert await store.example_count() == 1_003


async def test_similarity_is_a_cosine(stores: tuple[QdrantStore, QdrantStore]) -> None:
    """Similarities lie in [-1, 1], also of equal and of opposite vectors, and are the same in every store."""
    vectors = np.random.default_rng(7).standard_normal((60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    examples = [example(str(i)) for i in range(60)]
    queries = [SearchQuery("acme", "spam", vector, 60) for v in vectors[:20] for vector in (v, -v)]
    answers = []
    for store in stores:
        await store.put([seen(e, row[None]) for e, row in zip(examples, vectors, strict=True)])
        found = await store.search(queries)
        answers.append([{neighbor.example_id: neighbor.similarity for neighbor in by_query} for by_query in found])
    for edge, other in zip(*answers, strict=True):
        assert other == pytest.approx(edge, abs=1e-5)
        assert max(map(abs, edge.values())) == pytest.approx(1.0, abs=1e-5)
        assert all(-1 <= similarity <= 1 for similarity in (*edge.values(), *other.values()))


async def test_engines_agree(engines: tuple[Engine, Engine], chance: Chance) -> None:
    """After any writes, every engine gives the same answers to the same questions."""
    schema = Schema({"meaning": 4}, tenant="tenant", keywords=("labels",), integers=("window",))
    ids = sorted(str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(40))
    for engine in (*engines, *engines):  # creating what is there changes nothing
        await engine.create_collection("c", schema)
        assert "c" in await engine.collections()
    for _ in range(12):
        points = [
            Point(id_, {**chance.payload(), "id": id_}, {"meaning": chance.vector()}) for id_ in chance.sample(ids, 10)
        ]
        changed, deleted = chance.match(), chance.match() if chance.random() < 0.3 else None
        queries = [
            NearestQuery(chance.vector(), "meaning", chance.match(), 5, ("id", "tenant", "new")) for _ in range(3)
        ]
        some, asked, start = chance.sample(ids, 5), chance.match(), chance.choice(ids)
        answers, scores = [], []
        for engine in engines:
            await engine.upsert("c", points)
            await engine.set_payload("c", changed, {"labels": ["c"], "new": 1})
            if deleted:
                await engine.delete("c", deleted)
            await engine.ping()
            found = await engine.nearest("c", queries)
            scores.append([point.score for by_query in found for point in by_query])
            answers.append(
                (
                    [[point.payload for point in by_query] for by_query in found],
                    {point.id: point for point in await engine.retrieve("c", some, None)},
                    {point.id: point for point in await engine.retrieve("c", some, ("labels",))},
                    await engine.scroll("c", asked, 4, None),
                    await engine.scroll("c", {"window": 1}, 3, start),
                    await engine.count("c", asked),
                    await engine.facet("c", "labels", {"tenant": "t"}, 10),
                )
            )
        assert answers[0] == answers[1]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    for engine in (*engines, *engines):
        await engine.drop_collection("c")
        assert "c" not in await engine.collections()


async def test_times(engines: tuple[Engine, Engine]) -> None:
    """Times are found by their order, from either engine."""
    ids = sorted(str(uuid.uuid4()) for _ in range(5))
    points = [Point(id_, {"tenant": "t", "ends": at}) for id_, at in zip(ids[:4], (3, -1, 7, 3), strict=True)]
    for engine in engines:
        await engine.create_collection("timed", Schema({}, tenant="tenant", keywords=(), times=("ends",)))
        await engine.upsert("timed", [*points, Point(ids[4], {"tenant": "t"})])
        assert await engine.least("timed", "ends", {"tenant": "t"}) == -1
        assert await engine.count("timed", {"ends": UpTo(3)}) == 3
        later, _ = await engine.scroll("timed", {"ends": NotUpTo(3)}, 5, None)
        assert [point.id for point in later] == [ids[2], ids[4]]
        await engine.delete("timed", {"ends": UpTo(2)})
        assert await engine.count("timed", {"tenant": "t"}) == 4
        await engine.drop_collection("timed")


async def test_a_tie_at_the_end_does_not_depend_on_the_order(store: QdrantStore) -> None:
    """Which of equally near examples are found is the same in whatever order they were added."""
    names = [f"same {i}" for i in range(30)]
    await store.put([embedded(name, 0) for name in names])
    first = await texts_found(store, nearest_to(0, limit=5))
    await store.delete_task("acme", "spam")
    await store.put([embedded(name, 0) for name in reversed(names)])
    assert await texts_found(store, nearest_to(0, limit=5)) == first


async def test_examples_of_many_windows_leave_room_for_others(store: QdrantStore) -> None:
    """However many windows the nearest examples have, as many examples are found as were asked for."""
    await store.put([embedded("long", *[0.0] * 300), embedded("near", 10), embedded("far", 20)])
    assert await texts_found(store, nearest_to(0, limit=3)) == ["long", "near", "far"]
    assert await texts_found(store, nearest_to(0, limit=2)) == ["long", "near"]


def surface_of(text: str, label: str = "", tenant: str = "acme", task: str = "spam") -> SearchQuery:
    """A question for the texts that look like one."""
    return SearchQuery(tenant, task, surface_vector(text), 10, label, View.SURFACE)


MANY = [
    "win money now",
    "win m0ney now!!",
    "send money to your mother",
    "see you at lunch",
    "lunch at noon, and then a walk",
    "a walk in the park",
    "you have won a prize",
    "prizes, prizes, prizes",
]


async def test_surface_nearest_first(store: QdrantStore) -> None:
    """A search in the surface view gives those that share rare n-grams first, and none that share nothing."""
    await store.put([embedded(text, 10 * i) for i, text in enumerate(MANY)])
    ((first, *others),) = await store.search([surface_of("win money")], with_text=True)
    assert (first.text, first.view) == ("win money now", View.SURFACE)
    assert first.fingerprint == fingerprint(surface_vector("win money now"))
    assert [n.similarity for n in others] == sorted((n.similarity for n in others), reverse=True)
    assert {n.text for n in others} >= {"win m0ney now!!", "send money to your mother"}
    assert "see you at lunch" not in {n.text for n in others}
    assert min(n.similarity for n in others) > 0
    assert await store.search([surface_of("xyzzy")]) == [[]]


async def test_rare_n_grams_weigh_more(store: QdrantStore) -> None:
    """An n-gram that few examples have weighs more than one that many have."""
    await store.put([embedded(f"common {chr(97 + i) * 5}", i) for i in range(20)] + [embedded("rarely zzzzzz", 90)])
    ((first, *_),) = await store.search([surface_of("common rarely")], with_text=True)
    assert first.text == "rarely zzzzzz"


async def test_rarity_is_the_tasks_own(store: QdrantStore) -> None:
    """How rare an n-gram is depends on the examples of the tenant's task alone, also where a label is asked for."""
    await store.put([embedded(text, i, labels=["ham" if i % 2 else "spam"]) for i, text in enumerate(MANY)])
    queries = [surface_of("win money at lunch"), surface_of("win money at lunch", label="spam")]
    before = await store.search(queries)
    assert len(before[1]) < len(before[0])
    by_id = {n.example_id: n.similarity for n in before[0]}
    assert [by_id[n.example_id] for n in before[1]] == pytest.approx([n.similarity for n in before[1]])
    elsewhere = [example(f"win money {i}", tenant="other") for i in range(40)]
    elsewhere += [example(f"see you at lunch {i}", task="abuse") for i in range(40)]
    await store.put([seen(e, at(0)) for e in elsewhere])
    after = await store.search(queries)
    for found, again in zip(before, after, strict=True):
        assert [n.example_id for n in again] == [n.example_id for n in found]
        assert [n.similarity for n in again] == pytest.approx([n.similarity for n in found])


async def test_surface_of_long_examples(store: QdrantStore) -> None:
    """An example of many windows is found once by its whole text's n-grams, and its text comes with it."""
    await store.put([embedded("money " * 50 + "lunch", *range(50)), embedded("lunch now", 0)])
    (found,) = await store.search([surface_of("lunch money")], with_text=True)
    assert [(n.text[:5], n.window) for n in found] == [("money", 0), ("lunch", 0)]


async def test_engines_agree_on_the_surface(stores: tuple[QdrantStore, QdrantStore]) -> None:
    """Every store finds the same by n-grams, as near, however many windows examples have and whatever is elsewhere."""
    own = [embedded(text, *range(1 + i % 3), labels=[("spam", "ham")[i % 2]]) for i, text in enumerate(MANY)]
    elsewhere = [seen(example(text, tenant="other"), at(0)) for text in MANY[:3]] + [
        embedded(text, 0, task="abuse") for text in MANY[3:5]
    ]
    queries = [surface_of(text, label=label) for text in (*MANY, "win a walk", "nothing") for label in ("", "ham")]
    queries += [surface_of("win money", tenant="other"), surface_of("lunch", task="abuse")]
    answers = []
    for store in stores:
        await store.put([*own, *elsewhere])
        found = await store.search(queries)
        answers.append([{n.example_id: n.similarity for n in by_query} for by_query in found])
    assert sum(map(len, answers[0])) > 60
    assert max(max(by_query.values(), default=0.0) for by_query in answers[0]) > 1, "they are no cosines"
    for edge, other in zip(*answers, strict=True):
        assert other == pytest.approx(edge, rel=1e-4)


async def stored_windows(store: QdrantStore, tenant: str = "acme", task: str = "spam") -> list[StoredWindow]:
    """All windows of a task's examples, in the order in which the store gives them."""
    return [window async for page in store.windows(tenant, task) for window in page]


async def test_windows(store: QdrantStore) -> None:
    """All windows of a task come back as they were put: vectors closely, n-grams and annotations exactly."""
    vectors = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    long, short = example("wìn m0ney", "odd", "spam", source="mail"), example("see you", "ham")
    await store.put([seen(long, vectors), seen(short, at(30)), embedded("wìn m0ney", 5, task="abuse")])
    windows = await stored_windows(store)
    assert [w.point_id for w in windows] == sorted(w.point_id for w in windows)
    by_id = {w.point_id: w for w in windows}
    assert set(by_id) == {point_id(long.id, i) for i in range(3)} | {short.id}
    for e, rows in ((long, vectors), (short, at(30))):
        grams = surface_vector(e.text)
        for i, row in enumerate(rows):
            window = by_id[point_id(e.id, i)]
            assert (window.example_id, window.window, window.labels) == (e.id, i, e.labels)
            assert (window.example_weight, window.source, window.fingerprint) == (1.5, e.source, fingerprint(grams))
            assert window.vector == pytest.approx(row, abs=1e-6)
            assert (window.vector.dtype, window.vector.shape) == (np.dtype(np.float32), (4,))
            assert (window.text, window.surface is None) == (("", True) if i else (e.text, False))
        surface = by_id[e.id].surface
        assert surface is not None
        np.testing.assert_array_equal(grams.indices, surface.indices)
        np.testing.assert_array_equal(grams.values, surface.values)
        assert (surface.indices.dtype, surface.values.dtype) == (np.dtype(np.uint32), np.dtype(np.float32))


async def test_n_grams_come_back_in_order(engine: Engine) -> None:
    """Whatever order a store keeps n-grams in, they come back ascending, each with its own value."""
    store = await create_space(engine, SPACE)
    grams = SparseVector(np.array([900, 3, 70], np.uint32), np.array([0.5, 0.25, 0.125], np.float32))
    await store.put([EmbeddedExample(example("a"), at(0), grams)])
    (window,) = await stored_windows(store)
    assert window.surface is not None
    assert (window.surface.indices.tolist(), window.surface.values.tolist()) == ([3, 70, 900], [0.25, 0.125, 0.5])


async def test_more_windows_than_a_page(store: QdrantStore) -> None:
    """More windows than go on a page come on several, each window once; of an unknown task there are none."""
    await store.put([embedded(f"text {i}", *range(1 + i % 2)) for i in range(220)])
    pages = [[w.point_id for w in page] async for page in store.windows("acme", "spam")]
    assert len(pages) > 1
    ids = [id_ for page in pages for id_ in page]
    assert len(set(ids)) == len(ids) == 330
    assert ids == sorted(ids)
    assert await stored_windows(store, task="unknown") == []


def in_slot(degrees: float, slot: Slot | None, limit: int = 10) -> SearchQuery:
    """A question for what is nearest to an angle in a learned metric."""
    return replace(nearest_to(degrees, limit), slot=slot)


async def test_project(store: QdrantStore) -> None:
    """Vectors that are set in a slot are searched there, each window's own; the plain ones and n-grams stay."""
    await store.put([embedded("a", 0, 90), embedded("b", 45), embedded("c", 60)])
    a, b = example("a").id, example("b").id
    before = [(w.point_id, w.vector.tolist(), w.text) for w in await stored_windows(store)]
    plain, surface = await texts_found(store, nearest_to(0)), await store.search([surface_of("a")])
    await store.project(Slot.A, {a: at(10)[0], point_id(a, 1): at(170)[0], b: at(80)[0]})
    await store.project(Slot.B, {a: at(100)[0]})
    await store.project(Slot.A, {})
    assert await texts_found(store, in_slot(80, Slot.A)) == ["b", "a"], "what was not projected is not found"
    assert await texts_found(store, in_slot(170, Slot.A)) == ["a", "b"]
    ((found,),) = await store.search([in_slot(100, Slot.B)])
    assert found.example_id == a
    assert found.similarity == pytest.approx(1.0, abs=1e-5)
    assert (found.labels, found.view) == (("ham",), View.MEANING)
    await store.project(Slot.A, {b: at(0)[0]})
    assert await texts_found(store, in_slot(0, Slot.A)) == ["b", "a"]
    assert [(w.point_id, w.vector.tolist(), w.text) for w in await stored_windows(store)] == before
    assert await texts_found(store, nearest_to(0)) == plain
    assert await store.search([surface_of("a")]) == surface
    assert await store.get("acme", "spam", [a]) == {a: example("a")}


async def test_project_many(store: QdrantStore) -> None:
    """More vectors than are written at once are all set, each its own."""
    examples = [example(str(i)) for i in range(150)]
    await store.put([seen(e, at(0)) for e in examples])
    await store.project(Slot.B, {e.id: at(i)[0] for i, e in enumerate(examples)})
    for i in (0, 63, 64, 128, 149):
        ((found,),) = await store.search([in_slot(i, Slot.B, limit=1)], with_text=True)
        assert found.text == str(i)
        assert found.similarity == pytest.approx(1.0, abs=1e-5)


async def test_put_with_projected(store: QdrantStore) -> None:
    """An example that is put with vectors in a learned metric is found there at once, by each of its windows."""
    await store.put([seen(example("long"), at(0, 90), {Slot.A: at(200, 300)}), embedded("plain", 0)])
    for degrees in (200, 300):
        ((found,),) = await store.search([in_slot(degrees, Slot.A)])
        assert found.example_id == example("long").id
        assert found.similarity == pytest.approx(1.0, abs=1e-5)
    assert await store.search([in_slot(200, Slot.B)]) == [[]]
    assert await texts_found(store, nearest_to(90, limit=1)) == ["long"]


async def test_annotate_leaves_what_was_learned(store: QdrantStore) -> None:
    """New labels reach an example in every view and slot; its vectors there stay."""
    await store.put([seen(example("a"), at(0), {Slot.B: at(50)})])
    await store.annotate([replace(example("a"), labels=("spam",), weight=4.0)])
    for query in (in_slot(50, Slot.B), surface_of("a"), nearest_to(0)):
        ((found,),) = await store.search([replace(query, label="spam")])
        assert (found.labels, found.example_weight) == (("spam",), 4.0)
        assert found.fingerprint == fingerprint(surface_vector("a"))


async def test_put_anew_forgets_what_was_learned(store: QdrantStore) -> None:
    """An example that is put anew without vectors in a metric is not found by those that it had."""
    await store.put([seen(example("a"), at(0), {Slot.A: at(50)})])
    await store.put([seen(example("a"), at(0))])
    assert await store.search([in_slot(50, Slot.A)]) == [[]]


async def test_one_document(store: QdrantStore) -> None:
    """A document is read by kind, tenant and name; where there is none there is none."""
    await store.put_document("fit", "acme", "spam/1", {"version": 1})
    await store.put_document("fit", "acme", "spam/2", {"version": 2})
    assert await store.document("fit", "acme", "spam/1") == {"version": 1}
    for kind, tenant, name in (("task", "acme", "spam/1"), ("fit", "other", "spam/1"), ("fit", "acme", "spam")):
        assert await store.document(kind, tenant, name) is None
    await store.delete_document("fit", "acme", "spam/1")
    assert await store.document("fit", "acme", "spam/1") is None
    assert await store.document("fit", "acme", "spam/2") == {"version": 2}


async def test_a_large_document(store: QdrantStore) -> None:
    """A document as large as a fit's comes back whole."""
    body = {"data": "A" * 3_000_000, "figures": {"a": [0.1, None]}}
    await store.put_document("fit", "acme", "spam/1", body)
    assert await store.document("fit", "acme", "spam/1") == body


async def test_set_vectors(engine: Engine) -> None:
    """Setting a vector leaves a point's other vectors and its payload, and points that are not named, as they are."""
    schema = Schema({"x": 2, "y": 2}, tenant="tenant", keywords=(), sparse=("s",))
    await engine.create_collection("c", schema)
    one, two = (str(uuid.UUID(int=i)) for i in (1, 2))
    payload = {"tenant": "t", "body": {"n": [1]}}
    grams = Sparse([3, 7], [0.5, 0.25])
    await engine.upsert(
        "c", [Point(one, payload, {"x": [1.0, 0.0], "s": grams}), Point(two, payload, {"x": [1.0, 0.0]})]
    )
    await engine.set_vectors("c", {})
    await engine.set_vectors("c", {one: {"y": [0.0, 1.0]}})
    found, _ = await engine.scroll("c", {"tenant": "t"}, 10, None, ("x", "y", "s"))
    assert [(point.id, point.payload) for point in found] == [(one, payload), (two, payload)]
    assert set(found[0].vectors) == {"x", "y", "s"}
    assert (found[0].vectors["x"], found[0].vectors["y"]) == ([1.0, 0.0], [0.0, 1.0])
    sparse = found[0].vectors["s"]
    assert isinstance(sparse, Sparse)
    assert dict(zip(sparse.indices, sparse.values, strict=True)) == {3: 0.5, 7: 0.25}
    assert found[1].vectors == {"x": [1.0, 0.0]}
    await engine.set_vectors("c", {one: {"s": Sparse([9], [1.0]), "x": [0.0, 1.0]}, two: {"s": Sparse([9], [0.5])}})
    found, _ = await engine.scroll("c", {"tenant": "t"}, 10, None, ("s", "x"))
    assert [point.vectors for point in found] == [
        {"s": Sparse([9], [1.0]), "x": [0.0, 1.0]},
        {"s": Sparse([9], [0.5]), "x": [1.0, 0.0]},
    ]


async def test_scroll_gives_the_vectors_asked_for(engine: Engine) -> None:
    """Vectors come with a scroll only when asked for, and those alone."""
    await engine.create_collection("c", Schema({"x": 2, "y": 2}, tenant="tenant", keywords=()))
    await engine.upsert("c", [Point(str(uuid.UUID(int=1)), {"tenant": "t"}, {"x": [1.0, 0.0], "y": [0.0, 1.0]})])
    for asked in ((), ("x",), ("y", "x")):
        ((point,), _) = await engine.scroll("c", {"tenant": "t"}, 10, None, asked)
        assert set(point.vectors) == set(asked)
