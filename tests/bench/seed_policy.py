"""Chooses the policies of the shipped tasks on the seeds alone, each example judged by all others.

    python tests/bench/seed_policy.py            prints what it finds
    python tests/bench/seed_policy.py --write    and writes it to seeds/tasks.json

The vote (k, temperature, class size, score threshold) is the one with the best macro-F1, nobody abstaining. The
similarity floor is the one that best tells out-of-scope examples from the others, they not voting, by Youden's index;
in a task without such examples the similarity that 99 in 100 examples reach. The margin floor lets the least clear
tenth of the examples abstain.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.encoder import Matrix
from nearvote.embedding.load import load_encoder
from nearvote.examples.example import Draft
from nearvote.examples.files import ExampleFile
from nearvote.seeding import shipped_seeds
from nearvote.settings import read_settings
from nearvote.tasks.document import task_from_document
from nearvote.tasks.task import Task
from nearvote.voting.ballot import ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.policy import Policy
from nearvote.voting.prediction import Prediction, decide

KS = (5, 10, 15, 20, 30)
TEMPERATURES = (0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
EXPONENTS = (0.0, 0.5, 1.0)
THRESHOLDS = (0.3, 0.4, 0.5)  # multi-label tasks only
OPEN = Policy(similarity_floor=-1.0, margin_floor=0.0)  # nobody abstains


@dataclass(frozen=True, slots=True)
class Judged:
    """A task's examples, each with its labels and its nearest other examples."""

    labels: list[tuple[str, ...]]
    neighbors: list[list[Neighbor]]
    sizes: ClassSizes

    def predictions(self, task: Task, policy: Policy) -> list[Prediction]:
        """What the others say of each example."""
        rules = replace(task.rules, policy=policy)
        return [
            decide(task.name, rules, count_votes(neighbors[: policy.k], rules, self.sizes))
            for neighbors in self.neighbors
        ]


def nearest_others(drafts: Sequence[Draft], windows: Sequence[Matrix]) -> list[list[Neighbor]]:
    """For each example its nearest others, each at the nearest of its windows."""
    owners = np.repeat(np.arange(len(drafts)), [len(vectors) for vectors in windows])
    matrix = np.concatenate(windows)
    found = []
    for i, vectors in enumerate(windows):
        to_windows = (matrix @ vectors.T).max(axis=1)
        similarity = np.full(len(drafts), -1.0)
        np.maximum.at(similarity, owners, to_windows)
        similarity[i] = -np.inf
        nearest = np.argsort(-similarity, kind="stable")[: max(KS)]
        found.append([Neighbor(f"{j:06d}", tuple(drafts[j].labels), float(similarity[j])) for j in nearest])
    return found


def macro_f1(task: Task, predictions: Sequence[Prediction], labels: Sequence[tuple[str, ...]]) -> float:
    """Mean over labels of the harmonic mean of precision and recall."""
    scores = []
    for label in task.label_names:
        given = [label in prediction.labels for prediction in predictions]
        right = [label in own for own in labels]
        hits = sum(a and b for a, b in zip(given, right, strict=True))
        scores.append(2 * hits / max(1, sum(given) + sum(right)))
    return float(np.mean(scores))


def choose(task: Task, judged: Judged) -> tuple[Policy, float]:
    """The policy, and its macro-F1 when nobody abstains."""
    unscoped = replace(task, out_of_scope_label="")  # here it is a label like the others
    best, best_f1 = Policy(), -1.0
    for k, temperature, exponent, threshold in product(
        KS, TEMPERATURES, EXPONENTS, THRESHOLDS if task.multi_label else (0.5,)
    ):
        policy = replace(OPEN, k=k, temperature=temperature, class_size_exponent=exponent, score_threshold=threshold)
        f1 = macro_f1(unscoped, judged.predictions(unscoped, policy), judged.labels)
        if f1 > best_f1:
            best, best_f1 = policy, f1
    margins = [prediction.margin for prediction in judged.predictions(unscoped, best)]
    return replace(best, margin_floor=round(float(np.quantile(margins, 0.1)), 2)), best_f1


def similarity_floor(task: Task, drafts: Sequence[Draft], windows: Sequence[Matrix]) -> float:
    """Where the task ends."""
    outside = np.array([task.out_of_scope_label in draft.labels for draft in drafts])
    if not outside.any():
        return round(float(np.quantile([near[0].similarity for near in nearest_others(drafts, windows)], 0.01)), 2)
    matrix = np.concatenate([vectors for vectors, out in zip(windows, outside, strict=True) if not out])
    owners = np.repeat(np.arange(len(drafts)), [0 if out else len(w) for w, out in zip(windows, outside, strict=True)])
    nearest = np.array([(matrix[owners != i] @ windows[i].T).max() for i in range(len(drafts))])
    floors = np.unique(np.round(nearest, 2))
    youden = [(nearest[~outside] >= floor).mean() + (nearest[outside] < floor).mean() for floor in floors]
    floor = round(float(floors[int(np.argmax(youden))]), 2)
    kept, caught = np.mean(nearest[~outside] >= floor), np.mean(nearest[outside] < floor)
    print(f"{task.name}: at a similarity floor of {floor} {kept:.0%} in scope stay, {caught:.0%} out of scope go")
    return floor


async def main() -> None:
    """Chooses, prints, and perhaps writes."""
    settings = read_settings({})
    encoder = load_encoder(settings.model, None, "cpu", settings.cache_dir, None)
    embedder = Embedder(encoder, Batcher(encoder))
    path = shipped_seeds() / "tasks.json"
    documents = json.loads(path.read_text())
    for document in documents:
        task = task_from_document(document)
        with (shipped_seeds() / f"{task.name}.jsonl").open("rb") as lines:
            drafts = [draft for _, draft in ExampleFile(lines, task.name) if isinstance(draft, Draft)]
        windows = (await embedder.embed([draft.text for draft in drafts])).windows
        labels = [draft.labels for draft in drafts]
        by_label = {label: sum(label in own for own in labels) for label in task.label_names}
        judged = Judged(labels, nearest_others(drafts, windows), ClassSizes(len(drafts), by_label))
        policy, f1 = choose(task, judged)
        policy = replace(policy, similarity_floor=similarity_floor(task, drafts, windows))
        final = judged.predictions(task, policy)
        answered = [(p, own) for p, own in zip(final, labels, strict=True) if not p.abstained]
        right = sum(set(p.labels) == set(own) for p, own in answered)
        before = macro_f1(task, judged.predictions(task, OPEN), labels)
        print(
            f"{task.name}: macro-F1 {f1:.3f} (defaults {before:.3f}); with its floors it answers "
            f"{len(answered) / len(final):.0%}, {right / len(answered):.0%} of that right\n  {policy}"
        )
        document["policy"] = {
            name: getattr(policy, name)
            for name in ("k", "temperature", "class_size_exponent", "similarity_floor", "margin_floor")
        } | ({"score_threshold": policy.score_threshold} if task.multi_label else {})
    if "--write" in sys.argv:
        path.write_text(json.dumps(documents, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
