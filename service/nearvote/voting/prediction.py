"""What is said of a message, and when nothing is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from nearvote.voting.ballot import Ballot
from nearvote.voting.neighbor import Neighbor
from nearvote.voting.policy import Action, Rules


class AbstentionReason(Enum):
    """Why a prediction has no label."""

    TOO_FAR = "TOO_FAR"
    OUT_OF_SCOPE = "OUT_OF_SCOPE"
    AMBIGUOUS = "AMBIGUOUS"
    NO_EXAMPLES = "NO_EXAMPLES"
    NO_TEXT = "NO_TEXT"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"


class ScoreKind(Enum):
    """What scores are."""

    VOTE_SHARE = "vote_share"
    PROBABILITY = "probability"


_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one task's question about one message.

    Attributes:
        task: The task's name.
        labels: The labels, best first; empty exactly when `abstention_reason` is set.
        abstention_reason: Why there is no label.
        score: Score of the best label, in [0, 1]; 0 when nobody voted.
        margin: How clear the answer is, in [0, 1]; see `decide`.
        scores: Score of each label, best first.
        action: What the policy says should happen; None when it names no actions.
        neighbors: The voters, weightiest first.
        decided_by_window: Window of the weightiest voter with the best label in the meaning view, from 0.
        policy_version: Version of the policy, from 1.
        examples_version: Time of the last change to the examples, in microseconds since 1970-01-01 UTC.
        score_kind: What the scores are.
        top_similarity: Similarity of the nearest voter in the meaning view, in [-1, 1]; None when nobody voted there.
            It stays when `neighbors` is cut.
        prototype_share: The label prototypes' part of all votes, in [0, 1].
        in_scope_score: How surely the task is about the message, in [0, 1].
    """

    task: str
    labels: tuple[str, ...]
    abstention_reason: AbstentionReason | None
    score: float
    margin: float
    scores: Mapping[str, float]
    action: Action | None
    neighbors: tuple[Neighbor, ...]
    decided_by_window: int = 0
    policy_version: int = 0
    examples_version: int = 0
    score_kind: ScoreKind = ScoreKind.VOTE_SHARE
    top_similarity: float | None = None
    prototype_share: float = 0.0
    in_scope_score: float = 0.0

    @property
    def abstained(self) -> bool:
        """Whether there is no label."""
        return self.abstention_reason is not None

    @property
    def label(self) -> str | None:
        """The best label; None when it abstained."""
        return self.labels[0] if self.labels else None


def decide(task: str, rules: Rules, ballot: Ballot) -> Prediction:
    """Applies a task's policy to its ballot.

    Single-label: the best label is the one with the highest score, in parts of its threshold where labels have
    thresholds of their own; an equal part of 1 for one that has none. The margin is what lies between its score and the
    next. The prediction abstains when the nearest voter is below the similarity floor or the votes are below the scope
    floor, when the out-of-scope label won, or when the label does not reach its threshold or its margin floor.

    Multi-label: a label is given when its score reaches its threshold. The benign label excludes all others, so
    whether any label applies at all is one more question, its score what the benign label did not get: when that
    reaches the threshold, but the labels share the votes so that none does, the best of them is given, unless it has
    not even half of its threshold: then the prediction is ambiguous. The margin is
    how far the clearest question lies above its threshold or, when none does, how far the nearest one lies below.
    When no question is clear by its margin floor but one is within it, the prediction abstains: one clear label is
    an answer, whatever others are in doubt. The benign label is given when nothing else is; without one the
    prediction is ambiguous.

    Args:
        task: The task's name.
        rules: Its labels and policy.
        ballot: The votes.

    Returns:
        The prediction, without versions.
    """
    if not ballot.neighbors:
        return abstain(task, rules, AbstentionReason.NO_EXAMPLES, ballot)
    if rules.multi_label:
        labels, margin, best, ambiguous = _several(rules, ballot)
    else:
        labels, margin, best, ambiguous = _one(rules, ballot)
    reason = None
    top_similarity = ballot.top_similarity
    near = top_similarity is None or top_similarity >= rules.policy.similarity_floor
    if not near or ballot.in_scope_score < rules.policy.scope_floor:
        reason = AbstentionReason.TOO_FAR
    elif rules.out_of_scope_label and best == rules.out_of_scope_label:
        reason = AbstentionReason.OUT_OF_SCOPE
    elif ambiguous:
        reason = AbstentionReason.AMBIGUOUS
    deciding = ballot.deciding(best)
    return Prediction(
        task=task,
        labels=() if reason else labels,
        abstention_reason=reason,
        score=ballot.scores[best],
        margin=margin,
        scores=ballot.scores,
        action=rules.policy.action(ballot.scores, abstained=reason is not None),
        neighbors=ballot.neighbors,
        decided_by_window=deciding.window if deciding else 0,
        top_similarity=top_similarity,
        prototype_share=ballot.prototype_share,
        in_scope_score=ballot.in_scope_score,
        score_kind=ScoreKind.PROBABILITY if ballot.calibrated else ScoreKind.VOTE_SHARE,
    )


def abstain(task: str, rules: Rules, reason: AbstentionReason, ballot: Ballot | None = None) -> Prediction:
    """A prediction that says nothing, because there was nothing to ask or nobody to answer."""
    scores = ballot.scores if ballot else dict.fromkeys(sorted(rules.labels), 0.0)
    return Prediction(
        task=task,
        labels=(),
        abstention_reason=reason,
        score=0.0,
        margin=0.0,
        scores=scores,
        action=rules.policy.action(scores, abstained=True),
        neighbors=ballot.neighbors if ballot else (),
    )


def _one(rules: Rules, ballot: Ballot) -> tuple[tuple[str, ...], float, str, bool]:
    scores, policy = ballot.scores, rules.policy
    thresholds = {label: own.score_threshold for label, own in policy.labels.items() if own.score_threshold is not None}

    def in_thresholds(label: str) -> float:
        return scores[label] / max(thresholds.get(label, 1 / len(scores)), _TINY)

    # Of equal ones the first, which has the nearer voters.
    best = max(scores, key=in_thresholds if thresholds else scores.__getitem__)
    second = max((score for label, score in scores.items() if label != best), default=0.0)
    margin = abs(scores[best] - second)
    threshold = thresholds.get(best)
    short = threshold is not None and scores[best] < threshold
    return (best,), margin, best, short or margin < policy.margin_floor_of(best)


def _several(rules: Rules, ballot: Ballot) -> tuple[tuple[str, ...], float, str, bool]:
    policy, scores, benign = rules.policy, ballot.scores, rules.benign_label
    asked = [label for label in scores if label != benign]
    above = {label: scores[label] - policy.score_threshold_of(label) for label in asked}
    # By how much each question is decided, and how much it takes to be clear.
    decided = [(above[label], policy.margin_floor_of(label)) for label in asked]
    if benign and asked:
        decided.append((1 - scores[benign] - policy.score_threshold, policy.margin_floor))
    given = tuple(label for label in asked if above[label] >= 0)
    if not given and any(lead >= 0 for lead, _ in decided):
        if scores[asked[0]] < policy.score_threshold_of(asked[0]) / 2:  # something applies, and nobody knows what
            return (), max(lead for lead, _ in decided), asked[0], True
        given = (asked[0],)
    if given:
        ambiguous = all(lead < floor for lead, floor in decided)
        return given, max(lead for lead, _ in decided), given[0], ambiguous
    ambiguous = any(-lead < floor for lead, floor in decided)
    lack = min((-lead for lead, _ in decided), default=1.0)
    if not benign:  # every example has a label, so a message that has none lies between them
        return (), lack, asked[0], True
    return (benign,), lack, benign, ambiguous
