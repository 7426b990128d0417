"""Setting floors, margins and thresholds for a stated goal, on judged texts."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nearvote.learn.goal import Goal, GoalKind
from nearvote.voting.ballot import Ballot
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.policy import LabelPolicy, Policy, Rules
from nearvote.voting.prediction import decide
from nearvote.voting.prototypes import Matrix

Flags = npt.NDArray[np.bool_]

# Where nothing shows what a task is not about, so many right answers in a hundred are given up to catch it.
_GIVEN_UP = 0.02
# Nothing is further from its nearest example than all but so many examples are from theirs, in a hundred.
_FAR = 0.002
_NEAR_ENOUGH = 0.9  # however alike the examples are, this is near
# Thresholds of so many labels can be chosen together; of more each has too few examples.
_MOST_THRESHOLDS = 10
_STEPS = np.round(np.arange(0.02, 0.99, 0.01), 2)
_ROUNDS = 4
_LEAST_THRESHOLD = 0.3  # a label that is less likely than this is not to be given, whatever F1 gains by it
_RECALL_ROUNDS = 60
_LEAST_OUTSIDE = 5


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Texts whose right labels are known, and what was said of them by those that have not seen them.

    Attributes:
        scores: (n, labels) float32, probabilities.
        has: (n, labels) bool; rows of False for texts out of scope.
        scope: (n,) float32, how surely each is in scope, in [0, 1].
        top_similarity: (n,) float32, of the nearest example in the meaning view.
    """

    scores: Matrix
    has: Flags
    scope: Matrix
    top_similarity: Matrix

    def answered(self, policy: Policy, rules: Rules) -> dict[str, float]:
        """Share of texts in scope that get an answer with a policy, and share of right ones among these."""
        given, answers = _answers(self, policy, rules)
        inside = _inside(self, rules)
        right = (given == self.has).all(axis=1) & answers
        count = int((answers & inside).sum())
        return {
            "coverage": float((answers & inside).sum() / max(1, inside.sum())),
            "accuracy_of_answered": float((right & inside).sum() / max(1, count)),
        }


def with_floors(policy: Policy, rules: Rules, goal: Goal, judged: Judged) -> Policy:
    """A policy with floors and thresholds for a goal.

    What a label's score leads to (review, block) stays as it is. 0 is a floor like any other.

    Args:
        policy: The policy that scores were given by.
        rules: The task's labels.
        goal: What is to be reached.
        judged: Texts to reach it on.
    """
    inside = _inside(judged, rules)
    near = judged.top_similarity[inside]
    nearness = min(_NEAR_ENOUGH, _down(float(np.quantile(near, _FAR)))) if len(near) else policy.similarity_floor
    policy = replace(
        policy,
        margin_floor=0.0,
        similarity_floor=nearness,
        scope_floor=0.0,
        labels={label: replace(own, score_threshold=None, margin_floor=None) for label, own in policy.labels.items()},
    )
    if rules.multi_label:
        return _thresholds_of_many(policy, rules, goal, judged)
    if goal.kind is GoalKind.TARGET_PRECISION:
        return _margins(policy, rules, judged, goal.value)
    if goal.kind is GoalKind.MAX_FALSE_POSITIVES:
        return _few_false_positives(policy, rules, goal.value / 1000, judged)
    many = len(rules.labels) > _MOST_THRESHOLDS
    if not rules.benign_label and len(rules.labels) > 2:  # noqa: PLR2004 - two labels have no third to be unlike
        policy = replace(policy, scope_floor=_scope_floor(judged, rules, inside, goal))
        many = many or goal.kind is GoalKind.TARGET_RECALL  # of all labels together
    if many:
        return policy
    if goal.kind is GoalKind.TARGET_RECALL:
        return _with_thresholds(policy, rules, _thresholds_for_recall(rules, judged, goal.value))
    return _with_thresholds(policy, rules, _thresholds_for_f1(judged.scores[inside], judged.has[inside]))


def _few_false_positives(policy: Policy, rules: Rules, share: float, judged: Judged) -> Policy:
    """Margins or, where the task has no benign label, a scope floor; or else the precision that comes to the same."""
    outside = ~_inside(judged, rules)
    if rules.benign_label:
        return _margins_for_benign(policy, rules, share, judged)
    if outside.sum() < _LEAST_OUTSIDE:
        return _margins(policy, rules, judged, 1 - share)
    floor = float(np.quantile(judged.scope[outside], 1 - share, method="higher"))
    return replace(policy, scope_floor=_up(floor))


def _inside(judged: Judged, rules: Rules) -> Flags:
    inside = judged.has.any(axis=1)
    if rules.out_of_scope_label in rules.labels:
        inside &= ~judged.has[:, rules.labels.index(rules.out_of_scope_label)]
    return np.asarray(inside, np.bool_)


def _best(scores: Matrix) -> npt.NDArray[np.int64]:
    return np.asarray(scores.argmax(axis=1), np.int64)


def _margin(scores: Matrix) -> Matrix:
    if scores.shape[1] < 2:  # noqa: PLR2004
        return scores[:, 0]
    top = np.partition(scores, -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2], np.float32)


def _up(value: float) -> float:
    """A little above, rounded for people; never above 1."""
    return float(min(1.0, np.ceil(value * 1e4 + 1e-6) / 1e4))


def _down(value: float) -> float:
    return float(np.floor(value * 1e4) / 1e4)


def _scope_floor(judged: Judged, rules: Rules, inside: Flags, goal: Goal) -> float:
    """The score below which a text is taken to be out of scope."""
    best = _best(judged.scores)
    right = inside & judged.has[np.arange(len(best)), best]
    if not right.any():
        return 0.0
    surest = np.sort(judged.scope[right])
    if goal.kind is GoalKind.TARGET_RECALL:  # the strictest floor that leaves so many right answers
        needed = int(np.ceil(goal.value * inside.sum()))
        return _down(float(surest[len(surest) - needed])) if needed <= len(surest) else 0.0
    outside = ~inside
    if rules.out_of_scope_label in rules.labels:  # those that its examples win are caught without a floor
        outside &= best != rules.labels.index(rules.out_of_scope_label)
    if (~inside).sum() < _LEAST_OUTSIDE:
        return _down(float(np.quantile(surest, _GIVEN_UP)))
    floors = np.append(0.0, np.unique(judged.scope))
    lost = np.searchsorted(surest, floors, side="left") / inside.sum()
    caught = np.searchsorted(np.sort(judged.scope[outside]), floors, side="left") / (~inside).sum()
    return _down(float(floors[int(np.argmax(caught - lost))]))


def _margins(policy: Policy, rules: Rules, judged: Judged, precision: float) -> Policy:
    """For each label the least margin at which so many of those that get it have it."""
    best, margin = _best(judged.scores), _margin(judged.scores)
    right = judged.has[np.arange(len(best)), best]
    labels = dict(policy.labels)
    for i, label in enumerate(rules.labels):
        if label == rules.benign_label:
            continue
        given = best == i
        floor = _least_floor(margin[given], right[given], precision)
        labels[label] = replace(labels.get(label, LabelPolicy()), margin_floor=floor)
    return replace(policy, labels=labels)


def _least_floor(value: Matrix, right: Flags, share: float) -> float:
    """The least value from which on at least this share is right; 1 when there is none."""
    if not len(value):
        return 0.0
    order = np.argsort(-value, kind="stable")
    kept = np.arange(1, len(value) + 1)
    enough = np.cumsum(right[order]) >= share * kept - 1e-9
    # Of equal values all are kept or none.
    last = np.append(value[order][:-1] != value[order][1:], [True])
    places = np.flatnonzero(enough & last)
    if not len(places):
        return 1.0
    if places[-1] == len(value) - 1:
        return 0.0
    return _down(float(value[order][places[-1]]))


def _margins_for_benign(policy: Policy, rules: Rules, share: float, judged: Judged) -> Policy:
    """One margin for all labels but the benign one, at which few enough benign texts get one of them.

    False positives are few, so they are counted in two ways, and the higher number goes: those that there are, and
    those that the probabilities let expect and a standard deviation more, since what is expected is exceeded half of
    the time.
    """
    benign = rules.labels.index(rules.benign_label)
    negative = judged.has[:, benign] | ~_inside(judged, rules)
    allowed = share * negative.sum()
    given = np.flatnonzero(_best(judged.scores) != benign)
    margins = _margin(judged.scores)[given]
    order = np.argsort(-margins, kind="stable")
    counted = np.cumsum(negative[given[order]])
    chance = judged.scores[given[order], benign]
    expected = np.cumsum(chance) + np.sqrt(np.cumsum(chance * (1 - chance)))
    # Both grow. Less than half a false positive is none.
    kept = int(((counted <= allowed + 1e-9) & (expected <= max(allowed, 0.5))).sum())
    floor = _up(float(margins[order[kept]])) if kept < len(order) else 0.0  # just above the first that is too many
    labels = dict(policy.labels)
    for label in rules.labels:
        if label != rules.benign_label:
            labels[label] = replace(labels.get(label, LabelPolicy()), margin_floor=floor)
    return replace(policy, labels=labels)


def _thresholds_for_f1(scores: Matrix, has: Flags) -> Matrix | None:
    """Thresholds, summing to 1, by which the label with most in parts of its threshold has the best macro-F1.

    Coordinate ascent from equal ones. None where equal ones are as good.
    """
    count = scores.shape[1]
    if not len(scores):
        return None
    thresholds = np.full(count, 1 / count)
    best = start = _macro_f1(scores / thresholds, has)
    for _ in range(_ROUNDS):
        for i in range(count):
            for step in (0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5):
                tried = thresholds.copy()
                tried[i] *= step
                tried /= tried.sum()
                value = _macro_f1(scores / tried, has)
                if value > best + 1e-4:
                    best, thresholds = value, tried
    # A gain within chance is none: half a standard error of a share of this many texts.
    return thresholds.astype(np.float32) if best - start > 0.25 / np.sqrt(max(1, len(scores))) else None


def _macro_f1(scores: npt.NDArray[np.floating], has: Flags) -> float:
    given = np.zeros_like(has)
    given[np.arange(len(given)), scores.argmax(axis=1)] = True
    used = has.any(axis=0)
    return float((2 * (given & has).sum(axis=0)[used] / (given.sum(axis=0) + has.sum(axis=0))[used]).mean())


def _thresholds_for_recall(rules: Rules, judged: Judged, recall: float) -> Matrix | None:
    """Thresholds, summing to 1, lowered for labels that lack recall until each but the benign one has it.

    None where equal ones do, or where none come closer to it: then the label with the highest score is given.
    """
    count = len(rules.labels)
    asked = [i for i, label in enumerate(rules.labels) if label != rules.benign_label and judged.has[:, i].any()]

    def lowest(thresholds: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        best = (judged.scores / thresholds).argmax(axis=1)
        recalls = np.array([(best[judged.has[:, i]] == i).mean() for i in asked])
        return float(recalls.min(initial=1.0)), recalls

    thresholds = np.full(count, 1 / count)
    start, recalls = lowest(thresholds)
    reached, found = start, thresholds
    for _ in range(_RECALL_ROUNDS):
        if reached >= recall:
            break
        thresholds = thresholds.copy()
        thresholds[[i for i, own in zip(asked, recalls, strict=True) if own < recall]] *= 0.9
        thresholds = thresholds / thresholds.sum()
        value, recalls = lowest(thresholds)
        if value > reached:
            reached, found = value, thresholds
    return found.astype(np.float32) if reached > start else None


def _with_thresholds(policy: Policy, rules: Rules, thresholds: Matrix | None) -> Policy:
    if thresholds is None:
        return policy
    labels = dict(policy.labels)
    for label, threshold in zip(rules.labels, thresholds, strict=True):
        # Rounded down, so that they never sum to more than 1: some label is always given.
        labels[label] = replace(labels.get(label, LabelPolicy()), score_threshold=_down(float(threshold)))
    return replace(policy, labels=labels)


def _thresholds_of_many(policy: Policy, rules: Rules, goal: Goal, judged: Judged) -> Policy:
    """In a multi-label task each label's own threshold, and that of the question whether any applies."""
    benign = rules.labels.index(rules.benign_label) if rules.benign_label else None
    asked = [i for i in range(len(rules.labels)) if i != benign]
    any_score = 1 - judged.scores[:, benign] if benign is not None else judged.scores.max(axis=1)
    has_any = np.asarray(~judged.has[:, benign] if benign is not None else judged.has.any(axis=1), np.bool_)
    if goal.kind is GoalKind.MAX_FALSE_POSITIVES:
        # One threshold for all questions: each of them alone would spend all that is allowed.
        highest = np.maximum(judged.scores[:, asked].max(axis=1, initial=0.0), any_score)[~has_any]
        highest = np.sort(highest)[::-1]
        allowed = int(goal.value / 1000 * len(highest))
        common = max(0.5, _up(float(highest[allowed]))) if len(highest) > allowed else 0.5
        thresholds = dict.fromkeys(asked, common)
    else:
        common = _threshold_of(any_score, has_any, goal) if benign is not None else policy.score_threshold
        thresholds = {i: _threshold_of(judged.scores[:, i], judged.has[:, i], goal) for i in asked}
    labels = dict(policy.labels)
    for i, threshold in thresholds.items():
        label = rules.labels[i]
        labels[label] = replace(labels.get(label, LabelPolicy()), score_threshold=threshold)
    return replace(policy, labels=labels, score_threshold=common)


def _threshold_of(scores: Matrix, has: Flags, goal: Goal) -> float:
    """A label's threshold: of the best F1, the least with a precision, or the greatest with a recall."""
    if not has.any():
        return 0.5
    given = scores[:, None] >= _STEPS[None, :]
    hits, given_count = (given & has[:, None]).sum(axis=0), given.sum(axis=0)
    if goal.kind is GoalKind.TARGET_PRECISION:
        reached = np.flatnonzero(hits >= goal.value * np.maximum(given_count, 1) - 1e-9)
        return float(_STEPS[reached[0]]) if len(reached) else 1.0
    if goal.kind is GoalKind.TARGET_RECALL:
        reached = np.flatnonzero(hits >= goal.value * has.sum() - 1e-9)
        return float(_STEPS[reached[-1]]) if len(reached) else 0.0
    f1 = np.where(_STEPS >= _LEAST_THRESHOLD, 2 * hits / np.maximum(given_count + has.sum(), 1), -1)
    best = np.flatnonzero(f1 >= f1.max() - 1e-9)
    return float(_STEPS[best[len(best) // 2]])


def _answers(judged: Judged, policy: Policy, rules: Rules) -> tuple[Flags, Flags]:
    """Which labels each text is given, and whether it is answered: `voting.prediction.decide` for many texts."""
    given = np.zeros_like(judged.has)
    answers = np.zeros(len(judged.has), np.bool_)
    ruled = replace(rules, policy=policy)
    place = {label: i for i, label in enumerate(rules.labels)}
    for i, row in enumerate(judged.scores.tolist()):
        scores = dict(sorted(zip(rules.labels, row, strict=True), key=lambda item: -item[1]))
        voter = Neighbor("", (), float(judged.top_similarity[i]))
        prediction = decide("", ruled, Ballot(scores, (voter,), in_scope_score=float(judged.scope[i])))
        answers[i] = not prediction.abstained
        for label in prediction.labels:
            given[i, place[label]] = True
    return given, answers
