"""Embedding all examples again, for another encoder, while the service is stopped."""

from collections.abc import Callable
from dataclasses import dataclass

from nearvote.embedding.embedder import Embedder
from nearvote.examples.engine import Engine
from nearvote.examples.qdrant_store import (
    QdrantStore,
    activate_space,
    create_space,
    drop_other_spaces,
    open_store,
    stored_space,
)
from nearvote.examples.store import EmbeddedExample, VectorSpace

# Examples embedded and written at a time.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Reindexed:
    """How many examples were embedded, and the ids of those that the encoder reads nothing in, which are gone."""

    embedded_count: int
    unreadable_ids: tuple[str, ...]


async def reindex(
    engine: Engine, embedder: Embedder, space: VectorSpace, progress: Callable[[int, int], None] = lambda _a, _b: None
) -> Reindexed:
    """Embeds the stored texts with another encoder and makes its vectors the ones that are served.

    Cut short, the old vectors stay in force, and the next run begins anew.

    Args:
        engine: Where the examples are.
        embedder: The encoder to change to.
        space: Its vector space.
        progress: Told how many examples are done, and how many there are.

    Returns:
        What was done; nothing when the stored vectors are this encoder's already.
    """
    old_space = await stored_space(engine)
    if old_space is None or old_space.key == space.key:
        await open_store(engine, space)
        await drop_other_spaces(engine, space)  # what an earlier run, cut short at its end, has left
        return Reindexed(0, ())
    old = await open_store(engine, old_space)
    await drop_other_spaces(engine, old_space)  # what an earlier run left
    new = await create_space(engine, space)
    report = await _copy(old, new, embedder, progress)
    await activate_space(new, space)
    await drop_other_spaces(engine, space)
    return report


async def _copy(
    old: QdrantStore, new: QdrantStore, embedder: Embedder, progress: Callable[[int, int], None]
) -> Reindexed:
    total = await old.example_count()
    done = 0
    unreadable: list[str] = []
    async for page in old.every_example():
        for start in range(0, len(page), _CHUNK):
            chunk = page[start : start + _CHUNK]
            embedded = await embedder.embed([example.text for example in chunk])
            # A text that the other encoder can't read at all has no vector to be found by.
            unreadable += [e.id for e, vectors in zip(chunk, embedded.windows, strict=True) if not len(vectors)]
            await new.put(
                [
                    EmbeddedExample(e, vectors)
                    for e, vectors in zip(chunk, embedded.windows, strict=True)
                    if len(vectors)
                ]
            )
            done += len(chunk)
            progress(done, total)
    return Reindexed(done - len(unreadable), tuple(unreadable))
