"""Which vectors are in force: opening a store, refusing another encoder's, and embedding all examples again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nearvote.audit.event import Event
from nearvote.audit.log import AuditLog, EventQuery
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens, normalized
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.errors import EncoderMismatch
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.engine import Engine
from nearvote.examples.example import Example, example_id
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import open_store, stored_space
from nearvote.examples.store import EmbeddedExample, SearchQuery
from nearvote.reindex import Reindexed, reindex
from nearvote.tasks.document import task_to_document
from nearvote.tasks.fit import Fit
from nearvote.tasks.fits import Fits
from nearvote.tasks.task import Label, Task
from nearvote.text.surface import surface_vector
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.neighbor import View
from nearvote.voting.policy import Policy
from tests.conftest import space_of


class LetterEncoder:
    """Counts the letters a to z; other characters it can't read."""

    window_tokens = 40

    def __init__(self) -> None:
        self.spec = EncoderSpec("letters", "1" * 64, 26, "sum", 40, "f", "letters")

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return [np.array([ord(c) - ord("a") for c in text if "a" <= c <= "z"], dtype=np.int32) for text in texts]

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:  # noqa: ARG002 - of the protocol
        return normalized(np.array([np.bincount(window, minlength=26) for window in windows], dtype=np.float32))


TASK = Task("spam", (Label("spam"), Label("ham")), policy=Policy(k=3), policy_version=2, created_us=1, updated_us=5)


class CutShortError(Exception):
    """Stands for a kill in the middle."""


OLD, NEW = HashingEncoder(), LetterEncoder()
OLD_SPACE, NEW_SPACE = space_of(OLD), space_of(NEW)


def example(text: str, task: str = "spam") -> Example:
    """An example with a past."""
    labels = ("odd", "spam") if "money" in text else ("ham",)
    return Example(example_id("acme", task, text), "acme", task, text, labels, 2.5, "mail", 10, 20)


async def vectors(encoder: Encoder, texts: Sequence[str]) -> list[Matrix]:
    """The texts' windows, embedded."""
    batcher = Batcher(encoder)
    try:
        return (await Embedder(encoder, batcher).embed(texts)).windows
    finally:
        await batcher.close()


async def embedded_again(engine: Engine, encoder: Encoder, cut_short_at: int | None = None) -> Reindexed:
    """Runs a reindex, whole or until so many examples are done."""

    def progress(done: int, total: int) -> None:
        assert last[-1] < done <= total
        last.append(done)
        if done == cut_short_at:
            raise CutShortError

    last = [0]
    batcher = Batcher(encoder)
    try:
        audit = AuditLog(await open_audit_store(engine))
        report = await reindex(engine, Embedder(encoder, batcher), space_of(encoder), progress, audit)
    finally:
        await batcher.close()
    assert last[-1] == report.embedded_count + len(report.unreadable_ids)
    return report


async def recorded(engine: Engine) -> list[Event]:
    """What the record of changes has of a tenant."""
    return (await (await open_audit_store(engine)).page("acme", EventQuery(), 100, None)).events


async def stored(engine: Engine, texts: Sequence[str]) -> dict[str, Example]:
    """Puts examples with the old encoder's vectors; gives them by id."""
    store = await open_store(engine, OLD_SPACE)
    examples = [example(text, task) for i, text in enumerate(texts) for task in ("spam", "abuse")[: 1 + i % 2]]
    by_text = dict(zip(texts, await vectors(OLD, texts), strict=True))
    await store.put([EmbeddedExample(e, by_text[e.text], surface_vector(e.text)) for e in examples])
    await store.put_document("task", "acme", "spam", task_to_document(TASK))
    return {e.id: e for e in examples}


async def nearest(store: QdrantStore, encoder: Encoder, text: str) -> str:
    """The text of the example nearest to a text."""
    ((vector,),) = await vectors(encoder, [text])
    ((found,),) = await store.search([SearchQuery("acme", "spam", vector, 1)], with_text=True)
    return found.text


async def everything(store: QdrantStore) -> dict[str, Example]:
    """All examples, by id."""
    return {e.id: e async for page in store.every_example() for e in page}


async def test_creates_and_reopens(engine: Engine) -> None:
    """A store is created where nothing is stored yet, and opened again with what is in it."""
    assert await stored_space(engine) is None
    examples = await stored(engine, ["money for you", "see you later"])
    assert await stored_space(engine) == OLD_SPACE
    again = await open_store(engine, OLD_SPACE)
    assert await everything(again) == examples
    assert await nearest(again, OLD, "money for me") == "money for you"


async def test_the_key_decides(engine: Engine) -> None:
    """An encoder under another name, whose vectors may be compared, opens the store."""
    examples = await stored(engine, ["money for you"])
    assert await everything(await open_store(engine, replace(OLD_SPACE, model="/models/renamed"))) == examples


async def test_refuses_another_encoder(engine: Engine) -> None:
    """Another encoder's store is refused in words that name both and the command that embeds again; nothing changes."""
    examples = await stored(engine, ["money for you"])
    before = await engine.collections()
    with pytest.raises(EncoderMismatch, match="`nearvote reindex --model letters`") as caught:
        await open_store(engine, NEW_SPACE)
    assert "hashing" in caught.value.message
    assert await engine.collections() == before
    assert await everything(await open_store(engine, OLD_SPACE)) == examples


async def test_reindex(engine: Engine) -> None:
    """Embedding again keeps ids, labels, weights, times and documents, and answers by the new vectors alone."""
    examples = await stored(engine, ["money for you", "zzz qqq " * 30, "see you later"])
    assert await embedded_again(engine, NEW) == Reindexed(len(examples), ())
    store = await open_store(engine, NEW_SPACE)
    assert await everything(store) == examples
    assert await nearest(store, NEW, "uoy rof yenom") == "money for you", "an anagram is the same to this encoder"
    assert (await store.documents("task", "acme")) == {"spam": task_to_document(TASK)}
    assert not any(OLD_SPACE.key in name for name in await engine.collections())
    with pytest.raises(EncoderMismatch):
        await open_store(engine, OLD_SPACE)


async def fitted(engine: Engine) -> dict[str, Task]:
    """Two tasks with fits of the former vectors, of two tenants, and one without; as they were before."""
    await stored(engine, ["money for you", "see you later"])
    store = await open_store(engine, OLD_SPACE)
    fits, before = Fits(store), {"other": replace(TASK, name="other"), "plain": replace(TASK, name="plain")}
    metric = LinearMetric(np.eye(OLD.spec.dimension, dtype=np.float32))
    for version in (1, 2):
        replaced = TASK.policy if version == 1 else Policy(k=11)
        fit = Fit(
            version,
            metric,
            in_metric=True,
            prototypes=None,
            policy=Policy(k=10 + version),
            replaced_version=version - 1,
            replaced_policy=replaced,
            unfitted_policy=TASK.policy,
        )
        for tenant, name in (("acme", "spam"), ("other", "other")):
            await fits.put(tenant, name, fit)
    for tenant, task in (("acme", TASK), ("other", before["other"])):
        fitted = replace(task, fit_version=2, slot=Slot.B, policy=Policy(k=12))
        await store.put_document("task", tenant, task.name, task_to_document(fitted))
    await store.put_document("task", "acme", "plain", task_to_document(before["plain"]))
    return before


async def test_reindex_undoes_fits(engine: Engine) -> None:
    """What was learned of the former vectors goes with them: tasks have the policy from before their first fit."""
    before = await fitted(engine)
    report = await embedded_again(engine, NEW)
    assert report.unfitted_tasks == ("other", "spam")
    (event,) = await recorded(engine)
    assert (event.actor, event.change.task, event.change.fit_versions) == ("(reindex)", "spam", (2, 0))
    new = await open_store(engine, NEW_SPACE)
    unfitted = {name: replace(task, policy_version=3) for name, task in (("spam", TASK), ("other", before["other"]))}
    assert await new.documents("task", "acme") == {
        "spam": task_to_document(unfitted["spam"]),
        "plain": task_to_document(before["plain"]),
    }
    assert await new.documents("task", "other") == {"other": task_to_document(unfitted["other"])}
    assert await new.documents("fit", "acme") == await new.documents("fit", "other") == {}


async def test_reindex_keeps_n_grams(engine: Engine) -> None:
    """Embedding again counts n-grams again: examples are found by what they look like."""
    await stored(engine, ["m0ney for you", "see you later"])
    await embedded_again(engine, NEW)
    query = SearchQuery("acme", "spam", surface_vector("m0ney"), 5, view=View.SURFACE)
    found = await (await open_store(engine, NEW_SPACE)).search([query], with_text=True)
    assert [[neighbor.text for neighbor in by] for by in found] == [["m0ney for you"]]


async def test_reindex_cut_short(engine: Engine) -> None:
    """Cut short in the middle, the old vectors stay in force and take changes; the next run does it whole."""
    examples = await stored(engine, [f"text number {i} of many" for i in range(200)])
    assert len(examples) == 300
    with pytest.raises(CutShortError):
        await embedded_again(engine, NEW, cut_short_at=256)
    old = await open_store(engine, OLD_SPACE)
    assert await everything(old) == examples
    assert await nearest(old, OLD, "text number 17") == "text number 17 of many"
    gone = examples.pop(next(iter(examples)))
    assert await old.delete("acme", gone.task, gone.id)

    assert await embedded_again(engine, NEW) == Reindexed(299, ())
    assert await everything(await open_store(engine, NEW_SPACE)) == examples


async def test_reindex_cut_short_before_the_switch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short when all but the switch is done, tasks and fits are as they were; the next run does it whole."""
    await fitted(engine)
    old = await open_store(engine, OLD_SPACE)
    stood = [await old.every_document(kind) for kind in ("task", "fit")]
    assert [len(found) for found in stood] == [3, 4]

    async def cut(*_: object) -> None:
        raise CutShortError

    with monkeypatch.context() as patched:
        patched.setattr("nearvote.reindex.activate_space", cut)
        with pytest.raises(CutShortError):
            await embedded_again(engine, NEW)
    again = await open_store(engine, OLD_SPACE)
    assert [await again.every_document(kind) for kind in ("task", "fit")] == stood
    assert (await embedded_again(engine, NEW)).unfitted_tasks == ("other", "spam")


async def test_reindex_and_back(engine: Engine) -> None:
    """Embedding again and then again with the first encoder gives the first answers."""
    examples = await stored(engine, ["money for you", "see you later"])
    await embedded_again(engine, NEW)
    assert await embedded_again(engine, OLD) == Reindexed(len(examples), ())
    store = await open_store(engine, OLD_SPACE)
    assert await everything(store) == examples
    assert await nearest(store, OLD, "later") == "see you later"


async def test_reindex_unreadable(engine: Engine) -> None:
    """Examples in which the other encoder reads nothing are reported, and gone."""
    examples = await stored(engine, ["money for you", "$$$ 100 %"])
    lost = {e.id for e in examples.values() if e.text == "$$$ 100 %"}
    report = await embedded_again(engine, NEW)
    assert (report.embedded_count, set(report.unreadable_ids)) == (len(examples) - len(lost), lost)
    assert {own.id for event in await recorded(engine) for own in event.change.examples} == lost
    assert (await everything(await open_store(engine, NEW_SPACE))).keys() == examples.keys() - lost


async def test_reindex_with_the_same_encoder(engine: Engine) -> None:
    """Embedding again with the encoder in force does nothing; with nothing stored it creates the store."""
    assert await embedded_again(engine, OLD) == Reindexed(0, ())
    examples = await stored(engine, ["money for you"])
    assert await embedded_again(engine, OLD) == Reindexed(0, ())
    assert await everything(await open_store(engine, OLD_SPACE)) == examples
