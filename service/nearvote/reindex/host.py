"""What a change of encoder needs of the process that it is made in."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Encoder
from nearvote.examples.places import Source
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.store import VectorSpace


@dataclass(frozen=True, slots=True)
class Prepared:
    """An encoder that is loaded, beside the one that serves.

    Attributes:
        source: What it was loaded by.
        space: Its vector space.
        encoder: The encoder.
        embedder: Embeds examples with it.
        aside: Embeds messages with it that nobody waits for.
        close: Lets go of what embeds.
    """

    source: Source
    space: VectorSpace
    encoder: Encoder
    embedder: Embedder
    aside: Embedder
    close: Callable[[], Awaitable[None]]


class Host(Protocol):
    """The process that a change of encoder is made in."""

    async def prepare(self, source: Source) -> Prepared:
        """Loads an encoder.

        Raises:
            StartupError: It can't be loaded.
        """
        ...

    async def rest(self) -> None:
        """Stops what learns from the vectors that serve, and returns when it has."""
        ...

    def opened(self, prepared: Prepared, store: QdrantStore) -> AbstractAsyncContextManager[Callable[[], None]]:
        """Opens all that stands on a store; what is given takes over what is called from then on."""
        ...


class StoppedService:
    """A process that serves nothing.

    Args:
        prepare: Loads an encoder.
    """

    def __init__(self, prepare: Callable[[Source], Awaitable[Prepared]]) -> None:
        self._prepare = prepare

    async def prepare(self, source: Source) -> Prepared:
        """Loads an encoder."""
        return await self._prepare(source)

    async def rest(self) -> None:
        """Nothing learns."""

    @contextlib.asynccontextmanager
    async def opened(self, prepared: Prepared, store: QdrantStore) -> AsyncIterator[Callable[[], None]]:
        """Nothing is opened."""
        del prepared, store
        yield lambda: None
