"""Two parts of `tests.bench.scale`, each in a process of its own, so that its memory is nobody else's.

    python -m tests.bench.scale_store fill FOLDER COUNT           writes the store, and what is exactly nearest
    python -m tests.bench.scale_store look FOLDER COUNT KEPT      opens it, and searches

FOLDER has `real.npz` with vectors of real texts, from which examples are made as in `tests.bench.store`; texts are the
first half of one real text and the second of another, of 30,000, so that n-grams are as many as in a store of that
kind. Seconds are those of a core, whatever else runs on it. Prints JSON.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.bench.store import Real, forget_pages, made_up, memory_mib
from tests.bench.texts import draw

from nearvote.access.caller import DEFAULT_TENANT
from nearvote.embedding.encoder import Matrix
from nearvote.examples import edge_types
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import VectorStorage
from nearvote.examples.example import Example, example_id
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import open_store
from nearvote.examples.store import EmbeddedExample, SearchQuery, VectorSpace
from nearvote.text.surface import surface_vector
from nearvote.voting.neighbor import View

DIMENSION = 384
K = 20
KEPT = {
    "memory": VectorStorage(),
    "memory, int8": VectorStorage(quantization="int8"),
    "disk": VectorStorage(on_disk=True),
    "disk, int8": VectorStorage(on_disk=True, quantization="int8"),
}
TEXTS = 30_000
LARGE, SMALL = "large", "small"  # a task of nearly all examples, and one of a hundredth of them
_SMALL_EVERY = 100
_SPACE = VectorSpace("scale", DIMENSION, "made up")
_SECONDS = 20.0  # at most, for each kind of search
_EXACT_ROWS = 50_000  # of which similarities are reckoned at a time
_MIB = 2**20

Ids = npt.NDArray[np.int64]


def load_real(folder: Path) -> Real:
    """The real vectors, and more texts than there are of these."""
    with np.load(folder / "real.npz") as found:
        vectors, asked = found["vectors"], found["asked"]
    texts = draw("chat", TEXTS)
    return Real(texts[: -len(asked)], vectors, texts[-len(asked) :], asked)


def parts(count: int, of: Real) -> Iterator[tuple[int, list[str], Matrix]]:
    """Examples in parts: number of the first, texts, vectors."""
    rng, number = np.random.default_rng(2), 0
    for _, _, vectors in made_up(count, of):
        halves = rng.integers(0, len(of.texts), (len(vectors), 2)).tolist()
        texts = [
            f"{of.texts[one][: len(of.texts[one]) // 2]}{of.texts[other][len(of.texts[other]) // 2 :]} {number + i}"
            for i, (one, other) in enumerate(halves)
        ]
        yield number, texts, vectors
        number += len(vectors)


def task_of(number: int) -> str:
    """The task of an example."""
    return SMALL if number % _SMALL_EVERY == 0 else LARGE


async def fill(folder: Path, count: int) -> dict[str, float]:
    """Writes so many examples."""
    of = load_real(folder)
    engine = EdgeEngine(folder / "data")
    store = await open_store(engine, _SPACE)
    made = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, DIMENSION))
    ids = np.empty(count, "U36")
    seconds, texts_bytes, grams = 0.0, 0, 0
    for first, texts, vectors in parts(count, of):
        made[first : first + len(vectors)] = vectors
        examples = []
        for i, (text, row) in enumerate(zip(texts, vectors, strict=True), first):
            id_ = example_id(DEFAULT_TENANT, task_of(i), text)
            example = Example(id_, DEFAULT_TENANT, task_of(i), text, (f"label-{i % 20}",), 1.0, "", 1, 1)
            ids[i] = id_
            examples.append(EmbeddedExample(example, row[np.newaxis], surface_vector(text)))
            texts_bytes += len(text.encode())
            grams += len(examples[-1].surface.indices)
        began = time.process_time()
        await store.put(examples)
        seconds += time.process_time() - began
    await engine.close()
    np.save(folder / "exact.npy", ids[exactly_nearest(made, of.asked)])
    return {
        "write_seconds": seconds,
        "text_bytes": texts_bytes / count,
        "ngrams": grams / count,
        "fill_peak_mib": peak_mib(),
    }


def exactly_nearest(vectors: Matrix, asked: Matrix) -> Ids:
    """Numbers of the nearest examples of each of the two tasks: (2, asked, K)."""
    return np.stack([_nearest(vectors, asked, range(first, len(vectors), step)) for first, step in _ROWS.values()])


# Which examples a task has, as `task_of` says: the first, and every how many; the large one leaves out the small one's.
_ROWS = {LARGE: (0, 1), SMALL: (0, _SMALL_EVERY)}


def _nearest(vectors: Matrix, asked: Matrix, rows: range) -> Ids:
    numbers = np.asarray(rows)
    if rows.step == 1:
        numbers = numbers[numbers % _SMALL_EVERY != 0]
    best: list[Ids] = []
    scores: list[Matrix] = []
    for start in range(0, len(numbers), _EXACT_ROWS):
        own = numbers[start : start + _EXACT_ROWS]
        similar = asked @ vectors[own].T
        top = np.argpartition(-similar, min(K, len(own) - 1), axis=1)[:, :K]
        best.append(own[top])
        scores.append(np.take_along_axis(similar, top, axis=1))
    order = np.argsort(-np.concatenate(scores, axis=1), axis=1)[:, :K]
    return np.take_along_axis(np.concatenate(best, axis=1), order, axis=1)


async def look(folder: Path, kept: str) -> dict[str, float]:
    """Opens the store as after a start of the machine, and searches."""
    of = load_real(folder)
    exact = dict(zip(_ROWS, np.load(folder / "exact.npy"), strict=True))
    grams = [surface_vector(text).sample() for text in of.asked_texts]
    empty = await open_empty(KEPT[kept])
    forget_pages(folder / "data")
    before, read = memory_mib(), read_mib()
    began = time.process_time()
    engine = EdgeEngine(folder / "data", storage=KEPT[kept])
    store = await open_store(engine, _SPACE)
    found = {"load_seconds": time.process_time() - began, "load_read_mib": read_mib() - read}
    read = read_mib()

    def dense(i: int, task: str) -> SearchQuery:
        return SearchQuery(DEFAULT_TENANT, task, of.asked[i], K)

    def sparse(i: int, task: str) -> SearchQuery:
        return SearchQuery(DEFAULT_TENANT, task, grams[i], K, view=View.SURFACE)

    for task in (LARGE, SMALL):
        for name, asking in (("meaning", [dense]), ("surface", [sparse]), ("both", [dense, sparse])):
            found |= await searched(
                store, [[ask(i, task) for ask in asking] for i in range(len(grams))], f"{task} {name}"
            )
        found[f"{task} recall"] = await recall(store, [dense(i, task) for i in range(len(grams))], exact[task])
    if KEPT[kept].quantization != "none":
        for times in (1.0, 3.0):
            setattr(edge_types, "OVERSAMPLING", times)  # noqa: B010 - it is a constant everywhere else
            asked = [dense(i, LARGE) for i in range(len(grams))]
            found[f"recall x{times:.0f}"] = await recall(store, asked, exact[LARGE])
    found["search_read_mib"] = read_mib() - read
    after = memory_mib()
    found |= {name: after[name] - before[name] - empty[name] for name in after}
    await engine.close()
    return found


async def open_empty(storage: VectorStorage) -> dict[str, float]:
    """What a store without examples takes once it was searched, and gives back when it is closed."""
    with tempfile.TemporaryDirectory() as folder:
        engine = EdgeEngine(Path(folder), storage=storage)
        store = await open_store(engine, _SPACE)
        query = np.ones(DIMENSION, np.float32) / np.sqrt(DIMENSION)
        surface = surface_vector("a text")
        await store.search(
            [
                SearchQuery(DEFAULT_TENANT, LARGE, query, K),
                SearchQuery(DEFAULT_TENANT, LARGE, surface, K, view=View.SURFACE),
            ]
        )
        opened = memory_mib()
        await engine.close()
        closed = memory_mib()
        return {name: opened[name] - closed[name] for name in opened}


async def searched(store: QdrantStore, asked: Sequence[Sequence[SearchQuery]], name: str) -> dict[str, float]:
    """Median and 99th percentile of searches one after the other, in seconds of a core, once warm."""
    await store.search(asked[0])
    taken: list[float] = []
    ends = time.process_time() + _SECONDS
    for queries in asked:
        began = time.process_time()
        await store.search(queries)
        taken.append(time.process_time() - began)
        if time.process_time() > ends:
            break
    return {f"{name} p50": statistics.median(taken), f"{name} p99": float(np.quantile(taken, 0.99))}


async def recall(store: QdrantStore, asked: Sequence[SearchQuery], exact: npt.NDArray[np.str_]) -> float:
    """Share of what is exactly nearest that is found."""
    hits = 0
    for query, nearest in zip(asked, exact, strict=True):
        (found,) = await store.search([query])
        hits += len({neighbor.example_id for neighbor in found} & set(nearest.tolist()))
    return hits / exact.size


def read_mib() -> float:
    """What this process has read from disks so far, in MiB."""
    lines = dict(line.split(": ", 1) for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"]) / _MIB


def peak_mib() -> float:
    """The most memory that this process had, in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024 / _MIB


def main() -> None:
    """Does one part, and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("fill", "look"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("kept", nargs="?", choices=KEPT)
    asked = parser.parse_args()
    done = fill(asked.folder, asked.count) if asked.part == "fill" else look(asked.folder, asked.kept)
    print(json.dumps(asyncio.run(done)))


if __name__ == "__main__":
    main()
