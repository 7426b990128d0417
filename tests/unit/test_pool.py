"""One answer of several opinions."""

import math

import numpy as np
import pytest

from nearvote.learn.pooling import learn_pool
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.pool import CERTAINTY_WEIGHTS, DOUBT, NEAREST, Opinions, Pool, Voter, in_scope_score

_AB = ("a", "b")


def _softmax(logits: dict[str, float]) -> dict[str, float]:
    powers = {label: math.exp(logit) for label, logit in logits.items()}
    return {label: power / sum(powers.values()) for label, power in powers.items()}


def _doubted(score: float, label_count: int) -> float:
    return (1 - DOUBT) * score + DOUBT / label_count


def test_one_opinion_of_weight_1() -> None:
    """In a single-label task a lone opinion of weight 1 comes out as it is, but for the doubt."""
    found = Pool({Voter.MEANING: 1.0}).scores({Voter.MEANING: {"a": 0.8, "b": 0.2}}, _AB, multi_label=False)
    assert found == pytest.approx({"a": _doubted(0.8, 2), "b": _doubted(0.2, 2)})


def test_one_opinion_on_several_labels() -> None:
    """In a multi-label task each label's score comes out as it is, but for the doubt; they need not sum to 1."""
    found = Pool({Voter.SURFACE: 1.0}).scores({Voter.SURFACE: {"a": 0.8, "b": 0.9}}, _AB, multi_label=True)
    assert found == pytest.approx({"a": _doubted(0.8, 2), "b": _doubted(0.9, 2)})


def test_opinions_multiply() -> None:
    """In a single-label task scores are the product of the opinions, each to the power of its weight."""
    weights = {Voter.MEANING: 0.5, Voter.SURFACE: 0.25, Voter.MEANING_PROTOTYPES: 2.0}
    opinions: Opinions = {
        Voter.MEANING: {"a": 0.7, "b": 0.2, "c": 0.1},
        Voter.SURFACE: {"a": 0.1, "b": 0.9, "c": 0.0},
        Voter.MEANING_PROTOTYPES: {"a": 0.4, "b": 0.4, "c": 0.2},
    }
    logits = {
        label: sum(weights[voter] * math.log(_doubted(opinion[label], 3)) for voter, opinion in opinions.items())
        for label in "abc"
    }
    found = Pool(weights).scores(opinions, ("a", "b", "c"), multi_label=False)
    assert found == pytest.approx(_softmax(logits))


def test_odds_multiply() -> None:
    """In a multi-label task the odds of each label are the product of those of the opinions."""
    opinions: Opinions = {Voter.MEANING: {"a": 0.7, "b": 0.0}, Voter.SURFACE: {"a": 0.1, "b": 0.5}}
    found = Pool({Voter.MEANING: 1.0, Voter.SURFACE: 2.0}).scores(opinions, _AB, multi_label=True)
    odds = {}
    for label in _AB:
        one, two = (_doubted(opinions[voter][label], 2) for voter in (Voter.MEANING, Voter.SURFACE))
        odds[label] = one / (1 - one) * (two / (1 - two)) ** 2
    assert found == pytest.approx({label: value / (1 + value) for label, value in odds.items()})


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_voter_without_weight_is_not_heard(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A voter whose weight is 0, or missing, changes nothing."""
    heard = {Voter.MEANING: {"a": 0.7, "b": 0.2}}
    others = heard | {Voter.SURFACE: {"a": 0.0, "b": 1.0}, Voter.SURFACE_PROTOTYPES: {"a": 0.0, "b": 1.0}}
    pool = Pool({Voter.MEANING: 0.6, Voter.SURFACE: 0.0})
    assert pool.scores(heard, _AB, multi_label=multi_label) == pool.scores(others, _AB, multi_label=multi_label)


def test_small_weights_are_less_decided() -> None:
    """Weights that sum to less make the answer less decided, greater ones more."""
    opinion = {Voter.MEANING: {"a": 0.8, "b": 0.2}}
    found = [Pool({Voter.MEANING: w}).scores(opinion, _AB, multi_label=False)["a"] for w in (0.0, 0.25, 1.0, 4.0)]
    assert found[0] == 0.5
    assert found == sorted(set(found))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_bias_multiplies_odds(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A label's bias multiplies its odds by its exponential, in a multi-label task those of no other."""
    opinion = {Voter.MEANING: {"a": 0.4, "b": 0.4, "c": 0.2}}
    labels = ("a", "b", "c")
    plain = Pool({Voter.MEANING: 1.0}).scores(opinion, labels, multi_label=multi_label)
    found = Pool({Voter.MEANING: 1.0}, {"b": math.log(3), "gone": 9.0}).scores(opinion, labels, multi_label=multi_label)
    assert found["b"] / (1 - found["b"]) == pytest.approx(3 * plain["b"] / (1 - plain["b"]))
    if multi_label:
        assert (found["a"], found["c"]) == (plain["a"], plain["c"])
    else:
        assert found["a"] / found["c"] == pytest.approx(plain["a"] / plain["c"])
    assert set(found) == set(labels)


@pytest.mark.parametrize("multi_label", [False, True])
def test_nothing_is_certain(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A label that nobody voted for is unlikely, not impossible; one that all voted for is not certain."""
    opinion = {Voter.MEANING: {"a": 1.0, "b": 0.0}}
    found = Pool({Voter.MEANING: 1.0}).scores(opinion, _AB, multi_label=multi_label)
    assert found == pytest.approx({"a": 1 - DOUBT / 2, "b": DOUBT / 2})


def test_a_label_that_an_opinion_leaves_out() -> None:
    """A label that an opinion does not know it has not voted for."""
    pool = Pool({Voter.MEANING: 1.0})
    assert pool.scores({Voter.MEANING: {"a": 1.0}}, _AB, multi_label=False) == pool.scores(
        {Voter.MEANING: {"a": 1.0, "b": 0.0}}, _AB, multi_label=False
    )


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("bias", [-1e300, 1e300])
def test_extremes_do_not_overflow(bias: float, multi_label: bool) -> None:  # noqa: FBT001 - as above
    """However large weights and biases are, what comes out is a number in [0, 1]."""
    opinion = {Voter.MEANING: {"a": 0.5, "b": 0.5, "c": 0.0}}
    found = Pool({Voter.MEANING: 1e300}, {"a": bias}).scores(opinion, ("a", "b", "c"), multi_label=multi_label)
    assert all(0 <= value <= 1 for value in found.values())


def test_a_lone_label() -> None:
    """Where a task has one label it has all the probability, with votes or without."""
    pool = Pool({Voter.MEANING: 1.0})
    assert pool.scores({Voter.MEANING: {"a": 0.0}}, ("a",), multi_label=False) == {"a": 1.0}


def _certainty(opinions: Opinions, label_count: int) -> float:
    """What is left of the score when neighbours are as near as can be: twice the score, less the nearness."""
    return 2 * in_scope_score(opinions, label_count, [Neighbor("1", ("a",), 1.0)]) - 1


@pytest.mark.parametrize(
    ("opinion", "expected"),
    [
        ({"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}, 1.0),
        ({"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.0}, 0.5),
        ({"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}, 0.0),
        ({"a": 0.4, "b": 0.4, "c": 0.0, "d": 0.0}, 0.5),
        ({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}, 0.0),
    ],
)
def test_certainty_is_agreement_on_few_labels(opinion: dict[str, float], expected: float) -> None:
    """Who votes for one label of four is certain, who votes for all alike is not, and for two is half."""
    assert _certainty({Voter.SURFACE: opinion}, 4) == pytest.approx(expected)


def test_certain_opinions_that_differ_are_not_certain() -> None:
    """What counts is the mean: voters that are each sure of another label are not certain together."""
    of_a, of_b = {"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}
    assert _certainty({Voter.MEANING: of_a, Voter.SURFACE: of_a}, 2) == pytest.approx(1.0)
    assert _certainty({Voter.MEANING: of_a, Voter.SURFACE: of_b}, 2) == pytest.approx(0.0)


@pytest.mark.parametrize("prototypes", [Voter.MEANING_PROTOTYPES, Voter.SURFACE_PROTOTYPES])
@pytest.mark.parametrize("votes", [Voter.MEANING, Voter.SURFACE])
def test_prototypes_tell_more_of_the_scope(votes: Voter, prototypes: Voter) -> None:
    """In the mean a prototype's opinion counts twice a vote's."""
    assert 2 * CERTAINTY_WEIGHTS[votes] == CERTAINTY_WEIGHTS[prototypes]
    found = _certainty({votes: {"a": 1.0, "b": 0.0}, prototypes: {"a": 0.0, "b": 1.0}}, 2)
    entropy = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    assert found == pytest.approx(1 - entropy / math.log(2))


def test_a_single_label_leaves_nothing_to_doubt() -> None:
    """Of a single label anybody is certain."""
    assert _certainty({Voter.MEANING: {"a": 0.3}}, 1) == 1.0


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [
        ([0.5], 0.5),
        ([0.8, 0.4, 0.3], 0.5),
        ([0.6] * NEAREST + [0.0] * 20, 0.6),
        ([0.9, *[0.1] * (NEAREST - 1), -1.0], 0.18),
        ([-0.5, -0.7], 0.0),
        ([], 0.0),
    ],
)
def test_nearness_is_that_of_the_nearest(similarities: list[float], expected: float) -> None:
    """The score is the mean of certainty and nearness: the mean similarity of the ten nearest, but not below 0."""
    nearest = [Neighbor(str(i), ("a",), similarity) for i, similarity in enumerate(similarities)]
    found = in_scope_score({Voter.MEANING: {"a": 1.0, "b": 0.0}}, 2, nearest)
    assert found == pytest.approx((1 + expected) / 2)


def test_nobody_knows_of_nothing() -> None:
    """Without opinions nothing says that the task is about the message."""
    assert in_scope_score({}, 3, []) == 0.0


def test_neighbours_always_have_a_say() -> None:
    """However little neighbours tell, and however much prototypes do, neighbours keep some weight."""
    rng = np.random.default_rng(0)
    truth = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 400)]
    noise = rng.random((2, 400, 1)).astype(np.float32)
    opinions = {
        Voter.MEANING: np.concatenate([noise[0], 1 - noise[0]], axis=1),
        Voter.SURFACE: np.concatenate([noise[1], 1 - noise[1]], axis=1),
        Voter.PLAIN_PROTOTYPES: 0.9 * truth + 0.05,
    }
    pool = learn_pool(opinions, truth, np.ones(400, np.float32), ("a", "b"), multi_label=False)
    assert pool.weight(Voter.MEANING) >= 0.15
    assert pool.weight(Voter.SURFACE) >= 0.05
    assert pool.weight(Voter.PLAIN_PROTOTYPES) > 0.5
