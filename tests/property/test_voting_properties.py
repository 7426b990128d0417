import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nearvote.voting.ballot import ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor, merge_windows
from nearvote.voting.policy import LabelPolicy, Policy, Rules
from nearvote.voting.prediction import Prediction, decide

_many = settings(max_examples=200)

_LABELS = ("a", "b", "c")
_GONE = "gone"  # a label that the task no longer has
_unit = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
_similarity = st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]))
_weight = st.one_of(st.just(1.0), st.floats(0.01, 100))


@st.composite
def _voters(draw: st.DrawFn, *, multi_label: bool, min_size: int = 0) -> list[Neighbor]:
    known = st.lists(st.sampled_from((*_LABELS, _GONE)), min_size=1, max_size=3 if multi_label else 1, unique=True)
    votes = draw(st.lists(st.tuples(known, _similarity, _weight), min_size=min_size, max_size=12))
    ids = draw(st.permutations([f"{i:02}" for i in range(len(votes))]))
    return [Neighbor(i, tuple(sorted(ls)), s, w) for i, (ls, s, w) in zip(ids, votes, strict=True)]


@st.composite
def _rules(draw: st.DrawFn, *, multi_label: bool) -> Rules:
    own = st.builds(LabelPolicy, score_threshold=st.none() | _unit, margin_floor=st.none() | _unit)
    policy = Policy(
        temperature=draw(st.sampled_from([0.02, 0.1, 1.0])),
        class_size_exponent=draw(st.sampled_from([0.0, 0.5, 1.0])),
        similarity_floor=draw(st.just(-1.0) | _similarity),
        margin_floor=draw(st.just(0.0) | _unit),
        score_threshold=draw(_unit),
        labels=draw(st.dictionaries(st.sampled_from(_LABELS), own, max_size=2)),
    )
    out_of_scope = draw(st.sampled_from(["", "c"])) if not multi_label else ""
    return Rules(_LABELS, multi_label, draw(st.sampled_from(["", "b"])), out_of_scope, policy)


@st.composite
def _elections(draw: st.DrawFn, *, min_size: int = 0) -> tuple[list[Neighbor], Rules, ClassSizes]:
    multi_label = draw(st.booleans())
    by_label = draw(st.dictionaries(st.sampled_from(_LABELS), st.integers(1, 1000)))
    sizes = ClassSizes(sum(by_label.values()) + draw(st.integers(0, 100)), by_label)
    voters = draw(_voters(multi_label=multi_label, min_size=min_size))
    return voters, draw(_rules(multi_label=multi_label)), sizes


def _counted(voters: list[Neighbor]) -> list[Neighbor]:
    return [voter for voter in voters if set(voter.labels) & set(_LABELS)]


def _predict(voters: list[Neighbor], rules: Rules, sizes: ClassSizes) -> Prediction:
    return decide("t", rules, count_votes(voters, rules, sizes))


@_many
@given(_elections(), st.randoms(use_true_random=False))
def test_order_does_not_matter(election: tuple[list[Neighbor], Rules, ClassSizes], random: object) -> None:
    """The order in which neighbours come changes nothing, not even the last digit."""
    voters, rules, sizes = election
    shuffled = sorted(voters, key=lambda _: random.random())  # type: ignore[attr-defined]
    ballot, again = count_votes(voters, rules, sizes), count_votes(shuffled, rules, sizes)
    assert ballot == again
    assert list(ballot.scores) == list(again.scores)
    assert decide("t", rules, ballot) == decide("t", rules, again)


@_many
@given(_elections(), st.sampled_from(_LABELS), _similarity, _weight)
def test_a_vote_for_a_label_never_lowers_it(
    election: tuple[list[Neighbor], Rules, ClassSizes], label: str, similarity: float, weight: float
) -> None:
    """One more vote for a label never lowers its score, whatever the class sizes."""
    voters, rules, sizes = election
    more = [*voters, Neighbor("more", (label,), similarity, weight)]
    assert count_votes(more, rules, sizes).scores[label] >= count_votes(voters, rules, sizes).scores[label] - 1e-12


@_many
@given(_elections(min_size=1), st.sampled_from(_LABELS))
def test_a_vote_for_another_label_never_raises_it(
    election: tuple[list[Neighbor], Rules, ClassSizes], label: str
) -> None:
    """One more vote for other labels never raises a label's score."""
    voters, rules, sizes = election
    (other, *_) = (name for name in _LABELS if name != label)
    more = [*voters, Neighbor("more", (other,), 0.5)]
    assert count_votes(more, rules, sizes).scores[label] <= count_votes(voters, rules, sizes).scores[label] + 1e-12


@_many
@given(_elections(min_size=1))
def test_sums(election: tuple[list[Neighbor], Rules, ClassSizes]) -> None:
    """Shares sum to one, and so do the scores of a single-label task, unless nobody voted."""
    voters, rules, sizes = election
    ballot = count_votes(voters, rules, sizes)
    voted = 1.0 if _counted(voters) else 0.0
    assert sum(v.share for v in ballot.neighbors) == pytest.approx(voted)
    if not rules.multi_label:
        assert sum(ballot.scores.values()) == pytest.approx(voted)


@_many
@given(_elections())
def test_ranges(election: tuple[list[Neighbor], Rules, ClassSizes]) -> None:
    """Scores, shares and margins are in [0, 1]; scores come best first, voters nearest first."""
    voters, rules, sizes = election
    ballot = count_votes(voters, rules, sizes)
    prediction = decide("t", rules, ballot)
    numbers = [*ballot.scores.values(), *(v.share for v in ballot.neighbors), prediction.margin, prediction.score]
    assert [number for number in numbers if not 0 <= number <= 1] == []
    assert list(ballot.scores.values()) == sorted(ballot.scores.values(), reverse=True)
    assert set(ballot.scores) == set(_LABELS)
    assert [v.similarity for v in ballot.neighbors] == sorted((v.similarity for v in _counted(voters)), reverse=True)


@_many
@given(_elections(), st.floats(0.001, 1000))
def test_only_relative_weights_count(election: tuple[list[Neighbor], Rules, ClassSizes], factor: float) -> None:
    """Scaling the weights of all examples changes no score and no share."""
    voters, rules, sizes = election
    scaled = [replace(v, example_weight=v.example_weight * factor) for v in voters]
    ballot, again = count_votes(voters, rules, sizes), count_votes(scaled, rules, sizes)
    assert ballot.scores == pytest.approx(again.scores)
    assert [v.share for v in ballot.neighbors] == pytest.approx([v.share for v in again.neighbors])


@_many
@given(_elections())
def test_abstains_exactly_without_labels(election: tuple[list[Neighbor], Rules, ClassSizes]) -> None:
    """A prediction abstains exactly when it has no labels; what it has are labels of the task, each once."""
    prediction = _predict(*election)
    assert prediction.abstained == (not prediction.labels)
    assert set(prediction.labels) <= set(_LABELS)
    assert len(set(prediction.labels)) == len(prediction.labels)


@_many
@given(_elections())
def test_nobody_wins_without_a_vote(election: tuple[list[Neighbor], Rules, ClassSizes]) -> None:
    """A single-label prediction never gives a label that has no votes."""
    prediction = _predict(*election)
    if not election[1].multi_label and prediction.label is not None:
        assert prediction.score > 0


@_many
@given(_elections(), _similarity, _unit)
def test_higher_floors_never_give_a_label(
    election: tuple[list[Neighbor], Rules, ClassSizes], similarity_floor: float, margin_floor: float
) -> None:
    """Raising the similarity floor or the margin floors never makes a label of an abstention."""
    voters, rules, sizes = election
    policy = rules.policy
    raised = replace(
        policy,
        similarity_floor=max(policy.similarity_floor, similarity_floor),
        margin_floor=max(policy.margin_floor, margin_floor),
        labels={
            label: replace(own, margin_floor=max(policy.margin_floor_of(label), margin_floor))
            for label, own in policy.labels.items()
        },
    )
    strict = _predict(voters, replace(rules, policy=raised), sizes)
    assert strict.labels in ((), _predict(voters, rules, sizes).labels)


@_many
@given(_elections(min_size=1))
def test_floors_of_zero_are_values(election: tuple[list[Neighbor], Rules, ClassSizes]) -> None:
    """With a similarity floor of 0 what is below is too far; with a margin floor of 0 no single label is ambiguous."""
    voters, rules, sizes = election
    policy = replace(rules.policy, similarity_floor=0.0, margin_floor=0.0, labels={})
    reason = _predict(voters, replace(rules, policy=policy), sizes).abstention_reason
    too_far = max((v.similarity for v in _counted(voters)), default=0) < 0
    assert too_far == (reason is not None and reason.value == "TOO_FAR")
    if not rules.multi_label:
        assert reason is None or reason.value != "AMBIGUOUS"


@_many
@given(st.floats(-1, 1), st.floats(0.01, 1), st.sampled_from([0.05, 0.1, 0.5]), st.permutations(["a", "b"]))
def test_a_tie_goes_to_the_nearer_neighbour(
    nearer: float, distance: float, temperature: float, labels: list[str]
) -> None:
    """Of two labels with equally many votes the one with the nearer neighbour wins, whatever they are called."""
    further = nearer - distance
    near = Neighbor("2", (labels[0],), nearer)
    far = Neighbor("1", (labels[1],), further, math.exp((nearer - further) / temperature))
    policy = Policy(temperature=temperature, similarity_floor=-1, margin_floor=0)
    prediction = _predict([far, near], Rules(("a", "b"), policy=policy), ClassSizes())
    assert prediction.scores == pytest.approx({"a": 0.5, "b": 0.5})
    assume(prediction.scores["a"] == prediction.scores["b"])  # to the last digit
    assert prediction.labels == (labels[0],)


@_many
@given(st.lists(_voters(multi_label=True), max_size=4), st.integers(1, 15))
def test_merged_windows(by_window: list[list[Neighbor]], k: int) -> None:
    """Of all windows' neighbours the nearest stay, each example once and at its greatest similarity."""
    merged = merge_windows(by_window, k)
    best: dict[str, float] = {}
    for neighbor in (neighbor for neighbors in by_window for neighbor in neighbors):
        best[neighbor.example_id] = max(best.get(neighbor.example_id, -2.0), neighbor.similarity)
    expected = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:k]
    assert expected == [(neighbor.example_id, neighbor.similarity) for neighbor in merged]
