"""What tests of several rooms share: a desk with every part of the service but the wire, its clock and encoder fake."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nearvote.audit.log import AuditLog
from nearvote.browse import Browser
from nearvote.classify import Classifier
from nearvote.curate import Curator
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Encoder, EncoderSpec, Matrix, Tokens
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Engine
from nearvote.examples.example import Draft
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import open_store
from nearvote.examples.store import VectorSpace
from nearvote.limits import Limits
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Label, Task

# No property is about time, and machines that are shared have no even pace. Where a change is judged (CI is set), the
# same cases are tried each time, so that a change is never refused for what another brought in; anywhere else they are
# drawn anew, and what they find is found by whoever works on the code.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("untimed")


class FakeClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds

    def now_us(self) -> int:
        return round(self.seconds * 1_000_000)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class CountingEncoder:
    """The hashing encoder; counts the windows it has encoded."""

    def __init__(self) -> None:
        self._inner = HashingEncoder()
        self.encoded_count = 0

    @property
    def spec(self) -> EncoderSpec:
        return self._inner.spec

    @property
    def window_tokens(self) -> int:
        return self._inner.window_tokens

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return self._inner.tokenize(texts)

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:  # noqa: ARG002 - of the protocol
        self.encoded_count += len(windows)
        return self._inner.encode(windows)


@dataclass(frozen=True, slots=True)
class Desk:
    """Every part of a service but the wire."""

    tenant: str
    clock: FakeClock
    encoder: CountingEncoder
    embedder: Embedder
    engine: Engine
    store: QdrantStore
    tasks: TaskRegistry
    browser: Browser
    curator: Curator
    classifier: Classifier
    audit: AuditLog

    async def add(self, text: str, *labels: str, task: str = "spam") -> str:
        """Adds an example and returns its id."""
        (saved,) = await self.curator.create(self.tenant, [Draft(task, text, labels)])
        return saved.example.id


def space_of(encoder: Encoder) -> VectorSpace:
    """Where an encoder's vectors live."""
    return VectorSpace(encoder.spec.key, encoder.spec.dimension, encoder.spec.model)


OpenDesk = Callable[..., Awaitable[Desk]]

TASKS = (
    Task("spam", (Label("spam"), Label("ham")), benign_label="ham"),
    Task("abuse", (Label("hate"), Label("threat"), Label("none")), multi_label=True, benign_label="none"),
)


@pytest.fixture
def clock() -> FakeClock:
    """The test's own time."""
    return FakeClock()


_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made in it has a name of its own
_ENOUGH_BYTES = 1 << 30


@contextmanager
def folder_in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder for a store: in memory where there is such a place, since making a store waits for a disk many times."""
    in_memory = _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ENOUGH_BYTES
    with tempfile.TemporaryDirectory(prefix="nearvote-", dir=_IN_MEMORY if in_memory else otherwise) as folder:
        yield Path(folder)


@pytest.fixture
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a store."""
    with folder_in_memory(tmp_path) as folder:
        yield folder


@pytest.fixture
async def open_desk(data_folder: Path, clock: FakeClock) -> AsyncIterator[OpenDesk]:
    """Opens desks on Qdrant Edge, in a folder of the test or on the engine it gives; all are closed at its end."""
    async with AsyncExitStack() as stack:

        async def open_(
            *, engine: Engine | None = None, limits: Limits | None = None, tasks: Sequence[Task] = TASKS
        ) -> Desk:
            limits = limits or Limits()
            engine = engine or EdgeEngine(data_folder / "data")
            stack.push_async_callback(engine.close)
            encoder = CountingEncoder()
            batcher = Batcher(encoder)
            stack.push_async_callback(batcher.close)
            embedder = Embedder(encoder, batcher)
            store = await open_store(engine, space_of(encoder), clock.now_us)
            audit = AuditLog(await open_audit_store(engine), now_us=clock.now_us)
            registry = TaskRegistry(store, limits, audit=audit, now_us=clock.now_us, monotonic=clock.monotonic)
            for task in tasks:
                await registry.create("acme", task)
            return Desk(
                tenant="acme",
                clock=clock,
                encoder=encoder,
                embedder=embedder,
                engine=engine,
                store=store,
                tasks=registry,
                browser=Browser(embedder, store, registry, limits),
                curator=Curator(embedder, store, registry, limits, clock.now_us, audit=audit),
                classifier=Classifier(embedder, store, registry, limits),
                audit=audit,
            )

        yield open_


@pytest.fixture
async def desk(open_desk: OpenDesk) -> Desk:
    """A desk with the tasks `spam` (single-label) and `abuse` (multi-label), without examples."""
    return await open_desk()
