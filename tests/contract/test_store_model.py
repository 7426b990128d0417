"""A store beside a plain dictionary: whatever is done to both, both answer the same."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from qdrant_client import AsyncQdrantClient

from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Engine
from nearvote.examples.example import Example, example_id, point_id
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.server_engine import ServerEngine
from nearvote.examples.spaces import open_store
from nearvote.examples.store import EmbeddedExample, SearchQuery, Selection, StoredWindow, Vectors
from nearvote.text.surface import surface_vector
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.neighbor import Neighbor, View
from tests.conftest import FakeClock
from tests.contract.conftest import SPACE
from tests.qdrant.stand_in import StandIn

_T = TypeVar("_T")
OpenEngine = Callable[[Path], Engine]

# Few of each, so that what is done meets what was done before.
_TENANTS, _TASKS, _LABELS, _SOURCES, _SUBJECTS = ("acme", "other"), ("spam", "abuse"), "abc", ("", "mail"), ("", "p")
_TEXTS = ("one", "two", "three", "four")
_KNOWN = [Example(example_id(*key), *key, (), 1.0, "", 0, 0) for key in itertools.product(_TENANTS, _TASKS, _TEXTS)]

_tenants, _tasks, _sources, _subjects = map(st.sampled_from, (_TENANTS, _TASKS, _SOURCES, _SUBJECTS))
_ids = st.sampled_from([one.id for one in _KNOWN])
# Later windows are no examples; an id that nobody has is nobody's.
_some_ids = st.lists(_ids | st.just(point_id(_KNOWN[1].id, 1)) | st.just(str(uuid.UUID(int=7))), max_size=8)
_seconds = st.integers(-1, 4)
_examples = st.builds(
    replace,
    st.sampled_from(_KNOWN),
    labels=st.sets(st.sampled_from(_LABELS), min_size=1).map(lambda labels: tuple(sorted(labels))),
    weight=st.sampled_from([0.5, 1.0, 3.0]),
    source=_sources,
    updated_us=st.integers(1, 9),
    subject=_subjects,
    expires_us=st.none() | _seconds,  # by the clock's present, until `_ending` makes a time of it
)
_batches = st.lists(st.tuples(_examples, st.integers(0, 3)), min_size=1, max_size=8, unique_by=lambda pair: pair[0].id)
_selections = st.builds(Selection, st.just("") | _tasks, _sources, _subjects, st.none() | _seconds)


def directions(place: int, count: int) -> Vectors:
    """Vectors of length 1 near one another, of one place always the same: some examples lie just where others do."""
    chance = np.random.default_rng(place)
    rows = chance.normal(size=SPACE.dimension) + 0.1 * chance.normal(size=(count, SPACE.dimension))
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def in_order(examples: Iterable[Example]) -> list[Example]:
    """As a store lists them."""
    return sorted(examples, key=lambda one: uuid.UUID(one.id).int)


async def joined(pages: AsyncIterator[list[_T]]) -> list[_T]:
    """All that is on the pages."""
    return [one async for page in pages for one in page]


class StoreBesideDictionary(RuleBasedStateMachine):
    """Does the same to a store and to dictionaries of its examples and of their vectors."""

    def __init__(self, open_engine: OpenEngine, folder: Path) -> None:
        super().__init__()
        self._open_engine = open_engine
        self._folder = folder
        self._loop = asyncio.Runner()
        self._clock = FakeClock()
        self._engine: Engine | None = None
        self._examples: dict[str, Example] = {}
        self._vectors: dict[str, Vectors] = {}

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run(work)

    @initialize()
    def open(self) -> None:
        async def opened() -> QdrantStore:
            self._engine = self._open_engine(self._folder)
            return await open_store(self._engine, SPACE, self._clock.now_us)

        self._store = self._run(opened())

    def teardown(self) -> None:
        async def emptied(engine: Engine) -> None:
            for name in await engine.collections():
                await engine.drop_collection(name)
            await engine.close()

        if self._engine is not None:
            self._run(emptied(self._engine))
        self._loop.close()

    def _ending(self, example: Example) -> Example:
        return example if example.expires_us is None else replace(example, expires_us=self._time(example.expires_us))

    def _time(self, seconds: int) -> int:
        return self._clock.now_us() + seconds * 1_000_000

    def _live(self, tenant: str, task: str = "") -> list[Example]:
        now = self._clock.now_us()
        return [
            one
            for one in self._examples.values()
            if one.tenant == tenant and task in ("", one.task) and (one.expires_us is None or one.expires_us > now)
        ]

    def _selected(self, tenant: str, selection: Selection) -> list[Example]:
        return [
            one
            for one in self._examples.values()
            if one.tenant == tenant
            and selection.task in ("", one.task)
            and selection.source in ("", one.source)
            and selection.subject in ("", one.subject)
            and (
                selection.expired_us is None or (one.expires_us is not None and one.expires_us <= selection.expired_us)
            )
        ]

    def _forget(self, examples: Iterable[Example]) -> None:
        for one in examples:
            del self._examples[one.id], self._vectors[one.id]

    @rule(batch=_batches)
    def put(self, batch: list[tuple[Example, int]]) -> None:
        embedded = []
        for drawn, place in batch:
            example = self._ending(drawn)
            vectors = directions(place, 1 + _TEXTS.index(example.text))  # of one text always as many windows
            self._examples[example.id], self._vectors[example.id] = example, vectors
            embedded.append(EmbeddedExample(example, vectors, surface_vector(example.text)))
        self._run(self._store.put(embedded))

    @rule(batch=_batches)
    def annotate(self, batch: list[tuple[Example, int]]) -> None:
        examples = [self._ending(drawn) for drawn, _ in batch]
        self._examples |= {one.id: one for one in examples if one.id in self._examples}
        self._run(self._store.annotate([replace(one, text="stays as it is") for one in examples]))

    @rule(example=st.sampled_from(_KNOWN), astray=st.sampled_from([{}, {}, {"tenant": "nobody"}, {"task": "none"}]))
    def delete(self, example: Example, astray: dict[str, str]) -> None:
        there = [] if astray else [one for one in self._examples.values() if one.id == example.id]
        self._forget(there)
        where = {"tenant": example.tenant, "task": example.task, **astray}
        assert self._run(self._store.delete(**where, example_id=example.id)) == bool(there)

    @rule(tenant=_tenants, selection=_selections, ids=_some_ids)
    def delete_selected(self, tenant: str, selection: Selection, ids: list[str]) -> None:
        selection = self._timed(selection)
        self._forget([one for one in self._selected(tenant, selection) if one.id in ids])
        self._run(self._store.delete_selected(tenant, selection, ids))

    @rule(tenant=_tenants, task=_tasks)
    def delete_task(self, tenant: str, task: str) -> None:
        live = len(self._live(tenant, task))
        self._forget(self._selected(tenant, Selection(task)))
        assert self._run(self._store.delete_task(tenant, task)) == live

    @rule(seconds=st.sampled_from([0.999_999, 1.0, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule()
    def open_again(self) -> None:
        self._run(self._store.close())
        self.open()

    @rule(tenant=_tenants, selection=_selections)
    def select(self, tenant: str, selection: Selection) -> None:
        selection = self._timed(selection)
        assert self._run(joined(self._store.select(tenant, selection))) == in_order(self._selected(tenant, selection))

    @rule(tenant=_tenants, task=_tasks, ids=_some_ids)
    def get(self, tenant: str, task: str, ids: list[str]) -> None:
        expected = {one.id: one for one in self._live(tenant, task) if one.id in ids}
        assert self._run(self._store.get(tenant, task, ids)) == expected

    @rule(tenant=_tenants, ids=_some_ids)
    def same(self, tenant: str, ids: list[str]) -> None:
        assert self._run(self._store.same(tenant, ids, with_text=True)) == {
            one.id: Neighbor(one.id, one.labels, 1.0, one.weight, source=one.source, text=one.text)
            for one in self._live(tenant)
            if one.id in ids
        }

    @rule(tenant=_tenants, task=_tasks, label=st.sampled_from(["", *_LABELS]), source=_sources, limit=st.integers(1, 3))
    def pages(self, tenant: str, task: str, label: str, source: str, limit: int) -> None:
        expected = in_order(
            one for one in self._live(tenant, task) if label in ("", *one.labels) and source in ("", one.source)
        )
        next_id: str | None = None
        for start in range(0, max(len(expected), 1), limit):
            page = self._run(
                self._store.list_page(tenant, task, label=label, source=source, limit=limit, from_id=next_id)
            )
            assert page.examples == expected[start : start + limit]
            next_id = page.next_id
        assert next_id is None

    @rule(
        tenant=_tenants,
        task=_tasks,
        label=st.sampled_from(["", *_LABELS]),
        place=st.integers(4, 9),  # where no example lies: among those just there rounding decides
        windows=st.integers(1, 3),
        limit=st.integers(1, 5),
    )
    def search(self, tenant: str, task: str, label: str, place: int, windows: int, limit: int) -> None:
        asked = directions(place, windows)
        (found,) = self._run(self._store.search([SearchQuery(tenant, task, asked, limit, label)], with_text=True))
        # How near each window of the message is to each window of each example.
        near = {
            one.id: asked.astype(float) @ self._vectors[one.id].T.astype(float)
            for one in self._live(tenant, task)
            if label in ("", *one.labels)
        }
        nearest = sorted(near, key=lambda id_: (-round(near[id_].max(), 5), id_))[:limit]
        assert [one.example_id for one in found] == nearest
        for one in found:
            example, table = self._examples[one.example_id], near[one.example_id]
            assert one.similarity == pytest.approx(table.max(), abs=1e-5)
            assert one.similarity == pytest.approx(table[one.window].max(), abs=1e-5)
            assert (one.labels, one.example_weight, one.source) == (example.labels, example.weight, example.source)
            assert (one.text, one.view, one.updated_us) == (example.text, View.MEANING, example.updated_us)

    @invariant()
    def all_is_as_in_the_dictionary(self) -> None:
        store = self._store
        assert self._run(joined(store.every_example())) == in_order(self._examples.values())
        assert self._run(store.example_count()) == len(self._examples)
        for tenant, task in itertools.product(_TENANTS, _TASKS):
            live = self._live(tenant, task)
            sizes = {label: sum(label in one.labels for one in live) for label in _LABELS}
            expected = ClassSizes(len(live), {label: size for label, size in sizes.items() if size})
            assert self._run(store.class_sizes(tenant, task)) == expected
            ends = [one.expires_us for one in live if one.expires_us is not None]
            assert self._run(store.next_end(tenant, task)) == min(ends, default=None)
            self._same_windows(live, self._run(joined(store.windows(tenant, task))))

    def _same_windows(self, live: list[Example], stored: list[StoredWindow]) -> None:
        expected = {(one.id, window): row for one in live for window, row in enumerate(self._vectors[one.id])}
        assert sorted((one.example_id, one.window) for one in stored) == sorted(expected)
        for one in stored:
            assert one.labels == self._examples[one.example_id].labels
            assert one.vector == pytest.approx(expected[one.example_id, one.window], abs=1e-5)

    @rule(seconds=_seconds)
    def ended(self, seconds: int) -> None:
        by, counts = self._time(seconds), dict.fromkeys(_TENANTS, 0)
        for tenant in _TENANTS:
            for one in self._selected(tenant, Selection(expired_us=by)):
                counts[tenant] += len(self._vectors[one.id])
        assert self._run(self._store.ended(by)) == {tenant: count for tenant, count in counts.items() if count}

    def _timed(self, selection: Selection) -> Selection:
        seconds = selection.expired_us
        return selection if seconds is None else replace(selection, expired_us=self._time(seconds))


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
@pytest.mark.parametrize(("kind", "courses"), [("edge", 20), ("local", 20), ("stand-in", 4)])
def test_a_store_answers_as_a_dictionary_would(kind: str, courses: int, data_folder: Path, stand_in: StandIn) -> None:
    """After any course of writes, ends and openings a store holds, lists and finds what a dictionary would."""
    folders = (data_folder / str(number) for number in itertools.count())
    openers: dict[str, OpenEngine] = {
        "edge": EdgeEngine,
        "local": lambda folder: ServerEngine(AsyncQdrantClient(path=str(folder))),
        "stand-in": lambda _: ServerEngine.connect(
            "http://127.0.0.1", grpc_port=stand_in.port, api_key=None, timeout_seconds=10
        ),
    }

    class Course(StoreBesideDictionary):
        def __init__(self) -> None:
            super().__init__(openers[kind], next(folders))

    run_state_machine_as_test(
        Course, settings=settings(max_examples=courses, stateful_step_count=40, derandomize=True, database=None)
    )
