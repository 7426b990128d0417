import pytest

from nearvote.voting.neighbor import View
from nearvote.voting.policy import Action, LabelPolicy, Policy


def test_a_label_without_its_own_takes_the_policys() -> None:
    """A label's own threshold and margin floor go before the policy's; None stands for the policy's."""
    own = LabelPolicy(score_threshold=0.9, margin_floor=0.4)
    policy = Policy(score_threshold=0.5, margin_floor=0.1, labels={"a": own, "b": LabelPolicy()})
    assert [policy.score_threshold_of(label) for label in "abc"] == [0.9, 0.5, 0.5]
    assert [policy.margin_floor_of(label) for label in "abc"] == [0.4, 0.1, 0.1]


def test_zero_is_a_value() -> None:
    """A floor or threshold of 0 is a value, not a floor that is not set."""
    own = LabelPolicy(score_threshold=0.0, margin_floor=0.0, review_score=0.0)
    policy = Policy(score_threshold=0.5, margin_floor=0.1, labels={"a": own})
    assert policy.score_threshold_of("a") == 0.0
    assert policy.margin_floor_of("a") == 0.0
    assert policy.action({"a": 0.0}, abstained=False) is Action.REVIEW


_SPAM = {"spam": LabelPolicy(review_score=0.5, block_score=0.9)}


@pytest.mark.parametrize(
    ("score", "expected"), [(0.49, Action.ALLOW), (0.5, Action.REVIEW), (0.89, Action.REVIEW), (0.9, Action.BLOCK)]
)
def test_the_score_leads_to_an_action(score: float, expected: Action) -> None:
    """A score that reaches a bound leads to its action."""
    assert expected == Policy(labels=_SPAM).action({"spam": score}, abstained=False)


def test_the_strictest_action_is_taken() -> None:
    """Of the actions that several labels lead to the strictest is taken, whatever their order."""
    mild = LabelPolicy(review_score=0.1)
    for labels in ({"mild": mild, **_SPAM}, {**_SPAM, "mild": mild}):
        assert Policy(labels=labels).action({"mild": 0.5, "spam": 0.95}, abstained=False) is Action.BLOCK


def test_block_without_review() -> None:
    """A policy may block without ever asking for a review."""
    policy = Policy(labels={"spam": LabelPolicy(block_score=0.9)})
    assert policy.action({"spam": 0.8}, abstained=False) is Action.ALLOW
    assert policy.action({"spam": 1.0}, abstained=False) is Action.BLOCK


@pytest.mark.parametrize("abstained", [False, True])
def test_a_policy_that_names_no_action_has_none(abstained: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A policy that names no action leads to none, not to letting everything pass."""
    policy = Policy(labels={"spam": LabelPolicy(margin_floor=0.2)})
    assert policy.action({"spam": 1.0}, abstained=abstained) is None


@pytest.mark.parametrize(
    ("abstention", "score", "expected"),
    [
        (None, 0.95, None),
        (Action.ALLOW, 0.95, Action.ALLOW),
        (Action.REVIEW, 0.0, Action.REVIEW),
        (Action.REVIEW, 0.95, Action.REVIEW),
        (Action.BLOCK, 0.0, Action.BLOCK),
    ],
)
def test_an_abstention_has_its_own_action(abstention: Action | None, score: float, expected: Action | None) -> None:
    """An abstention leads to its own action, whatever the scores: they are of neighbours too far or too few."""
    policy = Policy(labels=_SPAM, abstention_action=abstention)
    assert expected == policy.action({"spam": score}, abstained=True)


def test_the_action_of_abstentions_is_for_them_alone() -> None:
    """A prediction with a label does not get the action of abstentions."""
    policy = Policy(abstention_action=Action.BLOCK)
    assert policy.action({"ham": 1.0}, abstained=False) is Action.ALLOW


def test_a_label_without_a_score_has_the_score_zero() -> None:
    """A label that the scores leave out has not reached its bounds."""
    assert Policy(labels=_SPAM).action({}, abstained=False) is Action.ALLOW


@pytest.mark.parametrize("surface_weight", [0.0, 0.25, 1.0])
def test_the_views_share_one_vote(surface_weight: float) -> None:
    """What the surface view has not, the meaning view has."""
    policy = Policy(surface_weight=surface_weight)
    assert policy.view_weight(View.SURFACE) == surface_weight
    assert policy.view_weight(View.MEANING) == 1 - surface_weight


def test_the_default_hears_both_views() -> None:
    """Unless a policy says otherwise both views vote, the meaning more than the surface; nothing is learned."""
    policy = Policy()
    assert 0 < policy.view_weight(View.SURFACE) < policy.view_weight(View.MEANING)
    assert (policy.pool, policy.scope_floor) == (None, 0.0)
