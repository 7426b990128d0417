"""What tests of a change of encoder share: two encoders, and a process that changes from one to the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nearvote.audit.log import AuditLog
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import EmbeddedTexts, Embedder
from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens, normalized
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.engine import Engine
from nearvote.examples.example import Example, example_id
from nearvote.examples.places import Place, Source, stored_places
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import open_store, store_of
from nearvote.examples.store import EmbeddedExample, SearchQuery
from nearvote.reindex.host import Prepared, StoppedService
from nearvote.reindex.reindexer import Reindexer
from nearvote.reindex.status import Phase, Status
from nearvote.startup_errors import ModelNotFound
from nearvote.tasks.document import task_to_document
from nearvote.tasks.stored import StoredTasks
from nearvote.tasks.task import Label, Task
from nearvote.text.surface import surface_vector
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
OLD, NEW = HashingEncoder(), LetterEncoder()
OLD_SPACE, NEW_SPACE = space_of(OLD), space_of(NEW)
ENCODERS: dict[str, Encoder] = {"hashing": OLD, "letters": NEW}


class CutShortError(Exception):
    """Stands for a kill in the middle."""


class CountingEmbedder(Embedder):
    """Counts the texts that it embeds, and may be cut short."""

    def __init__(self, encoder: Encoder, batcher: Batcher, count: "Counted") -> None:
        super().__init__(encoder, batcher)
        self._count = count

    async def embed(self, texts: Sequence[str], scope: str = "") -> EmbeddedTexts:
        if self._count.embedded >= self._count.most:
            raise CutShortError
        self._count.embedded += len(texts)
        return await super().embed(texts, scope)


@dataclass(slots=True)
class Counted:
    """How many texts were embedded, and after how many it ends."""

    embedded: int = 0
    most: int = 1 << 30


@dataclass(slots=True)
class Shop:
    """A process that changes the encoder of a store whose service is stopped."""

    engine: Engine
    counted: Counted = field(default_factory=Counted)
    aside: Counted = field(default_factory=Counted)  # messages, beside the examples

    async def prepare(self, source: Source) -> Prepared:
        if source.model not in ENCODERS:
            raise ModelNotFound("there is no such model")
        encoder = ENCODERS[source.model]
        batcher = Batcher(encoder)
        embedder, aside = (CountingEmbedder(encoder, batcher, count) for count in (self.counted, self.aside))
        return Prepared(source, space_of(encoder), encoder, embedder, aside, batcher.close)

    async def reindexer(self, **more: Any) -> Reindexer:
        audit = AuditLog(await open_audit_store(self.engine))
        return Reindexer(self.engine, StoppedService(self.prepare), audit, **more)


async def ready(reindexer: Reindexer, model: str = "", *, back: bool = False) -> Status:
    """Embeds again, until it may be switched to."""
    await reindexer.start(Source(model), back=back)
    status = await reindexer.finished()
    if status.error:
        raise status.error
    assert status.phase is Phase.READY
    assert status.done == status.total
    return status


async def embedded_again(engine: Engine, model: str = "letters", *, back: bool = False) -> Status:
    """Embeds again and switches."""
    reindexer = await Shop(engine).reindexer()
    try:
        before = await ready(reindexer, model, back=back)
        after = await reindexer.switch()
        assert (after.building, after.former) == (None, before.active)
        return after
    finally:
        await reindexer.close()


async def vectors(encoder: Encoder, texts: Sequence[str]) -> list[Matrix]:
    """The texts' windows, embedded."""
    batcher = Batcher(encoder)
    try:
        return (await Embedder(encoder, batcher).embed(texts)).windows
    finally:
        await batcher.close()


def example(text: str, task: str = "spam") -> Example:
    """An example with a past."""
    labels = ("odd", "spam") if "money" in text else ("ham",)
    return Example(example_id("acme", task, text), "acme", task, text, labels, 2.5, "mail", 10, 20)


async def put(store: QdrantStore, encoder: Encoder, examples: Sequence[Example]) -> None:
    """Adds examples as a service does: the version of their task rises after they are written."""
    by_text = await vectors(encoder, [one.text for one in examples])
    await store.put([EmbeddedExample(e, own, surface_vector(e.text)) for e, own in zip(examples, by_text, strict=True)])
    await touch(store, {one.task for one in examples})


async def touch(store: QdrantStore, tasks: set[str]) -> None:
    """Says that examples of tasks have changed."""
    for task in tasks:
        await StoredTasks(store, lambda: 0).examples_changed("acme", task)


async def stored(engine: Engine, texts: Sequence[str]) -> dict[str, Example]:
    """Puts examples with the old encoder's vectors; gives them by id."""
    store = await open_store(engine, OLD_SPACE, source=Source("hashing"))
    examples = [example(text, task) for i, text in enumerate(texts) for task in ("spam", "abuse")[: 1 + i % 2]]
    await put(store, OLD, examples)
    await store.put_document("task", "acme", "spam", task_to_document(TASK))
    return {e.id: e for e in examples}


async def active(engine: Engine) -> Place:
    """What is served."""
    places = await stored_places(engine)
    assert places
    return places.active


async def serving(engine: Engine) -> QdrantStore:
    """The store that is served."""
    return store_of(engine, await active(engine))


async def nearest(store: QdrantStore, encoder: Encoder, text: str) -> str:
    """The text of the example nearest to a text."""
    ((vector,),) = await vectors(encoder, [text])
    ((found,),) = await store.search([SearchQuery("acme", "spam", vector, 1)], with_text=True)
    return found.text


async def everything(store: QdrantStore) -> dict[str, Example]:
    """All examples, by id."""
    return {e.id: e async for page in store.every_example() for e in page}
