"""Stores of so many examples, made by perturbing real texts and their embeddings; and how long a search in them takes.

    python -m tests.bench.store 10000 100000      prints JSON: seconds a message for both views, recall, and size

Vectors are those of real texts with noise added, so that a made-up example lies some cosine of .85 from the real one;
n-grams are those of the first half of one text and the second half of another.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.bench.texts import draw

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.embedding.load import load_encoder
from nearvote.examples.example import Example, example_id
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.store import EmbeddedExample, SearchQuery
from nearvote.settings import Settings, read_settings
from nearvote.tasks.task import DEFAULT_TENANT, Label, Task
from nearvote.text.surface import SparseVector, surface_vector
from nearvote.voting.neighbor import View
from nearvote.wiring import Parts, parts_of

TASK = "intent"
LABELS = tuple(f"label {i}" for i in range(20))
_REAL = 5_000
_ASKED = 300
_NOISE = 0.6  # length of the noise that is added to a vector of length 1
_K = 20
_AT_ONCE = 500


async def embedded(texts: Sequence[str], settings: Settings) -> list[Matrix]:
    """Each text's windows."""
    encoder = load_encoder(settings.model, None, "cpu", settings.cache_dir, None)
    batcher = Batcher(encoder)
    embedder = Embedder(encoder, batcher)
    found: list[Matrix] = []
    for start in range(0, len(texts), 256):
        found += (await embedder.embed(texts[start : start + 256])).windows
    await batcher.close()
    return found


async def fill(store: QdrantStore, count: int, real: Matrix, texts: Sequence[str]) -> tuple[Matrix, list[str]]:
    """Adds made-up examples; returns their vectors and ids."""
    rng = np.random.default_rng(1)
    vectors, ids = [], []
    for start in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - start)
        base = rng.integers(0, len(real), (2, size))
        noise = rng.standard_normal((size, real.shape[1])).astype(np.float32)
        made = real[base[0]] + _NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        examples = []
        for i in range(size):
            one, other = texts[base[0, i]], texts[base[1, i]]
            text = f"{one[: len(one) // 2]}{other[len(other) // 2 :]} {start + i}"
            id_ = example_id(DEFAULT_TENANT, TASK, text)
            ids.append(id_)
            label = LABELS[int(base[0, i]) % len(LABELS)]
            example = Example(id_, DEFAULT_TENANT, TASK, text, (label,), 1.0, "", 1, 1)
            examples.append(EmbeddedExample(example, made[i : i + 1], surface_vector(text)))
        vectors.append(made)
        await store.put(examples)
    return np.concatenate(vectors), ids


async def measure(
    parts: Parts, vectors: Matrix, ids: Sequence[str], asked: Matrix, grams: list[SparseVector]
) -> dict[str, float]:
    """Median and 99th percentile of a search in both views, and recall of the nearest against exact search."""
    taken, hits = [], 0
    exact = np.argsort(-(asked @ vectors.T), axis=1)[:, :_K]
    for i, (vector, surface) in enumerate(zip(asked, grams, strict=True)):
        began = time.perf_counter()
        found, _ = await parts.store.search(
            [
                SearchQuery(DEFAULT_TENANT, TASK, vector, _K),
                SearchQuery(DEFAULT_TENANT, TASK, surface.sample(), _K, view=View.SURFACE),
            ]
        )
        taken.append(time.perf_counter() - began)
        hits += len({neighbor.example_id for neighbor in found} & {ids[j] for j in exact[i]})
    return {
        "p50": statistics.median(taken),
        "p99": float(np.quantile(taken, 0.99)),
        "recall": hits / (len(asked) * _K),
    }


def size_of(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


async def make(folder: Path, count: int, real: Matrix, texts: Sequence[str]) -> None:
    """A data folder with so many examples, for a server."""
    settings = read_settings({"data_dir": folder, "seeds": False})
    async with parts_of(settings, lambda _done, _total: None) as parts:
        await parts.tasks.create(DEFAULT_TENANT, Task(TASK, tuple(map(Label, LABELS))))
        await fill(parts.store, count, real, texts)


async def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("counts", type=int, nargs="+")
    texts = draw("chat", _REAL + _ASKED)
    windows = await embedded(texts, read_settings({}))
    one_each = np.stack([own[0] for own in windows])
    real, asked = one_each[:_REAL], one_each[_REAL:]
    grams = [surface_vector(text) for text in texts[_REAL:]]
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as folder:
            settings = read_settings({"data_dir": folder, "seeds": False})
            async with parts_of(settings, lambda _done, _total: None) as parts:
                began = time.perf_counter()
                vectors, ids = await fill(parts.store, count, real, texts[:_REAL])
                written = time.perf_counter() - began
                figures = await measure(parts, vectors, ids, asked, grams)
            disk = size_of(Path(folder))
        print(
            json.dumps({"examples": count, "write_seconds": written, "disk_mib": disk / 2**20, **figures}), flush=True
        )


if __name__ == "__main__":
    asyncio.run(main())
