"""Stores of so many examples, made by perturbing real texts and their embeddings; and how long a search in them takes.

    python -m tests.bench.store 10000 100000      prints JSON: seconds a message for both views, recall, and size

Vectors are those of real texts with noise added, so that a made-up example lies some cosine of .85 from the real one;
n-grams are those of the first half of one text and the second half of another.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.bench.sets import rows_of
from tests.bench.texts import draw

from nearvote.access.caller import DEFAULT_TENANT
from nearvote.classify import Options
from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.embedding.load import load_encoder
from nearvote.embedding.onnx_quantize import Jury, Labelled
from nearvote.examples.edge_engine import build_indexes
from nearvote.examples.example import Example, example_id
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.store import EmbeddedExample, SearchQuery
from nearvote.learn.others import labels_by_others
from nearvote.settings import read_settings
from nearvote.tasks.task import Label, Task
from nearvote.text.surface import SparseVector, surface_vector
from nearvote.voting.neighbor import View
from nearvote.wiring import Parts, parts_of

TASK = "intent"
LABELS = tuple(f"label-{i}" for i in range(20))
_REAL = 5_000
_ASKED = 300
_COMPARED = 1_500  # examples of each set that two precisions are compared by
_NOISE = 0.6  # length of the noise that is added to a vector of length 1
_K = 20
_FIRST = 100  # searches after a start that are told of apart
_AT_ONCE = 500
MOST_INDEXED = 100_000  # the index of more takes many minutes


@dataclass(frozen=True, slots=True)
class Real:
    """Texts of the public sets and their vectors, of which examples are made; and others that are asked."""

    texts: list[str]
    vectors: Matrix
    asked_texts: list[str]
    asked: Matrix


_real: dict[str, Real] = {}


async def real(precision: str = "fp32") -> Real:
    """The real texts, embedded once a process."""
    if precision not in _real:
        settings = read_settings({"precision": precision})
        texts = draw("chat", _REAL + _ASKED)
        jury = Jury(chatbot_examples(), labels_by_others) if precision == "int8" else None
        encoder = load_encoder(settings.model, None, "cpu", settings.cache_dir, None, settings.precision, jury)
        batcher = Batcher(encoder)
        embedder = Embedder(encoder, batcher)
        rows: list[Matrix] = []
        for start in range(0, len(texts), 256):
            rows += [own[0] for own in (await embedder.embed(texts[start : start + 256])).windows]
        await batcher.close()
        vectors = np.stack(rows)
        _real[precision] = Real(texts[:_REAL], vectors[:_REAL], texts[_REAL:], vectors[_REAL:])
    return _real[precision]


def chatbot_examples() -> list[Labelled]:
    """What a chatbot would have stored: training texts, as many of each of two sets, with their labels."""
    rng = np.random.default_rng(0)
    found: list[Labelled] = []
    for name in ("banking77", "clinc150"):
        rows = [row for row in rows_of(name) if row.split == "train"]
        found += [Labelled(name, rows[i].label, rows[i].text) for i in rng.choice(len(rows), _COMPARED, replace=False)]
    return found


def made_up(count: int, of: Real) -> Iterator[tuple[list[str], list[str], Matrix]]:
    """Examples in parts: texts, labels and (examples, dimension) vectors."""
    rng = np.random.default_rng(1)
    for start in range(0, count, _AT_ONCE):
        size = min(_AT_ONCE, count - start)
        base = rng.integers(0, len(of.vectors), (2, size))
        noise = rng.standard_normal((size, of.vectors.shape[1])).astype(np.float32)
        made = of.vectors[base[0]] + _NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        texts = [
            f"{of.texts[one][: len(of.texts[one]) // 2]}{of.texts[other][len(of.texts[other]) // 2 :]} {start + i}"
            for i, (one, other) in enumerate(base.T.tolist())
        ]
        labels = [LABELS[one % len(LABELS)] for one in base[0].tolist()]
        yield texts, labels, made / np.linalg.norm(made, axis=1, keepdims=True)


async def plain_examples(count: int) -> tuple[Matrix, list[str]]:
    """Vectors and labels of made-up examples."""
    parts = list(made_up(count, await real()))
    return np.concatenate([vectors for _, _, vectors in parts]), [label for _, labels, _ in parts for label in labels]


async def fill(to: QdrantStore, count: int, of: Real) -> tuple[Matrix, list[str]]:
    """Adds made-up examples; returns their vectors and ids."""
    vectors, ids = [], []
    for texts, labels, made in made_up(count, of):
        own = [example_id(DEFAULT_TENANT, TASK, text) for text in texts]
        examples = [
            EmbeddedExample(
                Example(id_, DEFAULT_TENANT, TASK, text, (label,), 1.0, "", 1, 1), row[np.newaxis], surface_vector(text)
            )
            for id_, text, label, row in zip(own, texts, labels, made, strict=True)
        ]
        await to.put(examples)
        vectors.append(made)
        ids += own
    return np.concatenate(vectors), ids


async def measure(parts: Parts, vectors: Matrix, ids: Sequence[str], of: Real) -> dict[str, float]:
    """Median and 99th percentile of a search in both views, and recall of the nearest against exact search.

    Measured after as many other searches, as in a service that has been called before; `first_p50` is of the first
    hundred of these, after a start on a machine whose cache is empty.
    """
    hits = 0
    others = [await _searched(parts, of.vectors[i], surface_vector(of.texts[i])) for i in range(len(of.asked))]
    taken = []
    for vector, text in zip(of.asked, of.asked_texts, strict=True):
        exact = np.argsort(-(vectors @ vector))[:_K]
        seconds, found = await _searched(parts, vector, surface_vector(text))
        taken.append(seconds)
        hits += len(found & {ids[j] for j in exact})
    return {
        "p50": statistics.median(taken),
        "p99": float(np.quantile(taken, 0.99)),
        "first_p50": statistics.median(seconds for seconds, _ in others[:_FIRST]),
        "recall": hits / (len(of.asked) * _K),
    }


async def _searched(parts: Parts, vector: npt.NDArray[np.float32], surface: SparseVector) -> tuple[float, set[str]]:
    """Seconds that a search in both views took, and the examples nearest by meaning."""
    began = time.perf_counter()
    found, _ = await parts.now.store.search(
        [
            SearchQuery(DEFAULT_TENANT, TASK, vector, _K),
            SearchQuery(DEFAULT_TENANT, TASK, surface.sample(), _K, view=View.SURFACE),
        ]
    )
    return time.perf_counter() - began, {neighbor.example_id for neighbor in found}


def size_of(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def forget_pages(folder: Path) -> None:
    """Has the kernel let go of what it keeps of the files."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory_mib(process: int | str = "self") -> dict[str, float]:
    """A process's memory: its own, and pages of files, which the kernel takes back when it is short of memory."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    own, files = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return {"own_mib": own, "files_mib": files}


async def prepare(folder: Path, count: int, *, precision: str = "fp32") -> None:
    """A data folder with so many examples, for a server, indexed unless that takes too long."""
    of = await real(precision)
    async with _open(folder, precision) as parts:
        await parts.now.tasks.create(DEFAULT_TENANT, Task(TASK, tuple(map(Label, LABELS))))
        await fill(parts.now.store, count, of)
    if count <= MOST_INDEXED:
        build_indexes(folder)


async def classified(folder: Path, texts: Sequence[str]) -> float:
    """Messages a second that are searched for and voted on in this process, one after the other, embeddings known."""
    async with _open(folder, "fp32") as parts:
        for turn in range(2):  # the first fills the cache
            began = time.perf_counter()
            for text in texts:
                await parts.now.classifier.classify(DEFAULT_TENANT, [text], [TASK], Options())
            if turn:
                return len(texts) / (time.perf_counter() - began)
    raise AssertionError("never")


def _open(folder: Path, precision: str) -> AbstractAsyncContextManager[Parts]:
    settings = read_settings({"data_dir": folder, "seeds": False, "precision": precision})
    return parts_of(settings, lambda _done, _total: None)


async def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("counts", type=int, nargs="+")
    of = await real()
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            async with _open(Path(folder), "fp32") as parts:
                vectors, ids = await fill(parts.now.store, count, of)
            written = time.perf_counter()
            if count <= MOST_INDEXED:
                build_indexes(Path(folder))
            indexed = time.perf_counter()
            forget_pages(Path(folder))
            async with _open(Path(folder), "fp32") as parts:
                figures = await measure(parts, vectors, ids, of)
            disk = size_of(Path(folder))
        row = {"write_seconds": written - began, "index_seconds": indexed - written, "disk_mib": disk / 2**20}
        print(json.dumps(row | {f"search_{name}": value for name, value in figures.items()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
