"""What a task makes of its votes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from nearvote.voting.neighbor import View
from nearvote.voting.pool import Pool, Voter


class Action(Enum):
    """What should happen to a message, mildest first."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class LabelPolicy:
    """What a score of one label leads to. None stands for the policy's own, or for never.

    Attributes:
        review_score: From this score on the message is shown to a person, in [0, 1].
        block_score: From this score on the message is stopped, in [0, 1].
        score_threshold: From this score on the label is given, in [0, 1]. In a single-label task the label is given
            that has most in parts of its threshold, and abstained from when even that is less than the threshold.
        margin_floor: Margin below which a vote for this label is ambiguous, in [0, 1].
    """

    review_score: float | None = None
    block_score: float | None = None
    score_threshold: float | None = None
    margin_floor: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How votes become a prediction. The defaults are measured on the shipped seeds: DECISIONS 9.

    Attributes:
        k: Neighbours that vote in each view, 1 or more.
        temperature: Similarity by which a vote falls to 1/e in the meaning view, above 0.
        surface_weight: Weight of the surface view's vote; the meaning view has the rest; in [0, 1]. A pool has weights
            of its own.
        surface_exponent: In the surface view a neighbour half as similar as the nearest one has half its vote to this
            power; 0 or more.
        max_group_share: Part of the voters that may be of one source, or near-duplicates of one text, in [0, 1].
        class_size_exponent: Votes are divided by the label's number of examples to this power, in [0, 1].
        similarity_floor: Similarity of the nearest example below which a message is too far, in [-1, 1].
        margin_floor: Margin below which a vote is ambiguous, in [0, 1].
        score_threshold: Score from which on a label is given in a multi-label task, in [0, 1].
        scope_floor: In-scope score below which a message is too far, in [0, 1].
        pool: Makes probabilities of both views' votes and the prototypes of the task's fit; None leaves the views'
            votes to be averaged.
        labels: What differs for single labels.
        abstention_action: What an abstention leads to; None for no action.
    """

    k: int = 20
    temperature: float = 0.1
    surface_weight: float = 0.4
    surface_exponent: float = 6.0
    max_group_share: float = 0.5
    class_size_exponent: float = 0.0
    similarity_floor: float = 0.2
    margin_floor: float = 0.1
    score_threshold: float = 0.5
    scope_floor: float = 0.0
    pool: Pool | None = None
    labels: Mapping[str, LabelPolicy] = field(default_factory=dict)
    abstention_action: Action | None = None

    @property
    def asks_surface(self) -> bool:
        """Whether the surface view has a say."""
        return bool(self.pool.weight(Voter.SURFACE) if self.pool else self.surface_weight)

    def view_weight(self, view: View) -> float:
        """What a view's vote counts, in [0, 1]."""
        return self.surface_weight if view is View.SURFACE else 1 - self.surface_weight

    def score_threshold_of(self, label: str) -> float:
        """Score from which on this label is given."""
        own = self.labels[label].score_threshold if label in self.labels else None
        return self.score_threshold if own is None else own

    def margin_floor_of(self, label: str) -> float:
        """Margin below which a vote for this label is ambiguous."""
        own = self.labels[label].margin_floor if label in self.labels else None
        return self.margin_floor if own is None else own

    def action(self, scores: Mapping[str, float], *, abstained: bool) -> Action | None:
        """What should happen to the message.

        Args:
            scores: Score of each label.
            abstained: Whether the prediction has no label; then the scores lead to nothing.

        Returns:
            `abstention_action` for an abstention, else the strictest action that a score reaches; None when the
            policy names no action for it.
        """
        if abstained:
            return self.abstention_action
        bounds = [
            (action, scores.get(label, 0.0), bound)
            for label, own in self.labels.items()
            for action, bound in ((Action.BLOCK, own.block_score), (Action.REVIEW, own.review_score))
            if bound is not None
        ]
        for strictest in (Action.BLOCK, Action.REVIEW):
            if any(action is strictest and score >= bound for action, score, bound in bounds):
                return strictest
        return Action.ALLOW if bounds or self.abstention_action else None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the vote on one task needs to know of it.

    Attributes:
        labels: The task's labels.
        multi_label: Whether a message may have several.
        benign_label: The label that means "nothing to see here"; empty for none.
        out_of_scope_label: The label that means "not what this task is about"; empty for none.
        policy: How votes become a prediction.
    """

    labels: tuple[str, ...]
    multi_label: bool = False
    benign_label: str = ""
    out_of_scope_label: str = ""
    policy: Policy = field(default_factory=Policy)
