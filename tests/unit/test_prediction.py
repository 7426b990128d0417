from collections.abc import Mapping
from dataclasses import replace

import pytest

from nearvote.voting.ballot import Ballot, ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.policy import Action, LabelPolicy, Policy, Rules
from nearvote.voting.prediction import AbstentionReason, Prediction, ScoreKind, abstain, decide

_OPEN = Policy(similarity_floor=-1.0, margin_floor=0.0)
_FLOORED = Policy(similarity_floor=0.3, margin_floor=0.2)


def _ballot(scores: Mapping[str, float], similarity: float = 0.9) -> Ballot:
    best_first = sorted(scores, key=lambda label: -scores[label])
    voters = tuple(Neighbor(label, (label,), similarity, window=i) for i, label in enumerate(best_first))
    return Ballot({label: scores[label] for label in best_first}, voters)


def _decide(
    scores: Mapping[str, float], policy: Policy = _FLOORED, similarity: float = 0.9, out_of_scope: str = ""
) -> Prediction:
    rules = Rules(tuple(scores), out_of_scope_label=out_of_scope, policy=policy)
    return decide("t", rules, _ballot(scores, similarity))


def _decide_several(scores: Mapping[str, float], policy: Policy = _FLOORED, benign: str = "") -> Prediction:
    return decide("t", Rules(tuple(scores), multi_label=True, benign_label=benign, policy=policy), _ballot(scores))


def test_the_best_label_wins() -> None:
    """The label with the best score is given, with its lead over the second as margin."""
    prediction = _decide({"a": 0.2, "b": 0.7, "c": 0.1})
    assert prediction.labels == ("b",)
    assert prediction.label == "b"
    assert not prediction.abstained
    assert prediction.score == 0.7
    assert prediction.margin == pytest.approx(0.5)
    assert prediction.top_similarity == 0.9
    assert prediction.task == "t"


@pytest.mark.parametrize(
    ("similarity", "margin", "expected"),
    [
        (0.3, 0.25, None),
        (0.29, 0.25, AbstentionReason.TOO_FAR),
        (0.3, 0.15, AbstentionReason.AMBIGUOUS),
        (0.29, 0.15, AbstentionReason.TOO_FAR),
    ],
)
def test_floors(similarity: float, margin: float, expected: AbstentionReason | None) -> None:
    """Below the similarity floor a message is too far; below the margin floor its vote is ambiguous."""
    prediction = _decide({"a": 0.5 + margin / 2, "b": 0.5 - margin / 2}, similarity=similarity)
    assert expected == prediction.abstention_reason
    assert (() if expected else ("a",)) == prediction.labels
    assert prediction.score == 0.5 + margin / 2
    assert prediction.neighbors != ()


def test_zero_floors_are_values() -> None:
    """With floors of 0 a similarity of 0 is near enough and a tie is clear enough, and less is neither."""
    policy = Policy(similarity_floor=0.0, margin_floor=0.0)
    assert _decide({"a": 0.5, "b": 0.5}, policy, similarity=0.0).labels == ("a",)
    assert _decide({"a": 1.0, "b": 0.0}, policy, similarity=-0.01).abstention_reason is AbstentionReason.TOO_FAR


def test_a_label_has_its_own_margin_floor() -> None:
    """The margin floor of the label that won goes before the policy's, 0 too."""
    policy = replace(_FLOORED, labels={"a": LabelPolicy(margin_floor=0.0), "b": LabelPolicy(margin_floor=0.9)})
    assert _decide({"a": 0.5, "b": 0.5}, policy).labels == ("a",)
    assert _decide({"a": 0.1, "b": 0.9}, policy).abstention_reason is AbstentionReason.AMBIGUOUS


@pytest.mark.parametrize(
    ("scores", "expected", "margin"),
    [
        # "rare" has a threshold of 0.25, "sure" one of 0.8; for "b" and "c", which have none, equal parts of 1 stand.
        ({"rare": 0.5, "b": 0.3, "sure": 0.2}, "rare", 0.2),
        ({"rare": 0.25, "b": 0.75, "sure": 0.0}, "b", 0.5),
        ({"rare": 0.8, "b": 0.1, "sure": 0.1}, "rare", 0.7),
        ({"rare": 0.02, "b": 0.4, "sure": 0.58}, "b", 0.18),
        ({"rare": 0.1, "b": 0.05, "sure": 0.85}, "sure", 0.75),
        # Below its own threshold a label is not given, though it has most of it, and though its margin is clear.
        ({"rare": 0.01, "b": 0.2, "sure": 0.79}, None, 0.59),
        ({"rare": 0.24, "b": 0.3, "sure": 0.2, "c": 0.26}, None, 0.04),
        # One that reaches it may still not be clear enough of the next, or as far behind it.
        ({"rare": 0.35, "b": 0.5, "sure": 0.15}, None, 0.15),
        # A label that has no threshold is short of none.
        ({"rare": 0.0, "b": 0.4, "sure": 0.2, "c": 0.15}, "b", 0.2),
    ],
)
def test_single_labels_with_thresholds(scores: dict[str, float], expected: str | None, margin: float) -> None:
    """In a single-label task the label is given that has most in parts of its threshold, where it reaches it."""
    labels = {"rare": LabelPolicy(score_threshold=0.25), "sure": LabelPolicy(score_threshold=0.8), "c": LabelPolicy()}
    policy = replace(_FLOORED, margin_floor=0.16, labels=labels, score_threshold=1.0)
    prediction = _decide(scores, policy)
    assert expected == prediction.label
    assert (AbstentionReason.AMBIGUOUS if expected is None else None) == prediction.abstention_reason
    assert prediction.margin == pytest.approx(margin)
    assert prediction.scores == scores


def test_equal_thresholds_change_nothing() -> None:
    """Where labels have thresholds that are alike the one with the highest score is given."""
    for threshold in (0.01, 0.5, 0.6):
        policy = replace(_FLOORED, labels=dict.fromkeys("ab", LabelPolicy(score_threshold=threshold)))
        assert _decide({"a": 0.35, "b": 0.65}, policy).labels == ("b",)


def test_thresholds_of_zero_and_one() -> None:
    """A threshold of 0 is a value: the least vote for the label gives it, none does not; 1 takes all votes."""
    policy = replace(_OPEN, labels={"a": LabelPolicy(score_threshold=0.0)})
    assert _decide({"a": 0.001, "b": 0.999}, policy).labels == ("a",)
    assert _decide({"a": 0.0, "b": 1.0}, policy).labels == ("b",)
    policy = replace(_OPEN, labels={"b": LabelPolicy(score_threshold=1.0)})
    assert _decide({"a": 0.0, "b": 1.0}, policy).labels == ("b",)
    assert _decide({"a": 0.2, "b": 0.8}, policy).abstained


def test_a_threshold_of_a_label_that_is_gone() -> None:
    """A threshold of a label that nobody could vote for decides nothing."""
    policy = replace(_FLOORED, labels={"gone": LabelPolicy(score_threshold=0.0)})
    assert _decide({"a": 0.9, "b": 0.1}, policy).labels == ("a",)


def test_a_threshold_decides_but_for_the_floors() -> None:
    """A label that reaches its threshold is not given to a message that is too far or out of scope."""
    policy = replace(_FLOORED, margin_floor=0.0, labels={"a": LabelPolicy(score_threshold=0.1)})
    assert _decide({"a": 0.5, "b": 0.5}, policy).labels == ("a",)
    far = _decide({"a": 0.5, "b": 0.5}, policy, similarity=0.2)
    assert far.abstention_reason is AbstentionReason.TOO_FAR
    outside = _decide({"a": 0.5, "b": 0.5}, policy, out_of_scope="a")
    assert outside.abstention_reason is AbstentionReason.OUT_OF_SCOPE


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("score", "expected"), [(0.5, None), (0.49, AbstentionReason.TOO_FAR), (0.0, AbstentionReason.TOO_FAR)]
)
def test_the_scope_floor(score: float, expected: AbstentionReason | None, multi_label: bool) -> None:  # noqa: FBT001
    """Below the scope floor a message is too far, however near its neighbours are."""
    policy = replace(_OPEN, scope_floor=0.5)
    ballot = replace(_ballot({"a": 0.9, "b": 0.1}), in_scope_score=score)
    prediction = decide("t", Rules(("a", "b"), multi_label=multi_label, policy=policy), ballot)
    assert expected == prediction.abstention_reason
    assert prediction.in_scope_score == score


@pytest.mark.parametrize(("calibrated", "expected"), [(False, ScoreKind.VOTE_SHARE), (True, ScoreKind.PROBABILITY)])
def test_what_scores_are(calibrated: bool, expected: ScoreKind) -> None:  # noqa: FBT001 - a parameter of the test
    """A prediction says whether its scores are shares of the vote or probabilities, and what prototypes had."""
    ballot = replace(_ballot({"a": 0.9, "b": 0.1}), calibrated=calibrated, prototype_share=0.25)
    prediction = decide("t", Rules(("a", "b"), policy=_FLOORED), ballot)
    assert expected == prediction.score_kind
    assert prediction.prototype_share == 0.25


def test_neighbours_of_the_surface_alone() -> None:
    """Where nobody was found in the meaning view no similarity is told, and none is too low."""
    voters = (Neighbor("1", ("a",), 31.5, view=View.SURFACE, share=1.0),)
    prediction = decide(
        "t", Rules(("a", "b"), policy=_FLOORED), Ballot({"a": 1.0, "b": 0.0}, voters, in_scope_score=1.0)
    )
    assert (prediction.label, prediction.top_similarity, prediction.decided_by_window) == ("a", None, 0)


def test_surface_similarity_is_not_too_near() -> None:
    """The floor of similarity asks the meaning view alone: n-grams in common do not make a message near."""
    voters = (Neighbor("1", ("a",), 31.5, view=View.SURFACE), Neighbor("2", ("a",), 0.29))
    prediction = decide(
        "t", Rules(("a", "b"), policy=_FLOORED), Ballot({"a": 1.0, "b": 0.0}, voters, in_scope_score=1.0)
    )
    assert prediction.abstention_reason is AbstentionReason.TOO_FAR
    assert prediction.top_similarity == 0.29


def test_out_of_scope() -> None:
    """When the out-of-scope label wins, the prediction abstains and keeps its score."""
    prediction = _decide({"a": 0.1, "none": 0.9}, out_of_scope="none")
    assert prediction.abstention_reason is AbstentionReason.OUT_OF_SCOPE
    assert prediction.labels == ()
    assert prediction.score == 0.9
    assert _decide({"a": 0.9, "none": 0.1}, out_of_scope="none").labels == ("a",)


def test_the_benign_label_is_a_label() -> None:
    """In a single-label task the benign label wins like any other."""
    rules = Rules(("spam", "ham"), benign_label="ham", policy=_FLOORED)
    assert decide("t", rules, _ballot({"spam": 0.1, "ham": 0.9})).labels == ("ham",)


def test_the_only_label_wins_with_its_score_as_margin() -> None:
    """In a task of one label the margin is its score."""
    assert _decide({"a": 1.0}).margin == 1.0


def test_nobody_votes() -> None:
    """Without examples the prediction says so, with every label at 0 and no similarity."""
    rules = Rules(("b", "a"))
    prediction = decide("t", rules, count_votes({}, rules, ClassSizes()))
    assert prediction.abstention_reason is AbstentionReason.NO_EXAMPLES
    assert prediction.scores == {"a": 0.0, "b": 0.0}
    assert (prediction.score, prediction.margin, prediction.top_similarity) == (0.0, 0.0, None)


def test_abstaining_takes_the_abstention_action() -> None:
    """A prediction without text abstains with the policy's action for abstentions."""
    rules = Rules(("a",), policy=Policy(abstention_action=Action.REVIEW))
    prediction = abstain("t", rules, AbstentionReason.NO_TEXT)
    assert prediction.abstention_reason is AbstentionReason.NO_TEXT
    assert prediction.action is Action.REVIEW
    assert prediction.abstained
    assert prediction.label is None


def test_the_action_knows_of_the_abstention() -> None:
    """An abstention gets its own action, a prediction with a label does not."""
    policy = replace(_FLOORED, abstention_action=Action.REVIEW)
    assert _decide({"a": 0.5, "b": 0.5}, policy).action is Action.REVIEW
    assert _decide({"a": 1.0, "b": 0.0}, policy).action is Action.ALLOW


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_window_that_decided(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The window is that of the nearest voter with the label that won, not that of the nearest voter."""
    voters = (Neighbor("1", ("b",), 0.9, window=7), Neighbor("2", ("a",), 0.8, window=4), Neighbor("3", ("a",), 0.7))
    rules = Rules(("a", "b"), multi_label=multi_label, policy=_OPEN)
    assert decide("t", rules, Ballot({"a": 0.6, "b": 0.4}, voters)).decided_by_window == 4


def test_several_labels() -> None:
    """In a multi-label task every label that reaches its threshold is given, best first."""
    policy = replace(_FLOORED, score_threshold=0.5, labels={"c": LabelPolicy(score_threshold=0.1)})
    prediction = _decide_several({"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.49}, policy)
    assert prediction.labels == ("b", "a", "c")
    assert prediction.score == 0.9
    assert prediction.margin == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"a": 0.75, "none": 0.25}, ("a",)),
        ({"a": 0.25, "none": 0.75}, ("none",)),
        ({"a": 0.6, "none": 0.4}, ()),
        ({"a": 0.4, "none": 0.6}, ()),
        ({"a": 0.9, "b": 0.55, "none": 0.1}, ("a", "b")),  # one clear label is an answer, whatever else is in doubt
    ],
)
def test_several_labels_may_be_ambiguous(scores: dict[str, float], expected: tuple[str, ...]) -> None:
    """In a multi-label task scores within the margin floor of the threshold are ambiguous; else benign is given."""
    prediction = _decide_several(scores, benign="none")
    assert expected == prediction.labels
    assert (None if expected else AbstentionReason.AMBIGUOUS) == prediction.abstention_reason


def test_labels_that_share_the_votes() -> None:
    """When the benign label is clearly beaten but no label reaches its threshold alone, the best of them is given."""
    prediction = _decide_several({"a": 0.45, "b": 0.4, "none": 0.15}, benign="none")
    assert prediction.labels == ("a",)
    assert prediction.margin == pytest.approx(0.35)


def test_only_a_benign_label() -> None:
    """A multi-label task whose only label is benign gives it."""
    assert _decide_several({"none": 1.0}, benign="none").labels == ("none",)


def test_none_of_several_labels() -> None:
    """A multi-label task without a benign label abstains when no label reaches its threshold."""
    prediction = _decide_several({"a": 0.1, "b": 0.05})
    assert prediction.labels == ()
    assert prediction.abstained


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("benign", ["", "b"])
def test_neighbours_whose_labels_are_gone(multi_label: bool, benign: str) -> None:  # noqa: FBT001 - as above
    """Neighbours with none of the task's labels decide nothing: no label that nobody voted for is given."""
    rules = Rules(("a", "b"), multi_label=multi_label, benign_label=benign, policy=_OPEN)
    gone = [Neighbor("1", ("gone",), 0.9)]
    prediction = decide("t", rules, count_votes({View.MEANING: gone, View.SURFACE: gone}, rules, ClassSizes()))
    assert [label for label in prediction.labels if label != benign] == []
    if not multi_label:
        assert prediction.abstained
