"""Chooses the policies of the shipped tasks on the seeds alone, each example judged by all others.

    python -m tests.bench.seed_policy            prints what it finds
    python -m tests.bench.seed_policy --write    and writes it to seeds/tasks.json

The vote (k, temperature, exponent and weight of the surface view, class size, score threshold) is the one with the best
macro-F1, nobody abstaining. The similarity floor is the one that best tells out-of-scope examples from the others, they
not voting, by Youden's index; in a task without such examples the similarity that 99 in 100 examples reach. The margin
floor lets the least clear tenth of the examples abstain.
"""

import asyncio
import json
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from nearvote.embedding.batcher import Batcher
from nearvote.embedding.embedder import Embedder
from nearvote.embedding.load import load_encoder
from nearvote.examples.example import Draft, example_id
from nearvote.examples.files import ExampleFile
from nearvote.examples.store import StoredWindow
from nearvote.learn.corpus import Corpus, Matrix, corpus_of
from nearvote.learn.votes import (
    Candidates,
    count,
    fuse,
    meaning_candidates,
    meaning_kernel,
    seated,
    surface_candidates,
    surface_kernel,
)
from nearvote.seeding import shipped_seeds
from nearvote.settings import read_settings
from nearvote.tasks.document import task_from_document
from nearvote.tasks.task import Task
from nearvote.text.surface import fingerprint
from nearvote.voting.policy import Policy

KS = (5, 10, 20, 30)
TEMPERATURES = (0.05, 0.1, 0.2)
EXPONENTS = (2.0, 4.0, 8.0)
SURFACE_WEIGHTS = (0.0, 0.2, 0.4, 0.6)
CLASS_SIZE_EXPONENTS = (0.0, 0.5, 1.0)
THRESHOLDS = (0.3, 0.4, 0.5)  # multi-label tasks only


async def corpus_of_seeds(task: Task, embedder: Embedder) -> Corpus:
    """A shipped task's examples, as the store would hold them."""
    with (shipped_seeds() / f"{task.name}.jsonl").open("rb") as lines:
        drafts = [draft for _, draft in ExampleFile(lines, task.name) if isinstance(draft, Draft)]
    embedded = await embedder.embed([draft.text for draft in drafts])
    windows = []
    for draft, vectors, surface in zip(drafts, embedded.windows, embedded.surfaces, strict=True):
        id_ = example_id("", task.name, draft.text)
        windows += [
            StoredWindow(
                f"{id_} {i}",
                id_,
                i,
                tuple(sorted(draft.labels)),
                draft.weight,
                draft.source,
                fingerprint(surface),
                draft.text,
                vector,
                None if i else surface,
            )
            for i, vector in enumerate(vectors)
        ]
    return corpus_of(windows, task.label_names)


def votes(task: Task, corpus: Corpus, policy: Policy, meaning: Candidates, surface: Candidates) -> Matrix:
    """What the others say of each example."""
    both = [
        count(
            candidates,
            seated(candidates, corpus, policy.k, policy.max_group_share),
            corpus,
            weigh,
            class_size_exponent=policy.class_size_exponent,
            multi_label=task.multi_label,
        )
        for candidates, weigh in (
            (meaning, meaning_kernel(policy.temperature)),
            (surface, surface_kernel(policy.surface_exponent)),
        )
    ]
    return fuse(both[0], both[1], policy)


def given(task: Task, scores: Matrix, threshold: float) -> npt.NDArray[np.bool_]:
    """The labels that scores lead to, nobody abstaining."""
    best = np.zeros(scores.shape, np.bool_)
    best[np.arange(len(scores)), scores.argmax(axis=1)] = True
    if not task.multi_label:
        return best
    benign = task.label_names.index(task.benign_label)
    above = scores >= threshold
    above[:, benign] = False
    rest = ~above.any(axis=1)
    others = np.where(np.arange(scores.shape[1]) == benign, -1, scores)
    some = rest & (1 - scores[:, benign] >= threshold)
    above[some, others[some].argmax(axis=1)] = True
    above[rest & ~some, benign] = True
    return above


def margins_of(task: Task, scores: Matrix, threshold: float) -> Matrix:
    """How clear each answer is, as `voting.prediction.decide` has it."""
    if not task.multi_label:
        top = np.sort(scores, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])
    benign = task.label_names.index(task.benign_label)
    lead = scores - threshold
    lead[:, benign] = 1 - scores[:, benign] - threshold
    return np.asarray(np.where((lead >= 0).any(axis=1), lead.max(axis=1), (-lead).min(axis=1)))


def macro_f1(said: npt.NDArray[np.bool_], has: npt.NDArray[np.bool_]) -> float:
    """Mean over labels of the harmonic mean of precision and recall."""
    return float((2 * (said & has).sum(axis=0) / np.maximum(1, said.sum(axis=0) + has.sum(axis=0))).mean())


def choose(task: Task, corpus: Corpus) -> tuple[Policy, float, float]:
    """The policy, its macro-F1 when nobody abstains, and that of the defaults."""
    own = np.arange(len(corpus))
    width = 2 * max(KS)
    meaning = meaning_candidates(corpus.texts, corpus, width, own=own, project=lambda vectors: vectors)
    surface = surface_candidates(corpus.texts, corpus, width, own=own)
    found = []
    for k, temperature, exponent, weight, class_size in product(
        KS, TEMPERATURES, EXPONENTS, SURFACE_WEIGHTS, CLASS_SIZE_EXPONENTS
    ):
        policy = Policy(
            k=k,
            temperature=temperature,
            surface_exponent=exponent,
            surface_weight=weight,
            class_size_exponent=class_size,
        )
        scores = votes(task, corpus, policy, meaning, surface)
        for threshold in THRESHOLDS if task.multi_label else (0.5,):
            f1 = macro_f1(given(task, scores, threshold), corpus.has)
            found.append((f1, replace(policy, score_threshold=threshold), scores))
    best, policy, scores = max(found, key=lambda one: one[0])
    margins = margins_of(task, scores, policy.score_threshold)
    before = macro_f1(given(task, votes(task, corpus, Policy(), meaning, surface), 0.5), corpus.has)
    return replace(policy, margin_floor=round(float(np.quantile(margins, 0.1)), 2)), best, before


def similarity_floor(task: Task, corpus: Corpus) -> float:
    """Where the task ends."""
    own = np.arange(len(corpus))
    names = task.label_names
    if task.out_of_scope_label not in names:
        found = meaning_candidates(corpus.texts, corpus, 1, own=own, project=lambda vectors: vectors)
        return round(float(np.quantile(found.similarity[:, 0], 0.01)), 2)
    outside = corpus.has[:, names.index(task.out_of_scope_label)]
    inside = np.flatnonzero(~outside)
    place = np.full(len(corpus), -1)
    place[inside] = np.arange(len(inside))
    voters = corpus.take(inside)
    found = meaning_candidates(corpus.texts, voters, 1, own=place, project=lambda vectors: vectors)
    nearest = found.similarity[:, 0]
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
    batcher = Batcher(encoder)
    embedder = Embedder(encoder, batcher)
    path = shipped_seeds() / "tasks.json"
    documents: list[dict[str, Any]] = json.loads(path.read_text())
    for document in documents:
        task = task_from_document(document)
        corpus = await corpus_of_seeds(task, embedder)
        policy, f1, before = choose(task, corpus)
        policy = replace(policy, similarity_floor=similarity_floor(task, corpus))
        print(f"{task.name}: macro-F1 {f1:.3f} (defaults {before:.3f})\n  {policy}")
        names = (
            "k",
            "temperature",
            "surface_weight",
            "surface_exponent",
            "class_size_exponent",
            "similarity_floor",
            "margin_floor",
        )
        document["policy"] = {name: getattr(policy, name) for name in names} | (
            {"score_threshold": policy.score_threshold} if task.multi_label else {}
        )
    await batcher.close()
    if "--write" in sys.argv:
        path.write_text(json.dumps(documents, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
