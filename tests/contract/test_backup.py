"""Backup and restore, from either kind of store to either."""

import io
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearvote.audit.event import Action, Change, Event
from nearvote.audit.log import EventQuery
from nearvote.backup import back_up, restore, verify, write_backup
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.errors import CannotBackUp, InvalidBackup, StoreNotEmpty
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.engine import Engine, Schema, Sparse
from nearvote.examples.example import Example, example_id
from nearvote.examples.places import stored_places
from nearvote.examples.qdrant_store import STATE_COLLECTION, QdrantStore
from nearvote.examples.spaces import AUDIT_COLLECTION, is_space_document, open_store, stored_space, vector_names
from nearvote.examples.store import EmbeddedExample, SearchQuery
from nearvote.feedback.store import open_feedback
from nearvote.text.surface import surface_vector
from nearvote.voting.metric import Slot
from tests.conftest import space_of
from tests.contract.reindexed import NEW_SPACE, Shop, embedded_again
from tests.contract.test_feedback_store import feedback

ENCODER = HashingEncoder()
SPACE = space_of(ENCODER)
TEXTS = [f"text {i} " + "several windows long " * (60 if i % 20 == 0 else 0) for i in range(150)]

Stored = dict[str, tuple[Any, dict[str, Any]]]


async def fill(engine: Engine, texts: list[str]) -> QdrantStore:
    """Examples of two tenants, some long, some in a metric; documents; and a correction for each text."""
    store = await open_store(engine, SPACE)
    corrections = await open_feedback(engine)
    await corrections.put(
        [replace(feedback(text, tenant), text=text) for tenant in ("acme", "other") for text in texts]
    )
    batcher = Batcher(ENCODER)
    windows = (await Embedder(ENCODER, batcher).embed(texts)).windows
    await batcher.close()
    for tenant, slots in (("acme", (Slot.A,)), ("other", (Slot.A, Slot.B))):
        await store.put(
            [
                EmbeddedExample(
                    Example(example_id(tenant, "spam", text), tenant, "spam", text, ("é", "spam"), 0.1, "m", 1, 2**53),
                    vectors,
                    surface_vector(text),
                    {slot: vectors[:, ::-1].copy() for slot in slots},
                )
                for text, vectors in zip(texts, windows, strict=True)
            ]
        )
        for i in range(9):
            await store.put_document("fit", tenant, f"spam/{i}", {"data": "0" * i, "nothing": None, "half": 0.5})
    return store


async def all_of(engine: Engine) -> tuple[Stored, ...]:
    """All active examples' points, all documents' but the one that names what is active, and all corrections'."""
    places = await stored_places(engine)
    assert places is not None
    found: list[Stored] = []
    collections = {"examples": places.examples, "state": places.state, "feedback": places.feedback}
    for name, collection in collections.items():
        points, following = await engine.scroll(collection, {}, 100_000, None, vector_names(name, SPACE))
        assert following is None
        found.append({p.id: (p.payload, dict(p.vectors)) for p in points if not is_space_document(p)})
    return tuple(found)


async def active(engine: Engine) -> set[str]:
    """The collections that are to be there, and no others."""
    places = await stored_places(engine)
    assert places is not None
    return {STATE_COLLECTION, places.examples, places.state, places.feedback}


def assert_same(one: tuple[Stored, ...], other: tuple[Stored, ...]) -> None:
    """Checks that payloads are equal, and vectors within rounding: an engine brings a vector to length 1 anew."""
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for id_, (payload, vectors) in mine.items():
            assert payload == theirs[id_][0]
            assert vectors.keys() == theirs[id_][1].keys()
            for name, vector in vectors.items():
                twin = theirs[id_][1][name]
                if isinstance(vector, Sparse):
                    assert dict(zip(vector.indices, vector.values, strict=True)) == dict(
                        zip(twin.indices, twin.values, strict=True)
                    )
                else:
                    np.testing.assert_allclose(vector, twin, rtol=0, atol=1e-6)


async def backup_of(engine: Engine) -> io.BytesIO:
    """A backup, in memory."""
    return io.BytesIO(b"".join([part async for part in back_up(engine)]))


class CutShortError(Exception):
    """Stands for a kill in the middle."""


class Cut:
    """An engine that ends at its n-th write."""

    def __init__(self, inner: Engine, writes: int) -> None:
        self._inner = inner
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        if name in {"upsert", "create_collection", "drop_collection", "delete"}:
            self._writes -= 1
            if self._writes < 0:
                raise CutShortError
        return getattr(self._inner, name)


async def test_everything_comes_back_from_either_kind_of_store(engines: tuple[Engine, Engine]) -> None:
    """Edge to a file to the other kind, and back: the same points, vectors and documents, found by the same search."""
    edge, other = engines
    store = await fill(edge, TEXTS)
    before = await all_of(edge)
    contents = await restore(other, await backup_of(edge))
    counts = (contents.point_count, contents.document_count, contents.feedback_count)
    assert counts == tuple(map(len, before)) == (2 * 150 + 2 * 24, 18, 2 * 150)
    assert_same(await all_of(other), before)
    assert await stored_space(other) == SPACE
    back = await backup_of(other)
    assert_same(await all_of(other), before)  # reading changes nothing
    await restore(edge, back, replace=True)
    assert_same(await all_of(edge), before)
    query = SearchQuery("acme", "spam", np.asarray(next(iter(before[0].values()))[1]["meaning"], np.float32), 5)
    found = [await (await open_store(engine, SPACE)).search([query]) for engine in (edge, other)]
    assert [n.example_id for n in found[0][0]] == [n.example_id for n in found[1][0]]
    assert store.collections != (await open_store(edge, SPACE)).collections


async def test_the_record_of_changes_is_added_to(engines: tuple[Engine, Engine]) -> None:
    """A backup has all changes on record; a restore puts them beside those of the store, and itself after them."""
    edge, other = engines
    change = Change(Action.TASK_UPDATED, "spam", changed_fields=("policy.k",))
    events = [Event(str(uuid.UUID(int=10 * i)), "acme", 10 * i, "ann", "", change) for i in range(301)]
    await fill(edge, TEXTS[:5])
    await (await open_audit_store(edge)).append(events[:300])
    audit = await open_audit_store(other)
    await audit.append(events[300:])
    contents = await restore(other, await backup_of(edge))
    assert contents.event_count == 300
    *added, restored = (await audit.page("acme", EventQuery(), 1000, None)).events
    assert added == events
    assert (restored.actor, restored.change) == ("(restore)", Change(Action.STORE_RESTORED, "", example_count=5))
    (restored,) = (await audit.page("other", EventQuery(), 1000, None)).events
    assert restored.change.example_count == 5

    await (await open_store(other, SPACE)).put_document("task", "third", "spam", {})
    await restore(other, await backup_of(edge), replace=True)
    (restored,) = (await audit.page("third", EventQuery(), 1000, None)).events
    assert restored.change.example_count == 0, "who loses all is told of it too"


async def test_what_is_stored_is_kept_without_being_told_to_replace_it(engine: Engine) -> None:
    """A store with examples, or with documents alone, refuses; told to replace, it has what the backup has."""
    await fill(engine, TEXTS[:30])
    backup = await backup_of(engine)
    store = await fill(engine, TEXTS[100:])
    before = await all_of(engine)
    with pytest.raises(StoreNotEmpty, match="--replace"):
        await restore(engine, io.BytesIO(backup.getvalue()))
    assert_same(await all_of(engine), before)
    for tenant in ("acme", "other"):
        await store.delete_task(tenant, "spam")
    with pytest.raises(StoreNotEmpty):
        await restore(engine, io.BytesIO(backup.getvalue()))
    backup.seek(0)
    await restore(engine, backup, replace=True)
    after = await open_store(engine, SPACE)
    assert await after.example_count() == 60
    assert await engine.collections() == await active(engine) | {AUDIT_COLLECTION}
    documents, _ = await engine.scroll(STATE_COLLECTION, {}, 100, None)
    assert len(documents) == 1  # what names the others


async def test_cut_short_the_store_has_all_of_the_old_or_all_of_the_new(engine: Engine) -> None:
    """A restore that ends at any write leaves what was there, or what came; run again, it leaves nothing else."""
    await fill(engine, TEXTS[:40])
    backup = await backup_of(engine)
    new = await all_of(engine)
    store = await fill(engine, TEXTS[100:110])
    await store.put_document("task", "acme", "late", {})
    old = await all_of(engine)
    switched = False
    for writes in range(100):
        backup.seek(0)
        try:
            await restore(Cut(engine, writes), backup, replace=True)
        except CutShortError:
            now = await all_of(engine)
            switched = switched or len(now[2]) == len(new[2])
            assert_same(now, new if switched else old)
            continue
        break
    else:
        raise AssertionError("it never came to its end")
    assert switched
    assert_same(await all_of(engine), new)
    assert await engine.collections() == await active(engine) | {AUDIT_COLLECTION}


async def test_a_restored_store_takes_writes_and_other_encoders(engine: Engine) -> None:
    """What is written after a restore is there, is backed up, and outlives a change of the encoder."""
    await fill(engine, TEXTS[:5])
    await restore(engine, await backup_of(engine), replace=True)
    store = await fill(engine, TEXTS[:8])
    await store.put_document("seeds", "acme", "new", {"x": 1})
    assert verify(await backup_of(engine)).document_count == 19
    await embedded_again(engine)
    reindexer = await Shop(engine).reindexer()
    await reindexer.drop_former()
    again = await open_store(engine, NEW_SPACE)
    assert await again.document("seeds", "acme", "new") == {"x": 1}
    assert len([one async for one in (await open_feedback(engine)).each("acme")]) == 8
    assert await again.example_count() == 16
    assert await engine.collections() - {AUDIT_COLLECTION} == await active(engine)


async def test_nothing_and_the_unknown_are_not_backed_up(engine: Engine) -> None:
    """An empty store, and one with collections that this version knows nothing of, are refused."""
    with pytest.raises(CannotBackUp, match="nothing"):
        await backup_of(engine)
    await fill(engine, TEXTS[:5])
    await engine.create_collection("nearvote_later", Schema({}, tenant="tenant", keywords=()))
    with pytest.raises(CannotBackUp, match="nearvote_later"):
        await backup_of(engine)


async def test_a_write_meanwhile_is_noticed(engine: Engine) -> None:
    """A document that is written while a backup is made ends it: example and document might not fit one another."""
    store = await fill(engine, TEXTS)
    parts = back_up(engine)
    await anext(parts)
    await anext(parts)
    await store.put_document("fit", "acme", "spam/1", {"data": "other"})
    with pytest.raises(CannotBackUp, match="meanwhile"):
        async for _ in parts:
            pass


async def test_a_file_appears_whole_or_not_at_all(engine: Engine, tmp_path: Path) -> None:
    """A backup that fails leaves the former file, and nothing beside it; one that ends is for its owner alone."""
    await fill(engine, TEXTS[:5])
    file = tmp_path / "backup"
    file.write_text("former")

    async def failing() -> AsyncIterator[bytes]:
        async for part in back_up(engine):
            yield part
            raise CutShortError

    with pytest.raises(CutShortError):
        await write_backup(file, failing())
    assert os.listdir(tmp_path) == ["backup"]  # noqa: PTH208 - paths wait for the disk, the linter says
    assert file.read_text() == "former"
    contents = await write_backup(file, back_up(engine))
    assert contents.document_count == 18
    assert (file.stat().st_mode & 0o777, os.listdir(tmp_path)) == (0o600, ["backup"])  # noqa: PTH208


async def test_a_file_that_changes_between_its_two_readings_restores_nothing(engine: Engine) -> None:
    """What was verified is verified again as it is written; the store keeps what it had."""
    await fill(engine, TEXTS)
    before = await all_of(engine)
    backup = await backup_of(engine)

    class Changing(io.BytesIO):
        def seek(self, *arguments: int) -> int:
            self.getbuffer()[-200] ^= 1
            return super().seek(*arguments)

    with pytest.raises(InvalidBackup):
        await restore(engine, Changing(backup.getvalue()), replace=True)
    assert_same(await all_of(engine), before)


class Noted:
    """An engine that notes what is written, flushed and dropped, in order."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.done: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        own = getattr(self._inner, name)
        if name not in {"upsert", "put_if", "flush", "drop_collection"}:
            return own

        def noted(collection: str, *arguments: Any) -> Any:
            self.done.append((name, collection))
            return own(collection, *arguments)

        return noted


async def test_what_is_new_is_on_the_disk_before_the_old_goes(engine: Engine) -> None:
    """New collections are written out before they are named, and their names before anything is dropped."""
    await fill(engine, TEXTS[:5])
    backup = await backup_of(engine)
    noted = Noted(engine)
    await restore(noted, backup, replace=True)
    places = await stored_places(engine)
    assert places is not None
    done = noted.done
    named = next(i for i, (what, where) in enumerate(done) if what != "flush" and where == STATE_COLLECTION)
    for name in (places.examples, places.state, places.feedback):
        assert ("flush", name) in done[:named]
        assert all(where != name for what, where in done[named:] if what == "upsert")
    dropped = next(i for i, (what, _) in enumerate(done) if what == "drop_collection" and i > named)
    assert ("flush", STATE_COLLECTION) in done[named:dropped]
