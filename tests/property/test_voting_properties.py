import math
from dataclasses import dataclass, replace
from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nearvote.voting.ballot import Ballot, ClassSizes, count_votes, settled_by
from nearvote.voting.neighbor import Neighbor, View, merge_windows
from nearvote.voting.policy import LabelPolicy, Policy, Rules
from nearvote.voting.pool import Opinions, Pool, Voter, in_scope_score
from nearvote.voting.prediction import Prediction, decide
from nearvote.voting.seats import OVERSAMPLING, is_near_duplicate, seat_limit, take_seats

_many = settings(max_examples=100)

_LABELS = ("a", "b", "c")
_GONE = "gone"  # a label that the task no longer has
_unit = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
_similarity = st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]))
# Similarity in the surface view: a subnormal number has no quarter, and no such sum of weights of n-grams comes about.
_overlap = st.one_of(st.floats(0, 50, allow_subnormal=False), st.sampled_from([0.0, 1.0, 12.0]))
_weight = st.one_of(st.just(1.0), st.floats(0.01, 100))


Found = dict[View, list[Neighbor]]


@dataclass(frozen=True)
class Election:
    """Everything that a vote depends on."""

    found: Found
    rules: Rules
    sizes: ClassSizes
    prototypes: Opinions | None

    def count(self) -> Ballot:
        return count_votes(self.found, self.rules, self.sizes, prototypes=self.prototypes)

    def decide(self) -> Prediction:
        return decide("t", self.rules, self.count())

    def with_vote(self, neighbor: Neighbor) -> "Election":
        """With one more voter."""
        return replace(self, found={**self.found, neighbor.view: [*self.found[neighbor.view], neighbor]})

    def counted(self, view: View) -> list[Neighbor]:
        """Those of a view whose votes count: they have labels of the task, and the view has found something."""
        own = [voter for voter in self.found[view] if set(voter.labels) & set(_LABELS)]
        return own if view is View.MEANING or any(voter.similarity > 0 for voter in own) else []

    def heard(self, view: View) -> bool:
        """Whether a view has an opinion already, or its first one takes nothing from a bias or a prototype."""
        return (self.rules.policy.pool is None and self.voted) or bool(self.counted(view))

    @property
    def voted(self) -> bool:
        """Whether anybody did."""
        return any(self.counted(view) for view in View)


@st.composite
def _voters(draw: st.DrawFn, *, multi_label: bool, min_size: int = 0, view: View = View.MEANING) -> list[Neighbor]:
    known = st.lists(st.sampled_from((*_LABELS, _GONE)), min_size=1, max_size=3 if multi_label else 1, unique=True)
    similarity = _similarity if view is View.MEANING else _overlap
    votes = draw(st.lists(st.tuples(known, similarity, _weight), min_size=min_size, max_size=12))
    ids = draw(st.permutations([f"{i:02}" for i in range(len(votes))]))
    return [Neighbor(i, tuple(sorted(ls)), s, w, view) for i, (ls, s, w) in zip(ids, votes, strict=True)]


def _pools(*, biased: bool = True) -> st.SearchStrategy[Pool]:
    weights = st.dictionaries(st.sampled_from(list(Voter)), st.sampled_from([0.0, 1.0]) | st.floats(0.01, 3))
    return st.builds(
        Pool, weights, st.dictionaries(st.sampled_from(_LABELS), st.floats(-5, 5), max_size=2 if biased else 0)
    )


@st.composite
def _rules(draw: st.DrawFn, *, multi_label: bool) -> Rules:
    own = st.builds(LabelPolicy, score_threshold=st.none() | _unit, margin_floor=st.none() | _unit)
    policy = Policy(
        temperature=draw(st.sampled_from([0.02, 0.1, 1.0])),
        surface_weight=draw(st.sampled_from([0.0, 0.4, 0.5, 1.0])),
        surface_exponent=draw(st.sampled_from([0.0, 1.0, 6.0, 100.0])),
        scope_floor=draw(st.just(0.0) | _unit),
        class_size_exponent=draw(st.sampled_from([0.0, 0.5, 1.0])),
        similarity_floor=draw(st.just(-1.0) | _similarity),
        margin_floor=draw(st.just(0.0) | _unit),
        score_threshold=draw(_unit),
        pool=draw(st.none() | _pools()),
        labels=draw(st.dictionaries(st.sampled_from(_LABELS), own, max_size=2)),
    )
    out_of_scope = draw(st.sampled_from(["", "c"])) if not multi_label else ""
    return Rules(_LABELS, multi_label, draw(st.sampled_from(["", "b"])), out_of_scope, policy)


@st.composite
def _opinion(draw: st.DrawFn, *, multi_label: bool) -> dict[str, float]:
    said = draw(st.lists(st.floats(0.001, 1), min_size=len(_LABELS), max_size=len(_LABELS)))
    total = 1 if multi_label else sum(said)
    return {label: score / total for label, score in zip(_LABELS, said, strict=True)}


@st.composite
def _elections(draw: st.DrawFn, *, min_size: int = 0) -> Election:
    multi_label = draw(st.booleans())
    by_label = draw(st.dictionaries(st.sampled_from(_LABELS), st.integers(1, 1000)))
    sizes = ClassSizes(sum(by_label.values()) + draw(st.integers(0, 100)), by_label)
    found = {
        View.MEANING: draw(_voters(multi_label=multi_label, min_size=min_size)),
        View.SURFACE: draw(_voters(multi_label=multi_label, view=View.SURFACE)),
    }
    prototypes = None
    if draw(st.booleans()):
        prototypes = {
            voter: draw(_opinion(multi_label=multi_label))
            for voter in (Voter.MEANING_PROTOTYPES, Voter.PLAIN_PROTOTYPES, Voter.SURFACE_PROTOTYPES)
        }
    return Election(found, draw(_rules(multi_label=multi_label)), sizes, prototypes)


_a_vote = st.one_of(
    st.builds(Neighbor, st.just("more"), st.just(()), _similarity, _weight),
    st.builds(Neighbor, st.just("more"), st.just(()), _overlap, _weight, st.just(View.SURFACE)),
)


@_many
@given(_elections(), st.randoms(use_true_random=False))
def test_order_does_not_matter(election: Election, random: object) -> None:
    """The order in which neighbours come changes nothing, not even the last digit."""
    shuffled = {
        view: sorted(voters, key=lambda _: random.random())  # type: ignore[attr-defined]
        for view, voters in election.found.items()
    }
    again = replace(election, found=shuffled)
    assert election.count() == again.count()
    assert list(election.count().scores) == list(again.count().scores)
    assert election.decide() == again.decide()


@_many
@given(_elections(), st.sampled_from(_LABELS), _a_vote)
def test_a_vote_for_a_label_never_lowers_it(election: Election, label: str, vote: Neighbor) -> None:
    """One more vote for a label never lowers its score, in whichever view and whatever the class sizes."""
    assume(election.heard(vote.view))
    more = election.with_vote(replace(vote, labels=(label,)))
    assert more.count().scores[label] >= election.count().scores[label] - 1e-12


@_many
@given(_elections(min_size=1), st.sampled_from(_LABELS), _a_vote)
def test_a_vote_for_another_label_never_raises_it(election: Election, label: str, vote: Neighbor) -> None:
    """One more vote for other labels never raises a label's score, once somebody voted; in a pool it may."""
    election = replace(election, rules=replace(election.rules, policy=replace(election.rules.policy, pool=None)))
    assume(election.voted)
    # Those who share nothing are never found; with an exponent of 0 the first one who shares something would wake them.
    assume(vote.view is View.MEANING or all(voter.similarity > 0 for voter in election.found[View.SURFACE]))
    (other, *_) = (name for name in _LABELS if name != label)
    more = election.with_vote(replace(vote, labels=(other,)))
    assert more.count().scores[label] <= election.count().scores[label] + 1e-12


@_many
@given(_elections(min_size=1))
def test_sums(election: Election) -> None:
    """Shares and the prototypes' sum to one, and so do a single-label task's scores, unless nobody voted."""
    ballot = election.count()
    voted = 1.0 if election.voted else 0.0
    assert sum(v.share for v in ballot.neighbors) + ballot.prototype_share == pytest.approx(voted)
    if not election.rules.multi_label:
        assert sum(ballot.scores.values()) == pytest.approx(voted)


@_many
@given(_elections(min_size=1))
def test_voters_share_by_their_weights(election: Election) -> None:
    """Each view has its part of all weight that is there, and the prototypes the rest; without a pool none."""
    assume(election.voted)
    ballot, policy = election.count(), election.rules.policy
    views = [view for view in View if election.counted(view)]
    weights = {view: policy.view_weight(view) for view in views}
    rest = 0.0
    if ballot.calibrated:
        assert policy.pool is not None
        weights = {view: policy.pool.weight(Voter(view.value)) for view in views}
        rest = sum(map(policy.pool.weight, election.prototypes or ()))
    total = sum(weights.values()) + rest
    for view in views:
        expected = weights[view] / total if total else 1 / len(views)
        assert sum(v.share for v in ballot.neighbors if v.view is view) == pytest.approx(expected)
    if policy.pool is None or election.prototypes is None:
        assert ballot.prototype_share == pytest.approx(0.0)


@_many
@given(_elections())
def test_ranges(election: Election) -> None:
    """Scores, shares and margins are in [0, 1]; scores come best first, voters weightiest first."""
    ballot, prediction = election.count(), election.decide()
    numbers = [*ballot.scores.values(), *(v.share for v in ballot.neighbors), *prediction.scores.values()]
    numbers += [prediction.margin, prediction.score, ballot.prototype_share, ballot.in_scope_score]
    assert [number for number in numbers if not 0 <= number <= 1] == []
    for scores in (ballot.scores, prediction.scores):
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        assert set(scores) == set(_LABELS)
    shares = [v.share for v in ballot.neighbors]
    assert shares == sorted(shares, reverse=True)
    for view in View:
        counted = sorted(v.example_id for v in election.counted(view))
        assert counted == sorted(v.example_id for v in ballot.neighbors if v.view is view)


@_many
@given(_elections(), st.floats(0.001, 1000))
def test_only_relative_weights_count(election: Election, factor: float) -> None:
    """Scaling the weights of all examples changes no score and no share."""
    scaled = {
        view: [replace(v, example_weight=v.example_weight * factor) for v in voters]
        for view, voters in election.found.items()
    }
    ballot, again = election.count(), replace(election, found=scaled).count()
    assert ballot.scores == pytest.approx(again.scores)
    assert [v.share for v in ballot.neighbors] == pytest.approx([v.share for v in again.neighbors])


@_many
@given(_elections(), st.sampled_from([0.25, 3.0, 64.0]))
def test_only_relative_surface_similarity_counts(election: Election, factor: float) -> None:
    """Scaling all similarities of the surface view changes no score: they have no scale of their own."""
    surface = [replace(v, similarity=v.similarity * factor) for v in election.found[View.SURFACE]]
    scaled = replace(election, found={**election.found, View.SURFACE: surface})
    assert election.count().scores == pytest.approx(scaled.count().scores)


@_many
@given(_elections())
def test_a_silent_pool_is_none(election: Election) -> None:
    """Where nobody whom a pool gives weight has an opinion, the vote is as without a pool."""
    ballot, policy = election.count(), election.rules.policy
    assume(policy.pool is not None and election.voted)
    assert policy.pool is not None
    there = [Voter(view.value) for view in View if election.counted(view)] + list(election.prototypes or ())
    assert ballot.calibrated == any(map(policy.pool.weight, there))
    if not ballot.calibrated:
        plain = replace(election, rules=replace(election.rules, policy=replace(policy, pool=None)))
        assert ballot == plain.count()


@_many
@given(_elections(), st.sets(st.sampled_from((*_LABELS, _GONE)), min_size=1))
def test_an_example_decides(election: Election, labels: set[str]) -> None:
    """The ballot on a message that is an example is sure of its labels, of one alone in a single-label task."""
    assume(labels & set(_LABELS))
    same = Neighbor("same", tuple(sorted(labels)), 1.0)
    ballot = settled_by(same, election.rules)
    sure = {label for label, score in ballot.scores.items() if score}
    assert set(ballot.scores) == set(_LABELS)
    assert set(ballot.scores.values()) <= {0.0, 1.0}
    assert sure == labels & set(_LABELS) if election.rules.multi_label else len(sure) == 1
    assert sure <= labels
    assert [(v.example_id, v.share) for v in ballot.neighbors] == [("same", 1.0)]


@_many
@given(_elections())
def test_abstains_exactly_without_labels(election: Election) -> None:
    """A prediction abstains exactly when it has no labels; what it has are labels of the task, each once."""
    prediction = election.decide()
    assert prediction.abstained == (not prediction.labels)
    assert set(prediction.labels) <= set(_LABELS)
    assert len(set(prediction.labels)) == len(prediction.labels)


@_many
@given(_elections())
def test_nobody_wins_without_a_vote(election: Election) -> None:
    """A single-label prediction never gives a label with a score of 0."""
    prediction = election.decide()
    if not election.rules.multi_label and prediction.label is not None:
        assert prediction.score > 0


@_many
@given(_elections())
def test_single_label_thresholds(election: Election) -> None:
    """In a single-label task a label is given only where it reaches its threshold; with none the best one is given."""
    assume(not election.rules.multi_label)
    prediction = election.decide()
    own = {label: policy.score_threshold for label, policy in election.rules.policy.labels.items()}
    if prediction.label is not None:
        assert prediction.score >= (own.get(prediction.label) or 0.0)
        if all(threshold is None for threshold in own.values()):
            assert prediction.score == max(prediction.scores.values())


@_many
@given(_elections(), st.sampled_from(_LABELS), _unit, _unit)
def test_a_lower_threshold_never_takes_a_label_away(
    election: Election, label: str, lower: float, higher: float
) -> None:
    """Who is given a label in a single-label task is given it also when its threshold is lower."""
    assume(not election.rules.multi_label)
    policy = election.rules.policy
    own = policy.labels.get(label, LabelPolicy())

    def given(threshold: float) -> str | None:
        labels = {**policy.labels, label: replace(own, score_threshold=threshold)}
        rules = replace(election.rules, policy=replace(policy, labels=labels))
        return replace(election, rules=rules).decide().label

    if given(max(lower, higher)) == label:
        assert given(min(lower, higher)) == label


@_many
@given(_elections(), _similarity, _unit, _unit)
def test_higher_floors_never_give_a_label(
    election: Election, similarity_floor: float, margin_floor: float, scope_floor: float
) -> None:
    """Raising the floors of similarity, margin or scope never makes a label of an abstention."""
    policy = election.rules.policy
    raised = replace(
        policy,
        similarity_floor=max(policy.similarity_floor, similarity_floor),
        scope_floor=max(policy.scope_floor, scope_floor),
        margin_floor=max(policy.margin_floor, margin_floor),
        labels={
            label: replace(own, margin_floor=max(policy.margin_floor_of(label), margin_floor))
            for label, own in policy.labels.items()
        },
    )
    strict = replace(election, rules=replace(election.rules, policy=raised)).decide()
    assert strict.labels in ((), election.decide().labels)


@_many
@given(_elections(min_size=1))
def test_floors_of_zero_are_values(election: Election) -> None:
    """With a similarity floor of 0 what is below is too far; with a margin floor of 0 no single label is ambiguous."""
    policy = replace(election.rules.policy, similarity_floor=0.0, scope_floor=0.0, margin_floor=0.0, labels={})
    reason = replace(election, rules=replace(election.rules, policy=policy)).decide().abstention_reason
    too_far = max((v.similarity for v in election.counted(View.MEANING)), default=0) < 0
    assert too_far == (reason is not None and reason.value == "TOO_FAR")
    if not election.rules.multi_label:
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
    rules = Rules(("a", "b"), policy=policy)
    prediction = Election({View.MEANING: [far, near], View.SURFACE: []}, rules, ClassSizes(), None).decide()
    assert prediction.scores == pytest.approx({"a": 0.5, "b": 0.5})
    assume(prediction.scores["a"] == prediction.scores["b"])  # to the last digit
    assume(prediction.neighbors[0].share == prediction.neighbors[1].share)
    assert prediction.labels == (labels[0],)


@_many
@given(_opinion(multi_label=True), _pools(biased=False), st.sampled_from(list(Voter)), st.booleans())
def test_a_lone_opinion_keeps_its_order(opinion: dict[str, float], pool: Pool, voter: Voter, multi_label: bool) -> None:  # noqa: FBT001
    """Without biases a pool never puts a label before one that the only opinion prefers."""
    found = pool.scores({voter: opinion}, _LABELS, multi_label=multi_label)
    for one, other in permutations(_LABELS, 2):
        if opinion[one] >= opinion[other]:
            assert found[one] >= found[other] - 1e-12
    assert all(0 <= value <= 1 for value in found.values())
    if not multi_label:
        assert sum(found.values()) == pytest.approx(1.0)


@_many
@given(_elections(min_size=1), st.sampled_from(_LABELS), st.floats(-20, 20))
def test_a_bias_raises_its_label(election: Election, label: str, bias: float) -> None:
    """A bias above 0 never lowers its label, one below never raises it."""
    pool = election.rules.policy.pool
    assume(pool is not None)
    assert pool is not None
    more = replace(pool, bias={**pool.bias, label: pool.bias.get(label, 0.0) + bias})
    biased = replace(election, rules=replace(election.rules, policy=replace(election.rules.policy, pool=more)))
    assert (biased.count().scores[label] - election.count().scores[label]) * bias >= -1e-9


@_many
@given(st.dictionaries(st.sampled_from(list(Voter)), _opinion(multi_label=True), min_size=1), st.permutations(_LABELS))
def test_the_scope_does_not_care_for_names(opinions: dict[Voter, dict[str, float]], names: list[str]) -> None:
    """The in-scope score is in [0, 1], and the same whatever the labels are called."""
    renamed = {
        voter: {names[_LABELS.index(label)]: score for label, score in opinion.items()}
        for voter, opinion in opinions.items()
    }
    nearest = [Neighbor("1", ("a",), 0.5)]
    found = in_scope_score(opinions, len(_LABELS), nearest)
    assert 0 <= found <= 1
    assert in_scope_score(renamed, len(_LABELS), nearest) == pytest.approx(found)


@st.composite
def _crowds(draw: st.DrawFn) -> list[Neighbor]:
    """Candidates of a few sources and a few campaigns."""
    prints = [0, *(draw(st.integers(-(2**63), 2**63 - 1)) for _ in range(3))]
    similarity = sorted(draw(st.lists(_similarity, max_size=30)), reverse=True)
    source = st.sampled_from(["", "", "mail", "sms"])
    flipped = st.integers(0, 63)
    found = []
    for i, s in enumerate(similarity):
        print_ = draw(st.sampled_from(prints)) ^ (1 << draw(flipped))
        print_ = (print_ + 2**63) % 2**64 - 2**63
        found.append(Neighbor(f"{i:02}", ("a",), s, source=draw(source), fingerprint=print_))
    return found


@_many
@given(_crowds(), st.integers(1, 12), _unit)
def test_seats(crowd: list[Neighbor], k: int, share: float) -> None:
    """As many seats are taken as can be, nearest first, and a group has more than its share only for want of others."""
    candidates = crowd[: k * OVERSAMPLING]
    seated = take_seats(candidates, k, share)
    assert len(seated) == min(k, len(candidates))
    assert [n for n in candidates if n in seated] == seated
    limit = seat_limit(k, share)
    assert 1 <= limit <= k
    left = [n for n in candidates if n not in seated]

    def crowded(one: Neighbor) -> bool:
        """Whether one more like it would be beyond the limit, or it already is."""
        of_source = sum(one.source != "" and n.source == one.source for n in seated)
        alike = sum(is_near_duplicate(n.fingerprint, one.fingerprint) for n in seated)
        return max(of_source, alike) >= limit

    if seated and left and limit < k:  # whoever was nearer than the last that is seated was refused for a reason
        last = candidates.index(seated[-1])
        assert [n for n in candidates[:last] if n in left and not crowded(n)] == []


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
