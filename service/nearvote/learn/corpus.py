"""A task's examples as arrays, to be judged in bulk."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # not `from scipy import sparse`: see `load_scipy`

from nearvote.examples.store import StoredWindow
from nearvote.text.surface import BUCKETS, SparseVector
from nearvote.voting.prototypes import labels_matrix, mean_vector

Matrix = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def load_scipy() -> None:
    """Loads the parts of SciPy that learning takes, and serving does not: else they would be as they are first used.

    To be called where it is not the least urgent: who imports holds the interpreter, and where cores are short such a
    thread is held up with it, and all others of the process behind it.
    """
    for part in ("sparse", "optimize"):
        importlib.import_module(f"scipy.{part}")


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """The views of some texts.

    Attributes:
        windows: (windows, dimension) float32, rows of length 1, the windows of a text one after the other.
        starts: (texts,) where each text's windows begin; every text has one or more.
        means: (texts, dimension) float32, each whole text as one vector of length 1.
        surface: (texts, BUCKETS) float32, compressed rows of length 1.
    """

    windows: Matrix
    starts: Places
    means: Matrix
    surface: "scipy.sparse.csr_array"

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def owners(self) -> Places:
        """(windows,) the text that each window is of."""
        counts = np.diff(np.append(self.starts, len(self.windows)))
        return np.repeat(np.arange(len(self)), counts)

    def take(self, places: Places) -> "Texts":
        """Some of the texts, in the order given."""
        ends = np.append(self.starts[1:], len(self.windows))
        counts = (ends - self.starts)[places]
        starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64) if len(places) else self.starts[:0]
        rows = np.repeat(self.starts[places] - starts, counts) + np.arange(counts.sum())
        return Texts(self.windows[rows], starts, self.means[places], self.surface[places])


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """A task's examples.

    Attributes:
        texts: Their views; the texts in the order of `ids`.
        ids: Their ids, ascending, as ties go by them.
        has: (examples, labels) bool: which example has which of the task's labels.
        weights: (examples,) float32, how much each one's vote counts.
        groups: (examples,) whose source is the same; -1 for no source.
        fingerprints: (examples,) uint64.
        raw: Their texts, as they were given.
        sources: The names of the groups, by number.
    """

    texts: Texts
    ids: tuple[str, ...]
    has: npt.NDArray[np.bool_]
    weights: Matrix
    groups: Places
    fingerprints: npt.NDArray[np.uint64]
    raw: tuple[str, ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Places) -> "Corpus":
        """Some of the examples; the places ascending."""
        return Corpus(
            self.texts.take(places),
            tuple(self.ids[i] for i in places),
            self.has[places],
            self.weights[places],
            self.groups[places],
            self.fingerprints[places],
            tuple(self.raw[i] for i in places),
            self.sources,
        )


def corpus_of(windows: Sequence[StoredWindow], labels: Sequence[str]) -> Corpus:
    """Stored windows as a corpus. Examples that have none of the labels, or that are cut short, are left out.

    Args:
        windows: All windows of a task's examples, in any order.
        labels: The task's labels.
    """
    by_example: dict[str, list[StoredWindow]] = {}
    for window in windows:
        by_example.setdefault(window.example_id, []).append(window)
    heads: list[StoredWindow] = []
    vectors: list[Matrix] = []
    surfaces: list[SparseVector] = []
    known = frozenset(labels)
    for example in sorted(by_example):
        own = sorted(by_example[example], key=lambda window: window.window)
        # The first window is written last: an example without it was being written when the service died.
        if own[0].surface is None or known.isdisjoint(own[0].labels):
            continue
        heads.append(own[0])
        vectors.append(np.stack([window.vector for window in own]))
        surfaces.append(own[0].surface)
    sources = {source: i for i, source in enumerate(sorted({head.source for head in heads} - {""}))}
    return Corpus(
        texts=texts_of(vectors, surfaces),
        ids=tuple(head.example_id for head in heads),
        has=labels_matrix([head.labels for head in heads], labels),
        weights=np.array([head.example_weight for head in heads], np.float32),
        groups=np.array([sources.get(head.source, -1) for head in heads], np.int64),
        fingerprints=np.array([head.fingerprint for head in heads], np.int64).view(np.uint64),
        raw=tuple(head.text for head in heads),
        sources=tuple(sources),
    )


def texts_of(vectors: Sequence[Matrix], surfaces: Sequence[SparseVector]) -> Texts:
    """Views of texts as arrays: each text's windows, (windows, dimension), one or more, and its n-grams."""
    counts = [len(own) for own in vectors]
    sizes = [len(surface) for surface in surfaces]
    dimension = vectors[0].shape[1] if vectors else 0
    return Texts(
        windows=np.concatenate(vectors) if vectors else np.empty((0, dimension), np.float32),
        starts=np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.int64) if counts else np.empty(0, np.int64),
        means=np.stack([mean_vector(own) for own in vectors]) if vectors else np.empty((0, dimension), np.float32),
        surface=scipy.sparse.csr_array(
            (
                np.concatenate([s.values for s in surfaces]) if sizes else np.empty(0, np.float32),
                np.concatenate([s.indices for s in surfaces]).astype(np.int64) if sizes else np.empty(0, np.int64),
                np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            ),
            shape=(len(sizes), BUCKETS),
        ),
    )
