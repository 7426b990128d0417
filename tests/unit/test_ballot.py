import math

import pytest

from nearvote.voting.ballot import Ballot, ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.policy import Policy, Rules

_NO_SIZES = ClassSizes()


def _rules(*labels: str, multi_label: bool = False, exponent: float = 0.0) -> Rules:
    return Rules(labels, multi_label=multi_label, policy=Policy(temperature=0.1, class_size_exponent=exponent))


def _voter(labels: str, similarity: float, weight: float = 1.0, id_: str = "") -> Neighbor:
    return Neighbor(id_ or f"{labels}{similarity}", tuple(labels), similarity, weight)


def test_nobody_votes() -> None:
    """Without neighbours every label has the score 0, in the order of the alphabet."""
    ballot = count_votes([], _rules("b", "a"), _NO_SIZES)
    assert ballot == Ballot({"a": 0.0, "b": 0.0}, ())
    assert list(ballot.scores) == ["a", "b"]


def test_a_vote_falls_to_1_over_e_with_the_temperature() -> None:
    """A vote that is further off by the temperature weighs 1/e."""
    ballot = count_votes([_voter("a", 0.7), _voter("b", 0.8)], _rules("a", "b"), _NO_SIZES)
    assert ballot.scores == pytest.approx({"b": 1 / (1 + math.exp(-1)), "a": 1 / (1 + math.e)})
    assert list(ballot.scores) == ["b", "a"]


def test_an_example_of_double_weight_counts_twice() -> None:
    """An example's weight multiplies its vote."""
    ballot = count_votes([_voter("a", 0.5, 2.0), _voter("b", 0.5)], _rules("a", "b"), _NO_SIZES)
    assert ballot.scores == pytest.approx({"a": 2 / 3, "b": 1 / 3})


def test_shares_are_parts_of_all_votes() -> None:
    """The voters come nearest first, each with its part of all votes."""
    ballot = count_votes([_voter("b", 0.4), _voter("a", 0.5), _voter("a", 0.5, id_="z")], _rules("a", "b"), _NO_SIZES)
    assert [v.similarity for v in ballot.neighbors] == [0.5, 0.5, 0.4]
    total = 2 + math.exp(-1)
    assert [v.share for v in ballot.neighbors] == pytest.approx([1 / total, 1 / total, math.exp(-1) / total])


@pytest.mark.parametrize(
    ("exponent", "expected"), [(0.0, {"a": 2 / 3, "b": 1 / 3}), (0.5, {"a": 0.5, "b": 0.5}), (1.0, {"b": 2 / 3})]
)
def test_class_sizes(exponent: float, expected: dict[str, float]) -> None:
    """Votes for a label are divided by its number of examples to the power of the exponent."""
    voters = [_voter("a", 0.5), _voter("a", 0.5, id_="z"), _voter("b", 0.5)]
    sizes = ClassSizes(5, {"a": 4})  # b is missing, so it counts as one example
    ballot = count_votes(voters, _rules("a", "b", exponent=exponent), sizes)
    assert expected == pytest.approx({label: ballot.scores[label] for label in expected})
    assert sum(v.share for v in ballot.neighbors if "a" in v.labels) == pytest.approx(ballot.scores["a"])


def test_multi_label_asks_each_label() -> None:
    """In a multi-label task a label's score is the part of the votes that have it."""
    voters = [_voter("ab", 0.5), _voter("a", 0.5), _voter("c", 0.5, 2.0)]
    ballot = count_votes(voters, _rules("a", "b", "c", "d", multi_label=True), _NO_SIZES)
    assert ballot.scores == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.5, "d": 0.0})
    assert [v.share for v in ballot.neighbors] == pytest.approx([0.25, 0.25, 0.5])


def test_multi_label_class_sizes() -> None:
    """In a multi-label task yes is divided by the examples that have the label, no by those that don't."""
    voters = [_voter("a", 0.5), _voter("b", 0.5)]
    sizes = ClassSizes(10, {"a": 2, "b": 8})
    ballot = count_votes(voters, _rules("a", "b", multi_label=True, exponent=1.0), sizes)
    assert ballot.scores == pytest.approx({"a": (1 / 2) / (1 / 2 + 1 / 8), "b": (1 / 8) / (1 / 8 + 1 / 2)})


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_that_the_task_does_not_have(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Neighbours with none of the task's labels are left out, and change nothing of what the others decide."""
    rules = _rules("a", "b", multi_label=multi_label)
    voters = [_voter("a", 0.5), _voter("b", 0.4)]
    assert count_votes(voters, rules, _NO_SIZES) == count_votes([_voter("x", 0.9), *voters], rules, _NO_SIZES)
    assert count_votes([_voter("x", 0.9)], rules, _NO_SIZES).neighbors == ()


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_smallest_weight_is_a_vote(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """However small an example's weight and however large its class, its vote is all when there is no other."""
    rules = _rules("a", "b", multi_label=multi_label, exponent=1.0)
    ballot = count_votes([_voter("a", 0.5, 0.001)], rules, ClassSizes(2000, {"a": 1000, "b": 1000}))
    assert ballot.scores == {"a": 1.0, "b": 0.0}


def test_ties_go_to_the_nearer_then_to_the_smaller_id() -> None:
    """Labels of equal score are in the order of their nearest voters; equally near voters are in that of their ids."""
    ballot = count_votes([_voter("a", 0.5, id_="2"), _voter("b", 0.5, id_="1")], _rules("a", "b"), _NO_SIZES)
    assert list(ballot.scores) == ["b", "a"]


def test_ties_without_votes_go_by_the_alphabet() -> None:
    """Labels that nobody voted for are in the order of the alphabet, after the others."""
    ballot = count_votes([_voter("m", 0.5)], _rules("z", "b", "m", "a"), _NO_SIZES)
    assert list(ballot.scores) == ["m", "a", "b", "z"]


def test_very_small_temperatures_do_not_overflow() -> None:
    """However small the temperature, the nearest vote counts in full."""
    rules = Rules(("a", "b"), policy=Policy(temperature=1e-6))
    assert count_votes([_voter("a", 1.0), _voter("b", -1.0)], rules, _NO_SIZES).scores == {"a": 1.0, "b": 0.0}


def test_nearest_with() -> None:
    """The nearest voter that has a label is found, and none for a label that nobody has."""
    ballot = count_votes([_voter("a", 0.5), _voter("b", 0.7), _voter("ab", 0.6)], _rules("a", "b"), _NO_SIZES)
    nearest = ballot.nearest_with("a")
    assert nearest is not None
    assert nearest.similarity == 0.6
    assert ballot.nearest_with("c") is None
