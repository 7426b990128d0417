"""Floors, margins and thresholds for a stated goal."""

from dataclasses import replace

import numpy as np
import pytest

from nearvote.learn.floors import Judged, with_floors
from nearvote.learn.goal import Goal, GoalKind
from nearvote.voting.ballot import Ballot
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.policy import LabelPolicy, Policy, Rules
from nearvote.voting.prediction import Prediction, decide

LABELS = ("a", "b", "c")
BENIGN = Rules(LABELS, benign_label="c")
F1, PRECISION, RECALL, FEW = GoalKind


def judged(
    count: int = 400, *, seed: int = 0, outside: int = 0, sharpness: float = 1.5, shares: tuple[float, ...] = (1, 1, 1)
) -> Judged:
    """Texts that are mostly judged right, the surer the oftener; and some out of scope, about which nothing is sure."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=np.array(shares) / sum(shares))
    logits = rng.standard_normal((count, 3))
    logits[np.arange(count), truth] += sharpness
    logits = np.concatenate([sharpness * logits, 0.3 * rng.standard_normal((outside, 3))])
    powers = np.exp(logits)
    scores = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    has = np.zeros((count + outside, 3), np.bool_)
    has[np.arange(count), truth] = True
    scope = np.concatenate([rng.uniform(0.4, 1, count), rng.uniform(0, 0.5, outside)]).astype(np.float32)
    top = np.concatenate([rng.uniform(0.3, 1, count), rng.uniform(0.2, 0.6, outside)]).astype(np.float32)
    return Judged(scores, has, scope, top)


def of_many(count: int = 400, seed: int = 0) -> Judged:
    """The same in a multi-label task: of a and b any, or c alone."""
    rng = np.random.default_rng(seed)
    has = rng.random((count, 3)) < 0.3
    has[:, 2] = ~has[:, :2].any(axis=1)
    scores = 1 / (1 + np.exp(-(3 * has - 1.5 + rng.standard_normal((count, 3)))))
    return Judged(scores.astype(np.float32), has, np.ones(count, np.float32), np.ones(count, np.float32))


def answers(texts: Judged, policy: Policy, rules: Rules) -> list[Prediction]:
    """What a policy makes of judged texts."""
    ruled = replace(rules, policy=policy)
    return [
        decide(
            "t",
            ruled,
            Ballot(
                dict(sorted(zip(rules.labels, scores, strict=True), key=lambda item: -item[1])),
                (Neighbor("", (), float(top)),),
                in_scope_score=float(scope),
            ),
        )
        for scores, scope, top in zip(texts.scores.tolist(), texts.scope, texts.top_similarity, strict=True)
    ]


def table(texts: Judged, policy: Policy, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Which labels each text is given and which it has."""
    found = answers(texts, policy, rules)
    return np.array([[label in one.labels for label in rules.labels] for one in found]), texts.has


@pytest.mark.parametrize("value", [0.7, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("rules", [BENIGN, Rules(LABELS)])
def test_a_precision_is_reached(value: float, rules: Rules) -> None:
    """Of the texts that are given a label that many have it, label for label, and no more are given up than needed."""
    texts = judged()
    policy = with_floors(Policy(), rules, Goal(PRECISION, value), texts)
    given, has = table(texts, policy, rules)
    for i, label in enumerate(LABELS):
        if label != rules.benign_label:
            assert (given & has)[:, i].sum() >= value * given[:, i].sum()
    assert given.any()
    looser = with_floors(Policy(), rules, Goal(PRECISION, value - 0.2), texts)
    assert table(texts, looser, rules)[0].sum() >= given.sum()


def test_a_precision_out_of_reach() -> None:
    """A label that is never right is given only when it is beyond doubt."""
    texts = judged(60)
    wrong = Judged(texts.scores, np.roll(texts.has, 1, axis=1) & ~texts.has, texts.scope, texts.top_similarity)
    wrong = replace(wrong, has=~(texts.scores == texts.scores.max(axis=1, keepdims=True)))
    policy = with_floors(Policy(), Rules(LABELS), Goal(PRECISION, 0.9), wrong)
    assert {own.margin_floor for own in policy.labels.values()} == {1.0}
    assert not table(wrong, policy, Rules(LABELS))[0].any()


@pytest.mark.parametrize("value", [0.3, 0.5, 0.6])
def test_a_recall_is_reached(value: float) -> None:
    """Of the texts that have a label, the benign one apart, that many get it; thresholds sum to at most 1."""
    texts = judged(shares=(1, 2, 6))
    policy = with_floors(Policy(), BENIGN, Goal(RECALL, value), texts)
    thresholds = [policy.labels[label].score_threshold for label in LABELS if label in policy.labels]
    assert sum(threshold or 0 for threshold in thresholds) <= 1
    given, has = table(texts, policy, BENIGN)
    recall = (given & has).sum(axis=0) / has.sum(axis=0)
    assert recall[:2].min() >= value - 0.02


def test_more_recall_than_there_is() -> None:
    """A recall of 1 is taken as far as it goes: nobody is given less than without it, and some label always is."""
    texts = judged(shares=(1, 2, 6))
    policy = with_floors(Policy(), BENIGN, Goal(RECALL, 1.0), texts)
    given, has = table(texts, policy, BENIGN)
    assert sum(own.score_threshold or 0 for own in policy.labels.values()) <= 1
    plain, _ = table(texts, Policy(similarity_floor=-1, margin_floor=0), BENIGN)
    assert (given & has)[:, :2].sum() >= (plain & has)[:, :2].sum()


@pytest.mark.parametrize("value", [0.0, 5.0, 50.0, 200.0, 1000.0])
def test_few_false_positives(value: float) -> None:
    """Of 1,000 benign texts no more than asked get another label; 0 is as good a goal as any."""
    texts = judged(shares=(1, 1, 2))
    policy = with_floors(Policy(), BENIGN, Goal(FEW, value), texts)
    given, has = table(texts, policy, BENIGN)
    false = given[:, :2].any(axis=1) & has[:, 2]
    assert false.sum() <= value / 1000 * has[:, 2].sum()
    if value:
        assert (given & has)[:, :2].any(), "something is caught all the same"
    if value == 1000:
        assert {own.margin_floor for own in policy.labels.values()} == {0.0}


def test_false_positives_that_are_to_be_expected() -> None:
    """Where no benign text was given another label by chance, the probabilities say how many are to be expected."""
    scores = np.array([[0.7, 0.0, 0.3]] * 100 + [[0.0, 0.0, 1.0]] * 100, np.float32)
    has = scores == scores.max(axis=1, keepdims=True)
    texts = Judged(scores, has, np.ones(200, np.float32), np.ones(200, np.float32))
    given, _ = table(texts, with_floors(Policy(), BENIGN, Goal(FEW, 10.0), texts), BENIGN)
    assert not given[:, 0].any(), "30 of these 100 will be false"
    given, _ = table(texts, with_floors(Policy(), BENIGN, Goal(FEW, 320.0), texts), BENIGN)
    assert not given[:, 0].any(), "32 are allowed, but 30 expected ones may well be 34"
    given, _ = table(texts, with_floors(Policy(), BENIGN, Goal(FEW, 400.0), texts), BENIGN)
    assert given[:100, 0].all()


def test_false_positives_without_a_benign_label() -> None:
    """Without a benign label those out of scope count; where there are none, the precision that comes to the same."""
    rules, texts = Rules(LABELS), judged(outside=100)
    for value in (0.0, 100.0, 1000.0):
        policy = with_floors(Policy(), rules, Goal(FEW, value), texts)
        given, has = table(texts, policy, rules)
        assert (given.any(axis=1) & ~has.any(axis=1)).sum() <= value / 1000 * 100
    without = judged()
    policy = with_floors(Policy(), rules, Goal(FEW, 50), without)
    assert policy == with_floors(Policy(), rules, Goal(PRECISION, 0.95), without)


def test_the_best_f1() -> None:
    """Thresholds for F1 sum to at most 1, and macro-F1 is no worse by them than without any."""
    texts = judged(shares=(1, 3, 12), sharpness=1.0)

    def macro_f1(policy: Policy) -> float:
        given, has = table(texts, policy, BENIGN)
        return float((2 * (given & has).sum(axis=0) / (given.sum(axis=0) + has.sum(axis=0))).mean())

    policy = with_floors(Policy(), BENIGN, Goal(), texts)
    thresholds = [own.score_threshold or 0 for own in policy.labels.values()]
    assert 0 < sum(thresholds) <= 1
    assert macro_f1(policy) > macro_f1(replace(policy, labels={}))
    assert all(one.labels for one in answers(texts, replace(policy, similarity_floor=-1), BENIGN))


def test_equal_thresholds_where_they_are_as_good() -> None:
    """Where labels are as frequent as each other no threshold is set for a gain within chance."""
    policy = with_floors(Policy(), BENIGN, Goal(), judged(2000, sharpness=3.0))
    assert [own.score_threshold for own in policy.labels.values()] == []


@pytest.mark.parametrize("goal", [Goal(), Goal(RECALL, 0.5), Goal(RECALL, 0.9), Goal(RECALL, 1.0)])
def test_what_is_out_of_scope_is_too_far(goal: Goal) -> None:
    """Texts out of scope raise the scope floor, which leaves as many right answers as the goal asks for."""
    rules, texts = Rules(LABELS), judged(outside=100)
    policy = with_floors(Policy(), rules, goal, texts)
    right = sum(
        one.labels != () and bool(has[LABELS.index(one.labels[0])])
        for one, has in zip(answers(texts, replace(policy, similarity_floor=-1), rules), texts.has, strict=True)
    )
    best = (texts.has[np.arange(500), texts.scores.argmax(axis=1)]).sum()
    if goal.kind is RECALL and goal.value * 400 <= best:
        assert right >= goal.value * 400
    elif goal.kind is RECALL:
        assert policy.scope_floor == 0
    else:
        assert policy.scope_floor > 0.3
        assert right > 0.8 * best


def test_an_out_of_scope_label_is_outside() -> None:
    """Examples of the out-of-scope label count as texts out of scope."""
    texts = judged(shares=(2, 2, 1))
    scope = np.where(texts.has[:, 2], 0.1, 0.9).astype(np.float32)
    rules = Rules(LABELS, out_of_scope_label="c")
    policy = with_floors(Policy(), rules, Goal(), replace(texts, scope=scope))
    assert 0.1 < policy.scope_floor <= 0.9
    assert with_floors(Policy(), Rules(LABELS), Goal(), replace(texts, scope=scope)).scope_floor <= 0.1


def test_what_people_set_stays() -> None:
    """What scores lead to stays; former floors and thresholds go, also those that were 0."""
    labels = {"a": LabelPolicy(0.4, 0.0, score_threshold=0.9, margin_floor=0.0), "b": LabelPolicy(margin_floor=1.0)}
    for goal in (Goal(), Goal(PRECISION, 0.8), Goal(RECALL, 0.8), Goal(FEW, 0)):
        policy = with_floors(Policy(margin_floor=0.9, scope_floor=0.9, labels=labels), BENIGN, goal, judged())
        own = policy.labels["a"]
        assert (own.review_score, own.block_score) == (0.4, 0.0)
        assert (policy.margin_floor, policy.scope_floor) == (0.0, 0.0)
        assert policy.labels["b"].margin_floor != 1.0


def test_the_nearest_of_almost_all() -> None:
    """Nothing but the furthest of the judged texts is below the similarity floor."""
    texts = judged(1000)
    policy = with_floors(Policy(similarity_floor=0.9), BENIGN, Goal(), texts)
    below = (texts.top_similarity < policy.similarity_floor).mean()
    assert 0 < below <= 0.003


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        10.0,
        300.0,
    ],
)
def test_few_false_positives_of_several_labels(value: float) -> None:
    """In a multi-label task no more of the benign texts than asked get any label."""
    rules, texts = replace(BENIGN, multi_label=True), of_many()
    policy = with_floors(Policy(), rules, Goal(FEW, value), texts)
    given, has = table(texts, policy, rules)
    assert (given[:, :2].any(axis=1) & has[:, 2]).sum() <= value / 1000 * has[:, 2].sum()
    if value:
        assert (given & has)[:, :2].any()


@pytest.mark.parametrize("kind", [PRECISION, RECALL])
@pytest.mark.parametrize("value", [0.6, 0.9])
def test_goals_of_several_labels(kind: GoalKind, value: float) -> None:
    """In a multi-label task each label's own threshold reaches the goal."""
    rules, texts = Rules(("a", "b"), multi_label=True), of_many()
    texts = replace(texts, scores=texts.scores[:, :2], has=texts.has[:, :2])
    policy = with_floors(Policy(), rules, Goal(kind, value), texts)
    given, has = table(texts, policy, rules)
    reached = (given & has).sum(axis=0) / (given if kind is PRECISION else has).sum(axis=0)
    assert reached.min() >= value
    assert reached.min() <= value + 0.15, "and no further than needed"


@pytest.mark.parametrize(
    "rules", [BENIGN, Rules(LABELS), Rules(LABELS, multi_label=True), replace(BENIGN, multi_label=True)]
)
@pytest.mark.parametrize("goal", [Goal(), Goal(PRECISION, 1), Goal(RECALL, 1), Goal(FEW, 0), Goal(FEW, 1000)])
@pytest.mark.parametrize("outside", [False, True])
def test_next_to_nothing_to_judge_by(rules: Rules, goal: Goal, *, outside: bool) -> None:
    """One text, of a label or out of scope, gives floors that are numbers in range, too."""
    one = judged(1) if not outside else judged(0, outside=1)
    policy = with_floors(Policy(), rules, goal, one)
    numbers = [policy.similarity_floor, policy.scope_floor, policy.margin_floor, policy.score_threshold]
    numbers += [v for own in policy.labels.values() for v in (own.score_threshold, own.margin_floor) if v is not None]
    assert all(0 <= number <= 1 for number in numbers)
    assert set(one.answered(policy, rules)) == {"coverage", "accuracy_of_answered"}


def test_what_is_answered() -> None:
    """Coverage is of texts in scope, and accuracy of those that are answered."""
    scores = np.array([[0.9, 0.1, 0], [0.5, 0.45, 0.05], [0.2, 0.8, 0], [0.6, 0.4, 0]], np.float32)
    has = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]], np.bool_)
    texts = Judged(scores, has, np.ones(4, np.float32), np.ones(4, np.float32))
    found = texts.answered(Policy(margin_floor=0.1), Rules(LABELS))
    assert found == {"coverage": pytest.approx(2 / 3), "accuracy_of_answered": 0.5}
