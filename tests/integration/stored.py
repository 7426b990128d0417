"""What lies in a data folder or on a server, read by the engine itself, with no service around it."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.errors import NearvoteError
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Engine, Found, Sparse
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.server_engine import ServerEngine
from nearvote.examples.spaces import open_store, stored_space
from nearvote.tasks.document import TASKS_KIND, task_from_document
from nearvote.tasks.fits import Fits
from nearvote.text.surface import SparseVector
from nearvote.voting.metric import LinearMetric, Slot

_VIEWS = ("meaning", "surface", *(slot.value for slot in Slot))
_PAGE = 256
_CLOSE = 1e-5


def whats_wrong(folder: Path) -> list[str]:
    """What is wrong in a folder that the encoder without a model has written: nothing, as a rule.

    Every example has each of its windows once, with the vectors that its text has in both views and in the metric that
    serves its task; and every task that names a fit has it.
    """
    return asyncio.run(_look(EdgeEngine(folder)))


async def whats_wrong_on_server(port: int) -> list[str]:
    """The same of a Qdrant server on this machine, by its gRPC port."""
    engine = ServerEngine.connect("http://127.0.0.1", grpc_port=port, api_key=None, timeout_seconds=10)
    return await _look(engine)


async def _look(engine: Engine) -> list[str]:
    batcher = Batcher(HashingEncoder())
    try:
        space = await stored_space(engine)
        if space is None:  # killed before anything was there
            return []
        store = await open_store(engine, space)
        wrong: list[str] = []
        metrics: dict[tuple[str, str], tuple[Slot, LinearMetric]] = {}
        for tenant, name, body in await store.every_document(TASKS_KIND):
            task = task_from_document(body)
            try:
                fit = await Fits(store).serving(tenant, task)
            except NearvoteError as error:
                wrong.append(f"{name}: {error}")
                continue
            if task.slot is not None:
                assert fit is not None
                assert fit.metric is not None
                metrics[tenant, name] = task.slot, fit.metric
        points = await _points(engine, store)
        wrong += [f"{example} has no first window" for example, windows in points.items() if 0 not in windows]
        whole = [windows for windows in points.values() if 0 in windows]
        embedded = await Embedder(HashingEncoder(), batcher).embed([windows[0].payload["text"] for windows in whole])
        for windows, vectors, surface in zip(whole, embedded.windows, embedded.surfaces, strict=True):
            payload = windows[0].payload
            metric = metrics.get((payload["tenant"], payload["task"]))
            wrong += [f"{windows[0].id} has {what}" for what in _wrong_with(windows, vectors, surface, metric)]
        return wrong
    finally:
        await batcher.close()
        await engine.close()


def _wrong_with(
    windows: dict[int, Found], vectors: Matrix, surface: SparseVector, serving: tuple[Slot, LinearMetric] | None
) -> Iterator[str]:
    if sorted(windows) != list(range(len(vectors))):
        yield f"windows {sorted(windows)} of {len(vectors)}"
        return
    stored = windows[0].vectors.get("surface")
    if not isinstance(stored, Sparse) or dict(zip(stored.indices, stored.values, strict=True)) != dict(
        zip(surface.indices.tolist(), surface.values.tolist(), strict=True)
    ):
        yield "other n-grams than its text"
    if not _close([windows[i].vectors.get("meaning") for i in sorted(windows)], vectors):
        yield "other vectors than its text"
    if serving is not None:
        slot, metric = serving
        if not _close([windows[i].vectors.get(slot.value) for i in sorted(windows)], metric.project(vectors)):
            yield f"other vectors in {slot.value} than the metric gives"


async def _points(engine: Engine, store: QdrantStore) -> dict[str, dict[int, Found]]:
    points: defaultdict[str, dict[int, Found]] = defaultdict(dict)
    from_id = None
    while True:
        page, from_id = await engine.scroll(store._collection, {}, _PAGE, from_id, _VIEWS)
        for point in page:
            points[point.payload["example_id"]][point.payload["window"]] = point
        if from_id is None:
            return points


def _close(stored: Sequence[object], expected: Matrix) -> bool:
    if any(vector is None for vector in stored):
        return False
    return bool(np.allclose(np.array(stored, np.float32), expected, atol=_CLOSE))
