from collections.abc import Mapping
from dataclasses import replace

import pytest

from nearvote.voting.ballot import Ballot, ClassSizes, count_votes
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.policy import Action, LabelPolicy, Policy, Rules
from nearvote.voting.prediction import AbstentionReason, Prediction, abstain, decide

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
    prediction = decide("t", rules, count_votes([], rules, ClassSizes()))
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
    prediction = decide("t", rules, count_votes([Neighbor("1", ("gone",), 0.9)], rules, ClassSizes()))
    assert [label for label in prediction.labels if label != benign] == []
    if not multi_label:
        assert prediction.abstained
