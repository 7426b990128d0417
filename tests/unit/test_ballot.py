import math
from collections.abc import Mapping
from dataclasses import replace

import pytest

from nearvote.voting.ballot import Ballot, ClassSizes, count_votes, settled_by
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.policy import Policy, Rules
from nearvote.voting.pool import Opinions, Pool, Voter, in_scope_score

_NO_SIZES = ClassSizes()


def _rules(*labels: str, multi_label: bool = False, exponent: float = 0.0) -> Rules:
    return Rules(labels, multi_label=multi_label, policy=Policy(temperature=0.1, class_size_exponent=exponent))


def _voter(labels: str, similarity: float, weight: float = 1.0, id_: str = "") -> Neighbor:
    return Neighbor(id_ or f"{labels}{similarity}", tuple(labels), similarity, weight)


def _count(voters: list[Neighbor], rules: Rules, sizes: ClassSizes = _NO_SIZES) -> Ballot:
    """The ballot of voters in the meaning view alone."""
    return count_votes({View.MEANING: voters}, rules, sizes)


def test_nobody_votes() -> None:
    """Without neighbours every label has the score 0, in the order of the alphabet."""
    ballot = _count([], _rules("b", "a"))
    assert ballot == Ballot({"a": 0.0, "b": 0.0}, ())
    assert list(ballot.scores) == ["a", "b"]


def test_a_vote_falls_to_1_over_e_with_the_temperature() -> None:
    """A vote that is further off by the temperature weighs 1/e."""
    ballot = _count([_voter("a", 0.7), _voter("b", 0.8)], _rules("a", "b"))
    assert ballot.scores == pytest.approx({"b": 1 / (1 + math.exp(-1)), "a": 1 / (1 + math.e)})
    assert list(ballot.scores) == ["b", "a"]


def test_an_example_of_double_weight_counts_twice() -> None:
    """An example's weight multiplies its vote."""
    ballot = _count([_voter("a", 0.5, 2.0), _voter("b", 0.5)], _rules("a", "b"))
    assert ballot.scores == pytest.approx({"a": 2 / 3, "b": 1 / 3})


def test_shares_are_parts_of_all_votes() -> None:
    """The voters come weightiest first, each with its part of all votes."""
    ballot = _count([_voter("b", 0.4), _voter("a", 0.5), _voter("a", 0.5, id_="z")], _rules("a", "b"))
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
    ballot = _count(voters, _rules("a", "b", exponent=exponent), sizes)
    assert expected == pytest.approx({label: ballot.scores[label] for label in expected})
    assert sum(v.share for v in ballot.neighbors if "a" in v.labels) == pytest.approx(ballot.scores["a"])


def test_multi_label_asks_each_label() -> None:
    """In a multi-label task a label's score is the part of the votes that have it."""
    voters = [_voter("ab", 0.5), _voter("a", 0.5), _voter("c", 0.5, 2.0)]
    ballot = _count(voters, _rules("a", "b", "c", "d", multi_label=True))
    assert ballot.scores == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.5, "d": 0.0})
    assert [v.labels for v in ballot.neighbors] == [("c",), ("a",), ("a", "b")]
    assert [v.share for v in ballot.neighbors] == pytest.approx([0.5, 0.25, 0.25])


def test_multi_label_class_sizes() -> None:
    """In a multi-label task yes is divided by the examples that have the label, no by those that don't."""
    voters = [_voter("a", 0.5), _voter("b", 0.5)]
    sizes = ClassSizes(10, {"a": 2, "b": 8})
    ballot = _count(voters, _rules("a", "b", multi_label=True, exponent=1.0), sizes)
    assert ballot.scores == pytest.approx({"a": (1 / 2) / (1 / 2 + 1 / 8), "b": (1 / 8) / (1 / 8 + 1 / 2)})


@pytest.mark.parametrize("multi_label", [False, True])
def test_labels_that_the_task_does_not_have(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Neighbours with none of the task's labels are left out, and change nothing of what the others decide."""
    rules = _rules("a", "b", multi_label=multi_label)
    voters = [_voter("a", 0.5), _voter("b", 0.4)]
    assert _count(voters, rules) == _count([_voter("x", 0.9), *voters], rules)
    assert _count([_voter("x", 0.9)], rules).neighbors == ()


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_smallest_weight_is_a_vote(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """However small an example's weight and however large its class, its vote is all when there is no other."""
    rules = _rules("a", "b", multi_label=multi_label, exponent=1.0)
    ballot = _count([_voter("a", 0.5, 0.001)], rules, ClassSizes(2000, {"a": 1000, "b": 1000}))
    assert ballot.scores == {"a": 1.0, "b": 0.0}


def test_ties_go_to_the_nearer_then_to_the_smaller_id() -> None:
    """Labels of equal score are in the order of their nearest voters; equally near voters are in that of their ids."""
    ballot = _count([_voter("a", 0.5, id_="2"), _voter("b", 0.5, id_="1")], _rules("a", "b"))
    assert list(ballot.scores) == ["b", "a"]


def test_ties_without_votes_go_by_the_alphabet() -> None:
    """Labels that nobody voted for are in the order of the alphabet, after the others."""
    ballot = _count([_voter("m", 0.5)], _rules("z", "b", "m", "a"))
    assert list(ballot.scores) == ["m", "a", "b", "z"]


def test_very_small_temperatures_do_not_overflow() -> None:
    """However small the temperature, the nearest vote counts in full."""
    rules = Rules(("a", "b"), policy=Policy(temperature=1e-6))
    assert _count([_voter("a", 1.0), _voter("b", -1.0)], rules).scores == {"a": 1.0, "b": 0.0}


def test_the_weightiest_come_first() -> None:
    """A voter of more weight comes before a nearer one whose vote counts less."""
    ballot = _count([_voter("a", 0.6, id_="near"), _voter("b", 0.5, 10.0, id_="heavy")], _rules("a", "b"))
    assert [v.example_id for v in ballot.neighbors] == ["heavy", "near"]
    assert ballot.top_similarity == 0.6


def test_who_decided() -> None:
    """The weightiest voter that has a label is found, and none for a label that nobody has."""
    ballot = _count([_voter("a", 0.5), _voter("b", 0.7), _voter("ab", 0.6)], _rules("a", "b"))
    deciding = ballot.deciding("a")
    assert deciding is not None
    assert deciding.similarity == 0.6
    assert ballot.deciding("c") is None


_MEANING = [_voter("a", 0.8, id_="1"), _voter("b", 0.8, id_="2")]


def _surface(labels: str, similarity: float, weight: float = 1.0, id_: str = "") -> Neighbor:
    return replace(_voter(labels, similarity, weight, id_), view=View.SURFACE)


def _both(policy: Policy, meaning: list[Neighbor], surface: list[Neighbor], *, multi_label: bool = False) -> Ballot:
    rules = Rules(("a", "b"), multi_label=multi_label, policy=policy)
    return count_votes({View.MEANING: meaning, View.SURFACE: surface}, rules, _NO_SIZES)


def test_who_decided_has_a_window() -> None:
    """Of the voters with a label one of the meaning view decides, though one of the surface view weighs more."""
    surface = [_surface("a", 7.0, id_="3")]
    ballot = _both(Policy(surface_weight=0.9), [_voter("b", 0.8, id_="2"), _voter("a", 0.3, id_="1")], surface)
    assert ballot.neighbors[0].view is View.SURFACE
    assert [n.example_id for n in (ballot.deciding("a"), ballot.deciding("b")) if n] == ["1", "2"]
    surface_alone = _both(Policy(), [_voter("b", 0.8)], surface).deciding("a")
    assert surface_alone is not None
    assert surface_alone.example_id == "3"


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("weight", "expected"), [(0.0, 0.5), (0.4, 0.7), (0.75, 0.875), (1.0, 1.0)])
def test_views_are_averaged(weight: float, expected: float, multi_label: bool) -> None:  # noqa: FBT001 - as above
    """The views' scores are averaged by their weights, and a view's voters share its weight."""
    ballot = _both(Policy(surface_weight=weight), _MEANING, [_surface("a", 12.0)], multi_label=multi_label)
    assert ballot.scores == pytest.approx({"a": expected, "b": 1 - expected})
    of_surface = sum(v.share for v in ballot.neighbors if v.view is View.SURFACE)
    assert of_surface == pytest.approx(weight)
    assert sum(v.share for v in ballot.neighbors) == pytest.approx(1.0)


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, 0.5), (1.0, 2 / 3), (2.0, 0.8), (6.0, 64 / 65)])
def test_surface_votes_fall_with_a_power(exponent: float, expected: float) -> None:
    """In the surface view a neighbour half as similar as the nearest has half its vote to the power of the exponent."""
    policy = Policy(surface_weight=1.0, surface_exponent=exponent)
    ballot = _both(policy, [], [_surface("b", 6.5), _surface("a", 13.0)])
    assert ballot.scores == pytest.approx({"a": expected, "b": 1 - expected})


def test_surface_votes_weigh_what_their_examples_do() -> None:
    """An example's weight multiplies its vote in the surface view as well."""
    ballot = _both(Policy(surface_exponent=1.0), [], [_surface("a", 2.0), _surface("b", 1.0, 3.0)])
    assert ballot.scores == pytest.approx({"b": 0.6, "a": 0.4})


def test_surface_similarity_has_no_scale() -> None:
    """In the surface view only the proportion of similarities counts, in the meaning view their difference."""
    near, far = _surface("a", 0.8), _surface("b", 0.4)
    scaled = [replace(v, similarity=v.similarity * 64) for v in (near, far)]
    policy = Policy(surface_weight=1.0)
    assert _both(policy, [], [near, far]).scores == _both(policy, [], scaled).scores
    assert _both(policy, [], [near, far]).scores != _both(replace(policy, surface_weight=0.0), [near, far], []).scores


@pytest.mark.parametrize("similarity", [1e-6, 1e6])
def test_surface_votes_neither_vanish_nor_overflow(similarity: float) -> None:
    """However small or great similarities are and whatever the exponent, the nearest has its full vote."""
    policy = Policy(surface_weight=1.0, surface_exponent=100.0)
    ballot = _both(policy, [], [_surface("a", similarity), _surface("b", similarity / 2)])
    assert ballot.scores == pytest.approx({"a": 1.0, "b": 0.0})


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_an_empty_view_leaves_its_weight(weight: float) -> None:
    """A view in which nobody is found leaves its weight to the other, also one that has none of its own."""
    policy = Policy(surface_weight=weight)
    meaning = [_voter("a", 0.8), _voter("b", 0.7)]
    surface = [_surface("b", 8.0), _surface("a", 4.0)]
    for ballot in (_both(policy, meaning, []), _both(policy, meaning, [_surface("x", 9.0)])):
        assert ballot == _both(replace(policy, surface_weight=0.0), meaning, [])
    for ballot in (_both(policy, [], surface), _both(policy, [_voter("x", 1.0)], surface)):
        assert ballot == _both(replace(policy, surface_weight=1.0), [], surface)


def test_no_shared_n_grams_are_no_votes() -> None:
    """A surface view whose nearest neighbour shares nothing with the message is an empty one."""
    ballot = _both(Policy(), _MEANING, [_surface("a", 0.0)])
    assert ballot == _both(Policy(), _MEANING, [])
    assert _both(Policy(), [], [_surface("a", 0.0)]).neighbors == ()


def test_far_neighbours_vote_in_the_meaning_view() -> None:
    """In the meaning view also those at a right angle or beyond vote: they are all there is."""
    assert _both(Policy(), [_voter("a", -0.5), _voter("b", -0.9)], []).scores["a"] > 0.9
    assert _both(Policy(), [_voter("a", 0.0)], []).scores == {"a": 1.0, "b": 0.0}


def test_top_similarity_is_that_of_the_meaning_view() -> None:
    """The similarity told is a cosine: that of the nearest voter in the meaning view, or none."""
    assert _both(Policy(), _MEANING, [_surface("a", 30.0)]).top_similarity == 0.8
    assert _both(Policy(), [], [_surface("a", 30.0)]).top_similarity is None


def test_class_sizes_in_both_views() -> None:
    """The class-size correction is made in each view."""
    rules = Rules(("a", "b"), policy=Policy(class_size_exponent=1.0))
    surface = [_surface("a", 5.0), _surface("b", 5.0)]
    ballot = count_votes({View.MEANING: _MEANING, View.SURFACE: surface}, rules, ClassSizes(4, {"a": 3, "b": 1}))
    assert ballot.scores == pytest.approx({"b": 0.75, "a": 0.25})
    assert [v.labels for v in ballot.neighbors] == [("b",), ("b",), ("a",), ("a",)]


_POOL = Pool({Voter.MEANING: 0.5, Voter.SURFACE: 0.25, Voter.MEANING_PROTOTYPES: 1.0, Voter.SURFACE_PROTOTYPES: 0.25})
_FOUND = {
    View.MEANING: [_voter("a", 0.5, id_="1"), _voter("b", 0.5, 3.0, id_="2")],
    View.SURFACE: [_surface("a", 8.0, id_="1")],
}
_PROTOTYPES = {Voter.MEANING_PROTOTYPES: {"a": 0.3, "b": 0.7}, Voter.SURFACE_PROTOTYPES: {"a": 0.6, "b": 0.4}}


def _pooled(*labels: str, pool: Pool | None = _POOL, multi_label: bool = False) -> Rules:
    return Rules(labels, multi_label=multi_label, policy=Policy(pool=pool))


@pytest.mark.parametrize("multi_label", [False, True])
def test_votes_and_prototypes_are_pooled(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """With a pool the views' votes and the prototypes are pooled, and scores are probabilities."""
    rules = _pooled("a", "b", multi_label=multi_label)
    ballot = count_votes(_FOUND, rules, _NO_SIZES, prototypes=_PROTOTYPES)
    votes = {Voter.MEANING: {"a": 0.25, "b": 0.75}, Voter.SURFACE: {"a": 1.0, "b": 0.0}}
    opinions: Opinions = {**votes, **_PROTOTYPES}
    assert ballot.scores == pytest.approx(_POOL.scores(opinions, ("a", "b"), multi_label=multi_label))
    assert list(ballot.scores.values()) == sorted(ballot.scores.values(), reverse=True)
    assert ballot.in_scope_score == pytest.approx(in_scope_score(opinions, 2, _FOUND[View.MEANING]))
    assert ballot.calibrated


def test_shares_in_a_pool() -> None:
    """In a pool each voter's share goes by the pool's weights: neighbours and prototypes have all of it together."""
    ballot = count_votes(_FOUND, _pooled("a", "b"), _NO_SIZES, prototypes=_PROTOTYPES)
    assert ballot.prototype_share == pytest.approx(1.25 / 2)
    expected = [(View.MEANING, ("b",)), (View.SURFACE, ("a",)), (View.MEANING, ("a",))]
    assert expected == [(v.view, v.labels) for v in ballot.neighbors]
    assert [v.share for v in ballot.neighbors] == pytest.approx([0.25 * 0.75, 0.125, 0.25 * 0.25])


def test_a_voter_that_has_no_opinion_leaves_its_part() -> None:
    """Of a pool's voters those that have no opinion leave their part of the shares to the others."""
    ballot = count_votes({View.MEANING: _FOUND[View.MEANING]}, _pooled("a", "b"), _NO_SIZES, prototypes=_PROTOTYPES)
    assert ballot.prototype_share == pytest.approx(1.25 / 1.75)
    ballot = count_votes(_FOUND, _pooled("a", "b"), _NO_SIZES)
    assert (ballot.prototype_share, ballot.calibrated) == (0.0, True)
    of_surface = sum(v.share for v in ballot.neighbors if v.view is View.SURFACE)
    assert of_surface == pytest.approx(0.25 / 0.75)


def test_a_pool_without_weights_for_who_is_there() -> None:
    """Where only voters without weight have an opinion the views are averaged, as without a pool."""
    for pool in (Pool({Voter.MEANING_PROTOTYPES: 1.0}, {"a": 50.0}), Pool({})):
        ballot = count_votes(_FOUND, _pooled("a", "b", pool=pool), _NO_SIZES)
        assert ballot == count_votes(_FOUND, _pooled("a", "b", pool=None), _NO_SIZES)
        assert not ballot.calibrated
        of_surface = sum(v.share for v in ballot.neighbors if v.view is View.SURFACE)
        assert of_surface == pytest.approx(Policy().surface_weight)


def test_a_pool_without_weights_for_anybody() -> None:
    """Where the prototypes are there and have no weight either, they are left out as well."""
    silent = count_votes(_FOUND, _pooled("a", "b", pool=Pool({})), _NO_SIZES, prototypes=_PROTOTYPES)
    assert silent == count_votes(_FOUND, _pooled("a", "b", pool=None), _NO_SIZES)


def test_prototypes_have_no_vote_without_a_pool() -> None:
    """A policy that has no pool leaves the prototypes out."""
    rules = _pooled("a", "b", pool=None)
    assert count_votes(_FOUND, rules, _NO_SIZES, prototypes=_PROTOTYPES) == count_votes(_FOUND, rules, _NO_SIZES)
    assert not count_votes(_FOUND, rules, _NO_SIZES).calibrated


def test_prototypes_alone_say_nothing() -> None:
    """Where no example is found there is no vote, whatever the prototypes say."""
    nobody: tuple[dict[View, list[Neighbor]], ...] = (
        {},
        {View.MEANING: [], View.SURFACE: []},
        {View.MEANING: [_voter("x", 0.9)]},
    )
    for found in nobody:
        ballot = count_votes(found, _pooled("b", "a"), _NO_SIZES, prototypes=_PROTOTYPES)
        assert ballot == Ballot({"a": 0.0, "b": 0.0}, ())


def _meaning_of(votes: Mapping[str, float]) -> dict[View, list[Neighbor]]:
    return {View.MEANING: [_voter(label, 0.5, weight, label) for label, weight in votes.items()]}


def test_a_label_that_is_new_to_the_prototypes() -> None:
    """Of a label that came after the fit the prototypes say what the neighbours do, and the less of the others."""
    found = _meaning_of({"a": 1.0, "b": 1.0, "n": 2.0})
    ballot = count_votes(found, _pooled("a", "b", "n"), _NO_SIZES, prototypes=_PROTOTYPES)
    opinions: Opinions = {
        Voter.MEANING: {"a": 0.25, "b": 0.25, "n": 0.5},
        Voter.MEANING_PROTOTYPES: {"a": 0.15, "b": 0.35, "n": 0.5},
        Voter.SURFACE_PROTOTYPES: {"a": 0.3, "b": 0.2, "n": 0.5},
    }
    assert ballot.scores == pytest.approx(_POOL.scores(opinions, ("a", "b", "n"), multi_label=False))


def test_several_labels_one_of_them_new() -> None:
    """In a multi-label task what the prototypes say of the labels that they know stays as it is."""
    found = _meaning_of({"a": 1.0, "b": 1.0, "n": 2.0})
    ballot = count_votes(found, _pooled("a", "b", "n", multi_label=True), _NO_SIZES, prototypes=_PROTOTYPES)
    opinions: Opinions = {
        Voter.MEANING: {"a": 0.25, "b": 0.25, "n": 0.5},
        **{voter: {**opinion, "n": 0.5} for voter, opinion in _PROTOTYPES.items()},
    }
    assert ballot.scores == pytest.approx(_POOL.scores(opinions, ("a", "b", "n"), multi_label=True))


def test_new_labels_are_told_by_both_views() -> None:
    """What the neighbours say of a new label is the mean of the views that found any."""
    found = {**_meaning_of({"a": 1.0, "n": 1.0}), View.SURFACE: [_surface("n", 3.0)]}
    prototypes = {Voter.MEANING_PROTOTYPES: {"a": 1.0}}
    pool = Pool({Voter.MEANING_PROTOTYPES: 1.0})
    ballot = count_votes(found, _pooled("a", "n", pool=pool), _NO_SIZES, prototypes=prototypes)
    expected: Opinions = {Voter.MEANING_PROTOTYPES: {"a": 0.25, "n": 0.75}}
    assert ballot.scores == pytest.approx(pool.scores(expected, ("a", "n"), multi_label=False))


def test_prototypes_of_a_label_that_is_gone() -> None:
    """A label that only the prototypes know gets no score, and the others' still sum to 1."""
    prototypes = {Voter.MEANING_PROTOTYPES: {"a": 0.25, "b": 0.25, "gone": 0.5}}
    ballot = count_votes(_FOUND, _pooled("a", "b"), _NO_SIZES, prototypes=prototypes)
    assert set(ballot.scores) == {"a", "b"}
    assert sum(ballot.scores.values()) == pytest.approx(1.0)
    assert 0 <= ballot.in_scope_score <= 1


def test_scope_without_a_pool() -> None:
    """How surely a plain vote is in scope depends on whether the views are of one mind, and how near voters are."""
    of_one_mind = _both(Policy(), [_voter("a", 0.5)], [_surface("a", 3.0)])
    assert (of_one_mind.in_scope_score, of_one_mind.calibrated) == (0.75, False)
    assert _both(Policy(), [_voter("a", 0.5)], [_surface("b", 3.0)]).in_scope_score == pytest.approx(0.25)
    nearer = _both(Policy(), [_voter("a", 0.5), _voter("a", 0.9), _voter("x", 1.0)], [_surface("a", 3.0)])
    assert nearer.in_scope_score == pytest.approx(0.85)


def test_an_example_alone_votes() -> None:
    """A message that is an example has its label surely, in every kind of policy, with the example as the voter."""
    same = Neighbor("same", ("b",), 1.0, 0.001, source="mail", text="hello")
    for pool in (None, _POOL, Pool(_POOL.weights, {"a": 50.0})):
        ballot = settled_by(same, _pooled("a", "b", "c", pool=pool))
        assert list(ballot.scores.items()) == [("b", 1.0), ("a", 0.0), ("c", 0.0)]
        assert ballot.neighbors == (replace(same, share=1.0),)
        assert (ballot.prototype_share, ballot.in_scope_score, ballot.top_similarity) == (0.0, 1.0, 1.0)
        assert not ballot.calibrated, "nobody was asked how sure it is"
        assert ballot.deciding("b") == ballot.neighbors[0]


def test_an_example_of_several_labels_alone_votes() -> None:
    """In a multi-label task all its labels are sure; labels that the task no longer has count for nothing."""
    same = Neighbor("same", ("c", "a", "gone"), 1.0)
    ballot = settled_by(same, _pooled("a", "b", "c", multi_label=True))
    assert list(ballot.scores.items()) == [("a", 1.0), ("c", 1.0), ("b", 0.0)]
    single = settled_by(same, _pooled("b", "c", "a"))
    assert (sum(single.scores.values()), single.scores["b"]) == (1.0, 0.0), "a single-label task has one"


def test_ties_between_views_go_to_the_weightier() -> None:
    """Labels of equal score from different views are in the order of their weightiest voters."""
    meaning = [_voter("b", 0.5, id_="1"), _voter("b", 0.5, id_="2")]
    ballot = _both(Policy(surface_weight=0.5), meaning, [_surface("a", 3.0, id_="3")])
    assert ballot.scores == {"a": 0.5, "b": 0.5}
    assert list(ballot.scores) == ["a", "b"]
    swapped = _both(Policy(surface_weight=0.5), [replace(v, labels=("a",)) for v in meaning], [_surface("b", 3.0)])
    assert list(swapped.scores) == ["b", "a"]


def test_prototypes_leave_newer_examples_to_the_vote() -> None:
    """As much of the vote as is of examples that came after the fit, so little the prototypes have to say."""
    pool = Pool({Voter.MEANING: 0.2, Voter.MEANING_PROTOTYPES: 1.0})
    rules = Rules(("a", "b"), policy=Policy(surface_weight=0, pool=pool))
    prototypes = {Voter.MEANING_PROTOTYPES: {"a": 0.99, "b": 0.01}}
    scores = [
        count_votes(
            {View.MEANING: [Neighbor("1", ("b",), 0.9, updated_us=updated)]},
            rules,
            _NO_SIZES,
            prototypes=prototypes,
            learned_us=5,
        ).scores["b"]
        for updated in (5, 6)
    ]
    assert scores[0] < 0.1
    assert scores[1] > 0.9


def test_what_is_out_of_scope_for_sure() -> None:
    """The surer a message is out of scope by the label for it, the less it is in scope; an example of it not at all."""
    rules = Rules(("a", "b", "none"), out_of_scope_label="none")
    voters = [Neighbor("1", ("none",), 0.9, 3.0), Neighbor("2", ("a",), 0.9, 1.0)]
    ballot = count_votes({View.MEANING: voters}, rules, ClassSizes())
    without = count_votes({View.MEANING: voters}, Rules(("a", "b", "none")), ClassSizes())
    assert ballot.in_scope_score == pytest.approx(without.in_scope_score * (1 - ballot.scores["none"]))
    assert ballot.scores["none"] == pytest.approx(0.75)
    assert settled_by(voters[0], rules).in_scope_score == 0
    assert settled_by(voters[1], rules).in_scope_score == 1
