"""Examples and documents as points of Qdrant: one layout, whichever engine keeps it.

A collection holds the examples of one vector space, a point for each window of an example: the first window's id is
the example's own, so that an example is read by id; the others' are derived from it. A second collection, without
vectors, holds documents: tasks, versions, and which collection of examples is the active one.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nearvote.clock import system_us
from nearvote.errors import StoreUnavailable
from nearvote.examples.engine import AnyOf, Engine, Found, Match, NotUpTo, Payload, Point, UpTo, Vector
from nearvote.examples.example import Example, point_id
from nearvote.examples.nearest import is_live, nearest_examples
from nearvote.examples.payload import annotations_of, example_of, match_of, sparse_of, window_of
from nearvote.examples.readable import readable
from nearvote.examples.store import EmbeddedExample, Page, SearchQuery, Selection, StoredWindow, Vectors
from nearvote.text.surface import fingerprint
from nearvote.voting.ballot import ClassSizes
from nearvote.voting.metric import Slot
from nearvote.voting.neighbor import Neighbor, View

STATE_COLLECTION = "nearvote_state"
_DOCUMENT_NAMESPACE = uuid.UUID("0b1a3f86-5a5e-4a55-8d0e-1f6a3c1a9c02")

_TRIED = ("health", "", "written")  # kind, tenant and name of a document that nobody reads
_MAX_FACETS = 10_000
_SCROLL_PAGE = 1_000
_POINTS_A_WRITE = 64
_VECTORS_PAGE = 256
# By them a writer knows its writing again after others have followed. So many would have to between its write and its
# look at it for one that was made to be taken for one that was not.
_FORMER_REVISIONS = 16

Revision = tuple[str, ...]


class QdrantStore:
    """An ExampleStore and a DocumentStore in Qdrant. `spaces.open_store` makes one.

    Args:
        engine: Edge or a server.
        collection: The examples' collection.
        state: The documents' collection.
        now_us: The time, in microseconds since 1970-01-01 UTC, by which examples end.
    """

    def __init__(
        self,
        engine: Engine,
        collection: str,
        state: str = STATE_COLLECTION,
        now_us: Callable[[], int] = system_us,
    ) -> None:
        self._engine = engine
        self._collection = collection
        self._state = state
        self._now_us = now_us

    @property
    def kind(self) -> str:
        """`edge` or `server`."""
        return self._engine.kind

    @property
    def collections(self) -> dict[str, str]:
        """Names of the collections of `examples` and of `state`, the documents."""
        return {"examples": self._collection, "state": self._state}

    async def search(self, queries: Sequence[SearchQuery], *, with_text: bool = False) -> list[list[Neighbor]]:
        """The examples nearest to each query, nearest first, each example once."""
        results = await nearest_examples(self._engine, self._collection, queries, self._now_us())
        return await self._with_texts(results) if with_text else results

    async def get(self, tenant: str, task: str, ids: Sequence[str]) -> dict[str, Example]:
        """The examples of these ids, by id."""
        if not ids:
            return {}
        found = await self._engine.retrieve(self._collection, list(dict.fromkeys(ids)), None)
        now = self._now_us()
        examples = (
            example_of(point) for point in found if point.payload.get("window") == 0 and is_live(point.payload, now)
        )
        return {example.id: example for example in examples if (example.tenant, example.task) == (tenant, task)}

    async def same(self, tenant: str, ids: Sequence[str], *, with_text: bool = False) -> dict[str, Neighbor]:
        """The examples of these ids, of whatever task, by id, as neighbours of a message of the same text."""
        if not ids:
            return {}
        fields = ("tenant", "window", "labels", "weight", "source", "expires_us", *(("text",) if with_text else ()))
        points = await self._engine.retrieve(self._collection, list(dict.fromkeys(ids)), fields)
        now = self._now_us()
        with readable():
            return {
                point.id: Neighbor(
                    point.id,
                    tuple(point.payload["labels"]),
                    1.0,
                    point.payload["weight"],
                    source=point.payload["source"],
                    text=point.payload.get("text", ""),
                )
                for point in points
                if (point.payload["tenant"], point.payload["window"]) == (tenant, 0) and is_live(point.payload, now)
            }

    async def list_page(
        self, tenant: str, task: str, *, label: str = "", source: str = "", limit: int = 100, from_id: str | None = None
    ) -> Page:
        """Up to `limit` examples in the order of their ids."""
        match: Match = {
            **self._live(tenant, task),
            "window": 0,
            **({"labels": label} if label else {}),
            **({"source": source} if source else {}),
        }
        found, next_id = await self._engine.scroll(self._collection, match, limit, from_id)
        return Page([example_of(point) for point in found], next_id)

    async def class_sizes(self, tenant: str, task: str) -> ClassSizes:
        """How many examples the task has, and how many of them have each label."""
        match: Match = {**self._live(tenant, task), "window": 0}
        return ClassSizes(
            await self._engine.count(self._collection, match),
            await self._engine.facet(self._collection, "labels", match, _MAX_FACETS),
        )

    async def next_end(self, tenant: str, task: str) -> int | None:
        """When the next of the task's examples ends; None when none will."""
        return await self._engine.least(self._collection, "expires_us", self._live(tenant, task))

    async def put(self, examples: Sequence[EmbeddedExample]) -> None:
        """Adds examples, replacing those of the same id, which have as many windows as before."""
        points: list[Point] = []
        for embedded in examples:
            example = embedded.example
            print_of_text = fingerprint(embedded.surface)
            # The first window last: by its point an example is known, so one that was cut short is written anew.
            for window, vector in reversed(list(enumerate(embedded.vectors.tolist()))):
                payload = {
                    "tenant": example.tenant,
                    "task": example.task,
                    "example_id": example.id,
                    "window": window,
                    "fingerprint": print_of_text,
                    **annotations_of(example),
                }
                vectors: dict[str, Vector] = {View.MEANING.value: vector}
                vectors |= {slot.value: rows[window].tolist() for slot, rows in embedded.projected.items()}
                if window == 0:  # the text, and the view that looks at all of it, stand with the first window
                    payload["text"] = example.text
                    vectors[View.SURFACE.value] = sparse_of(embedded.surface)
                points.append(Point(point_id(example.id, window), payload, vectors))
            if len(points) >= _POINTS_A_WRITE:  # only between examples: one write is made whole or not at all
                await self._engine.upsert(self._collection, points)
                points = []
        await self._engine.upsert(self._collection, points)

    async def project(self, slot: Slot, vectors: Mapping[str, Vectors]) -> None:
        """Sets the vectors of stored windows in a learned metric."""
        ids = list(vectors)
        for start in range(0, len(ids), _POINTS_A_WRITE):
            part = {id_: {slot.value: vectors[id_].tolist()} for id_ in ids[start : start + _POINTS_A_WRITE]}
            while part:
                try:
                    await self._engine.set_vectors(self._collection, part)
                    break
                except StoreUnavailable:
                    there = {found.id for found in await self._engine.retrieve(self._collection, list(part), ())}
                    if len(there) == len(part):
                        raise
                    # What has been deleted meanwhile has made it fail.
                    part = {id_: named for id_, named in part.items() if id_ in there}

    async def windows(self, tenant: str, task: str) -> AsyncIterator[list[StoredWindow]]:
        """All windows of a task's examples, page by page."""
        from_id = None
        while True:
            found, from_id = await self._engine.scroll(
                self._collection,
                self._live(tenant, task),
                _VECTORS_PAGE,
                from_id,
                (View.MEANING.value, View.SURFACE.value),
            )
            yield [window_of(point) for point in found]
            if from_id is None:
                return

    async def annotate(self, examples: Sequence[Example]) -> None:
        """Replaces labels, weight, source and times of stored examples."""
        for example in examples:
            match: Match = {"tenant": example.tenant, "task": example.task, "example_id": example.id}
            await self._engine.set_payload(self._collection, match, annotations_of(example))

    async def delete(self, tenant: str, task: str, example_id: str) -> bool:
        """Deletes an example with all its windows."""
        match: Match = {"tenant": tenant, "task": task, "example_id": example_id}
        there = await self._engine.count(self._collection, match) > 0
        if there:
            await self._engine.delete(self._collection, match)
        return there

    async def select(self, tenant: str, selection: Selection) -> AsyncIterator[list[Example]]:
        """The examples of a selection, page by page, those that have ended as well."""
        match, from_id = {**match_of(tenant, selection), "window": 0}, None
        while True:
            found, from_id = await self._engine.scroll(self._collection, match, _SCROLL_PAGE, from_id)
            yield [example_of(point) for point in found]
            if from_id is None:
                return

    async def delete_selected(self, tenant: str, selection: Selection, ids: Sequence[str]) -> None:
        """Deletes those examples of a selection that have these ids, with all their windows."""
        await self._engine.delete(self._collection, {**match_of(tenant, selection), "example_id": AnyOf(ids)})

    async def ended(self, now_us: int) -> dict[str, int]:
        """The tenants who have examples that have ended by then, with how many windows these have."""
        return await self._engine.facet(self._collection, "tenant", {"expires_us": UpTo(now_us)}, _MAX_FACETS)

    async def delete_task(self, tenant: str, task: str) -> int:
        """Deletes all examples of a task."""
        count = await self._engine.count(self._collection, {**self._live(tenant, task), "window": 0})
        await self._engine.delete(self._collection, {"tenant": tenant, "task": task})
        return count

    async def every_example(self, tenant: str = "", task: str = "") -> AsyncIterator[list[Example]]:
        """All examples of all tenants and tasks, or of a task, page by page, in the order of their ids."""
        match: Match = {"window": 0, **({"tenant": tenant, "task": task} if task else {})}
        from_id = None
        while True:
            found, from_id = await self._engine.scroll(self._collection, match, _SCROLL_PAGE, from_id)
            yield [example_of(point) for point in found]
            if from_id is None:
                return

    async def counts_by_tenant(self) -> dict[str, int]:
        """How many examples each tenant has who has any."""
        return await self._engine.facet(self._collection, "tenant", {"window": 0}, _MAX_FACETS)

    async def example_count(self) -> int:
        """How many examples there are, of all tenants and tasks."""
        return await self._engine.count(self._collection, {"window": 0})

    async def documents(self, kind: str, tenant: str) -> dict[str, dict[str, Any]]:
        """All documents of a kind, by name."""
        documents: dict[str, dict[str, Any]] = {}
        from_id = None
        while True:
            found, from_id = await self._engine.scroll(
                self._state, {"kind": kind, "tenant": tenant}, _SCROLL_PAGE, from_id
            )
            with readable():
                documents |= {_name_of(point): point.payload["body"] for point in found}
            if from_id is None:
                return documents

    async def every_document(self, kind: str) -> list[tuple[str, str, dict[str, Any]]]:
        """All documents of a kind: tenant, name and body of each."""
        documents: list[tuple[str, str, dict[str, Any]]] = []
        from_id = None
        while True:
            found, from_id = await self._engine.scroll(self._state, {"kind": kind}, _SCROLL_PAGE, from_id)
            with readable():
                documents += [(point.payload["tenant"], _name_of(point), point.payload["body"]) for point in found]
            if from_id is None:
                return documents

    async def document(self, kind: str, tenant: str, name: str) -> dict[str, Any] | None:
        """One document; None when there is none."""
        found = await self._engine.retrieve(self._state, [document_id(kind, tenant, name)], None)
        with readable():
            return found[0].payload["body"] if found else None

    async def put_document(self, kind: str, tenant: str, name: str, body: Mapping[str, Any]) -> None:
        """Adds or replaces a document."""
        await self._engine.upsert(self._state, [_document(kind, tenant, name, body, ())])

    async def read_document(self, kind: str, tenant: str, name: str) -> tuple[dict[str, Any], Revision] | None:
        """One document and its revision; None when there is none."""
        found = await self._engine.retrieve(self._state, [document_id(kind, tenant, name)], None)
        with readable():
            return (found[0].payload["body"], _revision(found[0].payload)) if found else None

    async def put_document_if(
        self, kind: str, tenant: str, name: str, body: Mapping[str, Any], revision: Revision | None
    ) -> bool:
        """Replaces a document of this revision, or adds one where there is none and `revision` is None.

        Returns:
            Whether it did; else the document is another one, or has gone.
        """
        point = _document(kind, tenant, name, body, revision or ())
        match: Match | None = None if revision is None else {"revision": revision[0] if revision else None}
        await self._engine.put_if(self._state, point, match)
        read = await self.read_document(kind, tenant, name)
        # Who has replaced it in the meantime names it among those before.
        return read is not None and point.payload["revision"] in read[1]

    async def delete_document(self, kind: str, tenant: str, name: str) -> None:
        """Deletes a document, if there is one."""
        # Not by id: a filter on all three fields is what the engine's interface has, and there is one such point.
        await self._engine.delete(self._state, {"kind": kind, "tenant": tenant, "name": name})

    async def ping(self) -> None:
        """Returns when the store answers, for each of its two collections."""
        for collection in (self._state, self._collection):
            await self._engine.retrieve(collection, [document_id(*_TRIED)], ())

    async def try_writing(self) -> None:
        """Returns when the store takes a write, of a document that nobody reads."""
        await self.put_document(*_TRIED, {})

    async def close(self) -> None:
        """Lets go of what the store holds."""
        await self._engine.close()

    def _live(self, tenant: str, task: str) -> Match:
        """What matches the windows of a task's examples that have not ended."""
        return {"tenant": tenant, "task": task, "expires_us": NotUpTo(self._now_us())}

    async def _with_texts(self, results: list[list[Neighbor]]) -> list[list[Neighbor]]:
        # The text stands with an example's first window, whichever window was found.
        ids = list(dict.fromkeys(neighbor.example_id for neighbors in results for neighbor in neighbors))
        if not ids:
            return results
        points = await self._engine.retrieve(self._collection, ids, ("text",))
        texts = {point.id: point.payload.get("text", "") for point in points}
        return [
            [replace(neighbor, text=texts.get(neighbor.example_id, "")) for neighbor in neighbors]
            for neighbors in results
        ]


def _name_of(point: Found) -> str:
    """The name of a document, which its id confirms: one that arrived wrong would be another's, and its own missing.

    Raises:
        ValueError: It is another document than its id says.
    """
    kind, tenant, name = (str(point.payload[field]) for field in ("kind", "tenant", "name"))
    if point.id != document_id(kind, tenant, name):
        raise ValueError(f"a document of {kind} is not the one that its id says")
    return name


def _document(kind: str, tenant: str, name: str, body: Mapping[str, Any], before: Revision) -> Point:
    payload: Payload = {"kind": kind, "tenant": tenant, "name": name, "body": dict(body), "revision": uuid.uuid4().hex}
    if before:
        payload["former_revisions"] = list(before[:_FORMER_REVISIONS])
    return Point(document_id(kind, tenant, name), payload)


def _revision(payload: Payload) -> Revision:
    # A document that an earlier version has written has none.
    return (payload["revision"], *payload.get("former_revisions", ())) if "revision" in payload else ()


def document_id(kind: str, tenant: str, name: str) -> str:
    """The id of a document's point."""
    return str(uuid.uuid5(_DOCUMENT_NAMESPACE, f"{kind}\n{tenant}\n{name}"))
