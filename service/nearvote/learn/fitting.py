"""Learning from a task's examples: metric, prototypes, kernel, pool and floors, judged on what they have not seen."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from nearvote.errors import CannotFit
from nearvote.learn.corpus import Corpus, Matrix, Places, Texts
from nearvote.learn.floors import Judged, with_floors
from nearvote.learn.folds import fold_count, folds_of, sample_of
from nearvote.learn.goal import Goal
from nearvote.learn.judging import accuracy_of, figures_of
from nearvote.learn.models import STRENGTHS, Model, learn_model
from nearvote.learn.pooling import Opinions, learn_pool, log_score, pooled_scores, scope_scores
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
from nearvote.voting.metric import LinearMetric
from nearvote.voting.policy import Policy, Rules
from nearvote.voting.pool import Pool, Voter
from nearvote.voting.prototypes import Prototypes
from nearvote.voting.seats import OVERSAMPLING

Report = Callable[[float, str], None]

# Fewer judged examples than this say nothing about a policy.
_LEAST_JUDGED = 20
_KS = (10, 20, 40)
_TEMPERATURES = (0.05, 0.1, 0.2)
_EXPONENTS = (2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Messages to judge by instead of the examples: their views, and (messages, labels) bool of what is right."""

    texts: Texts
    has: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What was learned, and what it reached; `figures` by the names of the contract's FitFigures."""

    metric: LinearMetric | None
    in_metric: bool
    prototypes: Prototypes | None
    policy: Policy
    figures: dict[str, Any]


def fit_corpus(
    corpus: Corpus, rules: Rules, goal: Goal, validation: Validation | None, report: Report, *, max_k: int
) -> Learned:
    """Learns from a task's examples.

    Every choice is made on examples judged by those of other folds, in a metric and beside prototypes that were learned
    without them. A metric in which neighbours do no better than in the plain one is left out.

    Args:
        corpus: The examples, one or more.
        rules: The task's labels and present policy.
        goal: What floors and thresholds are set for.
        validation: Messages to choose pool and floors on instead of the examples.
        report: Told the progress, in [0, 1], and what is done; raises when the work is to stop.
        max_k: Neighbours that may vote, at most.

    Raises:
        CannotFit: All examples have the same label, or too few share theirs with another one.
    """
    used = int(corpus.has.any(axis=0).sum())
    if used < 2:  # noqa: PLR2004
        raise CannotFit("all examples have the same label: add examples of another one", field="task")
    judged = sample_of(corpus)
    if len(judged) < _LEAST_JUDGED:
        raise CannotFit(
            f"only {len(judged)} of {len(corpus)} examples share their label with another one: {_LEAST_JUDGED} are the "
            "least to learn from; what serves stays",
            field="task",
        )
    with threadpool_limits(1, user_api="blas"):  # two libraries' threads on the same cores stall one another
        report(0.0, "finding examples of one kind")
        folds = folds_of(corpus, fold_count(len(corpus)))
        return _Fitting(corpus, rules, judged, folds, report, max_k).run(goal, validation)


class _Fitting:
    def __init__(self, corpus: Corpus, rules: Rules, judged: Places, folds: Places, report: Report, max_k: int) -> None:
        self._corpus = corpus
        self._rules = rules
        self._judged = judged
        self._folds = folds
        self._report = report
        self._multi = rules.multi_label
        self._ks = [k for k in _KS if k <= max_k] or [max_k]
        self._targets = _targets(corpus.has, multi_label=self._multi)
        self._steps = 0
        self._stop = threading.Event()

    def run(self, goal: Goal, validation: Validation | None) -> Learned:
        corpus, judged = self._corpus, self._judged
        has = corpus.has[judged]
        targets, weights = self._targets[judged], corpus.weights[judged]
        models = self._models()
        self._report(0.7, "judging examples")

        def in_meaning(texts: Texts, others: Corpus, project: Callable[[Matrix], Matrix]) -> Candidates:
            return meaning_candidates(texts, others, self._width, own=None, project=project)

        surface = self._out_of_fold(
            lambda texts, others, _: surface_candidates(texts, others, self._width, own=None), models
        )
        plain = self._out_of_fold(lambda texts, others, _: in_meaning(texts, others, _plain), models)
        learned = None
        if models[-1].metric is not None:
            learned = self._out_of_fold(lambda texts, others, model: in_meaning(texts, others, model.project), models)
        strength, prototypes = self._cross_fitted(models, targets)
        choices = []
        for candidates, metric in ((plain, False), (learned, True)):
            if candidates is None:
                continue
            policy = self._kernel(candidates, surface, targets)
            opinions: Opinions = {**self._votes(policy, candidates, surface), **prototypes}
            pool = learn_pool(opinions, targets, weights, self._rules.labels, multi_label=self._multi)
            scores = pooled_scores(pool, opinions, self._rules.labels, multi_label=self._multi)
            choices.append((accuracy_of(scores, has), metric, replace(policy, pool=pool), opinions, scores))
        self._report(0.85, "choosing floors")
        # Equal ones: the plain metric, which comes first, needs no vectors of its own.
        _, with_metric, policy, opinions, scores = max(choices, key=lambda choice: round(choice[0], 3))
        before, before_has = self._before(plain, surface), has
        final = models[-1]
        notes = [] if with_metric else ["the plain metric does as well as a learned one, and stays"]
        if validation is not None:
            has = before_has = validation.has
            before = self._before(
                in_meaning(validation.texts, corpus, _plain),
                surface_candidates(validation.texts, corpus, self._width, own=None),
            )
            policy, opinions, scores, meaning = self._validated(
                validation, final, policy, strength, with_metric=with_metric
            )
        else:
            meaning = learned if learned and with_metric else plain
        voters = np.where(
            seated(meaning, corpus, policy.k, policy.max_group_share), meaning.similarity, -np.inf
        ).astype(np.float32)
        nearest = -np.sort(-voters, axis=1)
        # A surface that counts for nothing is not searched, so it tells nothing of the scope either.
        heard = {v: own for v, own in opinions.items() if v is not Voter.SURFACE or policy.asks_surface}
        scope = scope_scores(heard, nearest)
        if self._rules.out_of_scope_label in self._rules.labels:
            scope *= 1 - scores[:, self._rules.labels.index(self._rules.out_of_scope_label)]
        now = Judged(scores, has, scope, nearest[:, 0])
        policy = with_floors(policy, self._rules, goal, now)
        return Learned(
            metric=final.metric.metric if final.metric else None,
            in_metric=with_metric,
            prototypes=final.prototypes(self._rules.labels, strength),
            policy=policy,
            figures={
                "example_count": len(corpus),
                "judged_count": len(scores),
                **figures_of(scores, has),
                **{f"{name}_before": value for name, value in figures_of(before, before_has).items()},
                **now.answered(policy, self._rules),
                "has_metric": with_metric,
                "has_prototypes": True,
                "notes": notes,
            },
        )

    @property
    def _width(self) -> int:
        return min(len(self._corpus), max(*self._ks, self._rules.policy.k) * OVERSAMPLING)

    def _models(self) -> list[Model]:
        """What is learned without each fold, and last what is learned of all examples."""
        fold_numbers = [*range(int(self._folds.max()) + 1), -1]

        def learn(fold: int) -> Model:
            places = np.flatnonzero(self._folds != fold)
            model = learn_model(
                self._corpus.take(places), self._targets[places], multi_label=self._multi, tick=self._tick
            )
            self._steps += 1
            self._tick(f"learning, {self._steps} of {len(fold_numbers)}")
            return model

        with ThreadPoolExecutor(max_workers=_workers(), thread_name_prefix="fit") as pool:
            futures = [pool.submit(learn, fold) for fold in fold_numbers]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _tick(self, stage: str = "") -> None:
        if self._stop.is_set():
            raise CannotFit("another part of the fit failed", field="task")
        self._report(0.05 + 0.6 * self._steps / (int(self._folds.max()) + 2), stage or "learning")

    def _out_of_fold(self, find: Callable[[Texts, Corpus, Model], Candidates], models: list[Model]) -> Candidates:
        """Neighbours of each judged example among those of other folds: as a new text meets what was learned.

        Those of its own fold are no neighbours of it: the metric has not seen them either, so that they lie further
        from those it has seen than they will.
        """
        judged, width = self._judged, self._width
        places = np.zeros((len(judged), width), np.int64)
        similarity = np.full((len(judged), width), -np.inf, np.float32)
        for fold, model in enumerate(models[:-1]):
            rows = np.flatnonzero(self._folds[judged] == fold)
            others = np.flatnonzero(self._folds != fold)
            if len(rows) and len(others):
                found = find(self._corpus.texts.take(judged[rows]), self._corpus.take(others), model)
                count = found.places.shape[1]
                places[rows, :count], similarity[rows, :count] = others[found.places], found.similarity
            self._tick("judging examples")
        return Candidates(places, similarity)

    def _cross_fitted(self, models: list[Model], targets: Matrix) -> tuple[float, dict[Voter, Matrix]]:
        """Opinions of prototypes learned without the example; and how strongly those on n-grams are to be learned."""
        opinions: dict[Voter, Matrix] = {}
        surface: dict[float, Matrix] = {}
        empty = np.full(targets.shape, np.nan, np.float32)
        for fold, model in enumerate(models[:-1]):
            rows = np.flatnonzero(self._folds[self._judged] == fold)
            texts = self._corpus.texts.take(self._judged[rows])
            for voter, own in model.opinions(texts).items():
                opinions.setdefault(voter, empty.copy())[rows] = own
            for strength, own in model.surface_opinions(texts).items():
                surface.setdefault(strength, empty.copy())[rows] = own
        best = max(STRENGTHS, key=lambda strength: log_score(surface[strength], targets, multi_label=self._multi))
        return best, {**opinions, Voter.SURFACE_PROTOTYPES: surface[best]}

    def _kernel(self, meaning: Candidates, surface: Candidates, targets: Matrix) -> Policy:
        """Of each view's kernels the one whose votes alone give most to what is right, for the best k of both."""
        found = []
        for k in self._ks:
            policy = replace(self._rules.policy, k=k, pool=None)
            by_view = []
            for candidates, kernels in (
                (meaning, [(t, meaning_kernel(t)) for t in _TEMPERATURES]),
                (surface, [(e, surface_kernel(e)) for e in _EXPONENTS]),
            ):
                seats = seated(candidates, self._corpus, k, policy.max_group_share)
                votes = [(self._count(candidates, seats, weigh, policy), parameter) for parameter, weigh in kernels]
                by_view.append(
                    max((log_score(own, targets, multi_label=self._multi), parameter) for own, parameter in votes)
                )
            total = by_view[0][0] + by_view[1][0]
            found.append((total, replace(policy, temperature=by_view[0][1], surface_exponent=by_view[1][1])))
        return max(found, key=lambda one: one[0])[1]

    def _count(
        self, candidates: Candidates, seats: npt.NDArray[np.bool_], weigh: Callable[[Matrix], Matrix], policy: Policy
    ) -> Matrix:
        return count(
            candidates,
            seats,
            self._corpus,
            weigh,
            class_size_exponent=policy.class_size_exponent,
            multi_label=self._multi,
        )

    def _votes(self, policy: Policy, meaning: Candidates, surface: Candidates) -> dict[Voter, Matrix]:
        return {
            voter: self._count(
                candidates, seated(candidates, self._corpus, policy.k, policy.max_group_share), weigh, policy
            )
            for voter, candidates, weigh in (
                (Voter.MEANING, meaning, meaning_kernel(policy.temperature)),
                (Voter.SURFACE, surface, surface_kernel(policy.surface_exponent)),
            )
        }

    def _before(self, meaning: Candidates, surface: Candidates) -> Matrix:
        """What the views' votes, averaged in the plain metric by the present policy, say of the judged examples."""
        votes = self._votes(self._rules.policy, meaning, surface)
        return fuse(votes[Voter.MEANING], votes[Voter.SURFACE], self._rules.policy)

    def _validated(
        self, validation: Validation, final: Model, policy: Policy, strength: float, *, with_metric: bool
    ) -> tuple[Policy, Opinions, Matrix, Candidates]:
        """Pool, opinions, scores and neighbours of validation messages instead of the examples.

        Messages out of scope have no part in the pool.
        """
        texts = validation.texts
        meaning = meaning_candidates(
            texts, self._corpus, self._width, own=None, project=final.project if with_metric else _plain
        )
        opinions = {
            **self._votes(policy, meaning, surface_candidates(texts, self._corpus, self._width, own=None)),
            **final.opinions(texts),
            Voter.SURFACE_PROTOTYPES: final.surface_opinions(texts)[strength],
        }
        pool = policy.pool or Pool({})
        inside = np.flatnonzero(validation.has.any(axis=1))
        if len(inside) >= _LEAST_JUDGED:
            pool = learn_pool(
                {voter: own[inside] for voter, own in opinions.items()},
                _targets(validation.has[inside], multi_label=self._multi),
                np.ones(len(inside), np.float32),
                self._rules.labels,
                multi_label=self._multi,
            )
        scores = pooled_scores(pool, opinions, self._rules.labels, multi_label=self._multi)
        return replace(policy, pool=pool), opinions, scores, meaning


def _plain(vectors: Matrix) -> Matrix:
    return vectors


def _workers() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0))))


def _targets(has: npt.NDArray[np.bool_], *, multi_label: bool) -> Matrix:
    targets = has.astype(np.float32)
    return targets if multi_label else targets / np.maximum(targets.sum(axis=1, keepdims=True), 1)
