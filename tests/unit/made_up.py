"""Made-up examples to learn from: vectors around a direction of each label, texts of its words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearvote.examples.store import StoredWindow
from nearvote.learn.corpus import Corpus, Matrix, corpus_of
from nearvote.learn.fitting import Learned
from nearvote.text.surface import fingerprint, surface_vector
from nearvote.voting.ballot import ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor, View, merge_windows
from nearvote.voting.policy import Policy, Rules
from nearvote.voting.seats import OVERSAMPLING, seat_limit, take_seats


def unit(rows: npt.NDArray[np.floating]) -> Matrix:
    """Rows of length 1, as encoders give them."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def words(
    rng: np.random.Generator, count: int, letters: str = "abcdefghijklmnopqrstuvwxyz", size: int = 6
) -> list[str]:
    """Words of random letters."""
    return ["".join(rng.choice(list(letters), size)) for _ in range(count)]


@dataclass(frozen=True)
class Made:
    """One made-up example."""

    text: str
    labels: tuple[str, ...]
    windows: Matrix
    weight: float = 1.0
    source: str = ""


def stored(made: Sequence[Made], *, first: int = 0) -> list[StoredWindow]:
    """Examples as a store keeps them, with ids in the order given."""
    rows = []
    for i, one in enumerate(made, first):
        surface = surface_vector(one.text)
        rows += [
            StoredWindow(
                point_id=f"{i:05}-{window}",
                example_id=f"{i:05}",
                window=window,
                labels=one.labels,
                example_weight=one.weight,
                source=one.source,
                fingerprint=fingerprint(surface),
                text=one.text if window == 0 else "",
                vector=vector,
                surface=surface if window == 0 else None,
            )
            for window, vector in enumerate(one.windows)
        ]
    return rows


def corpus(made: Sequence[Made], labels: Sequence[str]) -> Corpus:
    """Examples as a corpus."""
    return corpus_of(stored(made), labels)


def easy(
    rng: np.random.Generator,
    counts: dict[str, int],
    *,
    dimension: int = 24,
    noise: float = 0.15,
    windows: int = 1,
    told: float = 0.7,
) -> list[Made]:
    """Examples that lie around their label's direction, and half of whose words are their label's.

    Args:
        rng: Chance.
        counts: How many of each label.
        dimension: Of the vectors.
        noise: How far they lie around it.
        windows: How many each has, at most.
        told: How likely each word is one of its label's.
    """
    fixed = np.random.default_rng(99)
    common = words(fixed, 60)
    made = []
    for i, (label, count) in enumerate(counts.items()):
        direction = np.zeros(dimension)
        direction[i % dimension] = 1.0
        own = words(fixed, 12)
        for _ in range(count):
            size = int(rng.integers(1, windows + 1))
            vectors = unit(direction + noise * rng.standard_normal((size, dimension)))
            text = " ".join(str(rng.choice(own if rng.random() < told else common)) for _ in range(8))
            made.append(Made(text, (label,), vectors))
    return [made[i] for i in rng.permutation(len(made))]


def neighbors_of(
    windows: Matrix, text: str, examples: Corpus, labels: Sequence[str], policy: Policy
) -> dict[View, list[Neighbor]]:
    """Who votes on a message, found one by one as the classifier does, without its deeper search."""
    k, texts = policy.k, examples.texts
    crowds = seat_limit(k, policy.max_group_share) < k
    limit = k * OVERSAMPLING if crowds else k
    surface = surface_vector(text).sample()
    frequency = np.bincount(texts.surface.indices, minlength=texts.surface.shape[1])
    size = len(examples)

    def neighbor(i: int, similarity: float, view: View, window: int) -> Neighbor:
        return Neighbor(
            examples.ids[i],
            tuple(label for label, has in zip(labels, examples.has[i], strict=True) if has),
            similarity,
            float(examples.weights[i]),
            view,
            window,
            source=str(examples.groups[i]) if examples.groups[i] >= 0 else "",
            fingerprint=int(examples.fingerprints[i].astype(np.int64)),
        )

    by_window = []
    for number, window in enumerate(windows.astype(np.float64)):
        nearest = np.full(size, -np.inf)
        np.maximum.at(nearest, texts.owners, texts.windows.astype(np.float64) @ window)
        by_window.append([neighbor(i, float(s), View.MEANING, number) for i, s in enumerate(nearest)])
    rarity = np.log1p((size - frequency + 0.5) / (frequency + 0.5))
    weighed = np.zeros(texts.surface.shape[1])
    weighed[surface.indices] = surface.values * rarity[surface.indices]
    found = texts.surface.astype(np.float64) @ weighed
    shared = [neighbor(int(i), float(found[i]), View.SURFACE, 0) for i in np.flatnonzero(found > 0)]
    return {
        View.MEANING: take_seats(merge_windows(by_window, limit), k, policy.max_group_share),
        View.SURFACE: take_seats(merge_windows([shared], limit), k, policy.max_group_share),
    }


def sizes_of(examples: Corpus, labels: Sequence[str]) -> ClassSizes:
    """How many examples each label has."""
    counts = examples.has.sum(axis=0).tolist()
    return ClassSizes(len(examples), {label: count for label, count in zip(labels, counts, strict=True) if count})


def scores_of(made: Sequence[Made], examples: Sequence[Made], rules: Rules, learned: Learned | None = None) -> Matrix:
    """What a task of these examples says of messages, before or after a fit: (messages, labels) float32."""
    own = corpus(examples, rules.labels)
    policy, mapped = (learned.policy if learned else rules.policy), own
    prototypes = learned.prototypes if learned else None
    metric = learned.metric if learned else None
    if metric is not None and learned is not None and learned.in_metric:
        rows = [replace_windows(one, metric.project(one.windows)) for one in examples]
        mapped = corpus(rows, rules.labels)
    ruled = Rules(rules.labels, rules.multi_label, rules.benign_label, rules.out_of_scope_label, policy)
    scores = []
    for one in made:
        in_metric = one.windows if metric is None else metric.project(one.windows)
        asked = in_metric if mapped is not own else one.windows
        found = neighbors_of(asked, one.text, mapped, rules.labels, policy)
        opinions = prototypes.opinions(one.windows, in_metric, surface_vector(one.text)) if prototypes else None
        ballot = count_votes(found, ruled, sizes_of(own, rules.labels), prototypes=opinions)
        scores.append([ballot.scores[label] for label in rules.labels])
    return np.array(scores, np.float32)


def replace_windows(one: Made, windows: Matrix) -> Made:
    """An example with other vectors."""
    return Made(one.text, one.labels, windows, one.weight, one.source)


def accuracy(scores: Matrix, made: Sequence[Made], labels: Sequence[str]) -> float:
    """Share of messages whose best label is one of theirs."""
    return float(np.mean([labels[int(row.argmax())] in one.labels for row, one in zip(scores, made, strict=True)]))
