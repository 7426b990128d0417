"""Counting votes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearvote.voting.neighbor import Neighbor, View, nearest_first, weightiest_first
from nearvote.voting.policy import Policy, Rules
from nearvote.voting.pool import Opinions, Pool, Voter, in_scope_score


@dataclass(frozen=True, slots=True)
class ClassSizes:
    """How many examples a task has, and how many of them have each label."""

    total: int = 0
    by_label: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ballot:
    """All votes on one message in one task, counted.

    Attributes:
        scores: Score of each of the task's labels, in [0, 1], best first. In a single-label task they sum to 1, unless
            nobody voted.
        neighbors: The voters, weightiest first, with their shares, which sum to what the prototypes leave.
        prototype_share: The prototypes' part of all votes, in [0, 1].
        in_scope_score: How surely the task is about the message, in [0, 1].
        calibrated: Whether scores are probabilities, not shares of the vote.
    """

    scores: Mapping[str, float]
    neighbors: tuple[Neighbor, ...]
    prototype_share: float = 0.0
    in_scope_score: float = 0.0
    calibrated: bool = False

    @property
    def top_similarity(self) -> float | None:
        """Similarity of the nearest voter in the meaning view; None when nobody voted there."""
        return max((n.similarity for n in self.neighbors if n.view is View.MEANING), default=None)

    def deciding(self, label: str) -> Neighbor | None:
        """The weightiest voter that has the label, in the meaning view where there is one: it knows its window."""
        having = [neighbor for neighbor in self.neighbors if label in neighbor.labels]
        return next((n for n in having if n.view is View.MEANING), having[0] if having else None)


def count_votes(
    found: Mapping[View, Sequence[Neighbor]],
    rules: Rules,
    class_sizes: ClassSizes,
    *,
    prototypes: Opinions | None = None,
    learned_us: int = 0,
) -> Ballot:
    """Counts the votes of a message's neighbours.

    Each view's neighbours vote among themselves; the views' scores are then averaged by their weights or, in a fitted
    task, pooled with what the prototypes say. A view in which nobody is found leaves its weight to the others.

    In the meaning view a vote weighs exp((s - s_max) / T) times its example's weight: the softmax kernel of
    neighbourhood components analysis (Goldberger et al. 2004) on cosine similarity. In the surface view, whose
    similarities have no scale that two messages share, it weighs (s / s_max) to the power of `surface_exponent`.

    Single-label: each vote goes to the neighbour's label, divided by that label's number of examples to the power
    of `class_size_exponent`; a score is the label's part of the sum. Multi-label: each label is a question of its own,
    its score the part of "yes", where the votes for yes are divided by the number of examples that have the label,
    and those for no by the number that don't, to the same power.

    Args:
        found: The voters of each view, in any order; those with none of the task's labels are left out.
        rules: The task's labels and policy.
        class_sizes: How many examples the task has; only a class-size correction asks. A label that is missing counts
            as one example.
        prototypes: What the label prototypes of the task's fit say; None without any. Of labels and examples that came
            after them they say what the neighbours say.
        learned_us: When the prototypes were learned, in microseconds since 1970-01-01 UTC.

    Returns:
        The ballot. Ties between labels go to the one with the weightier voter, then to the first in the alphabet.
    """
    voters = _voters(found, rules)
    policy, pool = rules.policy, rules.policy.pool
    if not voters:
        return Ballot(dict.fromkeys(sorted(rules.labels), 0.0), ())
    opinions: dict[Voter, Mapping[str, float]] = {}
    shares: dict[View, list[float]] = {}
    for view, own in voters.items():
        opinions[_VOTER_OF[view]], shares[view] = _count_view(own, _weights(own, policy, view), rules, class_sizes)
    if pool and not any(map(pool.weight, [*opinions, *(prototypes or ())])):
        pool = None  # those who count are silent: the others are all there is
    if pool and prototypes:
        newer = [
            sum(share for voter, share in zip(own, shares[view], strict=True) if voter.updated_us > learned_us)
            for view, own in voters.items()
        ]
        opinions |= _completed(prototypes, opinions, rules, min(1.0, sum(newer) / len(newer)))
    weights = _voter_weights(opinions, policy, pool)
    if pool:
        scores = pool.scores(opinions, rules.labels, multi_label=rules.multi_label)
    else:
        scores = dict.fromkeys(rules.labels, 0.0)
        for voter, opinion in opinions.items():
            weight = weights[voter]
            for label, score in opinion.items():
                scores[label] = min(1.0, scores[label] + weight * score)  # rounding may carry a sum above 1
    counted: list[Neighbor] = []
    for view, own in voters.items():
        weight = weights[_VOTER_OF[view]]
        counted += [voter.with_share(weight * share) for voter, share in zip(own, shares[view], strict=True)]
    counted = weightiest_first(counted)
    rank = {label: i for i, voter in reversed(list(enumerate(counted))) for label in voter.labels}
    best_first = sorted(scores, key=lambda label: (-scores[label], rank.get(label, len(counted)), label))
    return Ballot(
        scores={label: scores[label] for label in best_first},
        neighbors=tuple(counted),
        prototype_share=max(0.0, 1 - sum(weights[_VOTER_OF[view]] for view in voters)),
        # What is sure to be out of scope is not in scope, however sure.
        in_scope_score=in_scope_score(opinions, len(rules.labels), voters.get(View.MEANING, ()))
        * (1 - scores.get(rules.out_of_scope_label, 0.0)),
        calibrated=pool is not None,
    )


def settled_by(example: Neighbor, rules: Rules) -> Ballot:
    """The ballot on a message that is an example itself, word for word: the example alone votes.

    So a correction counts at once, whatever the neighbours and the prototypes think.

    Args:
        example: The example, with one or more of the task's labels.
        rules: The task's labels and policy.
    """
    having = [label for label in rules.labels if label in example.labels]
    if not rules.multi_label:
        having = having[:1]
    rest = sorted(set(rules.labels) - set(having))
    return Ballot(
        scores={**dict.fromkeys(sorted(having), 1.0), **dict.fromkeys(rest, 0.0)},
        neighbors=(example.with_share(1.0),),
        in_scope_score=0.0 if having == [rules.out_of_scope_label] else 1.0,
    )


_VOTER_OF = {View.MEANING: Voter.MEANING, View.SURFACE: Voter.SURFACE}


def _voters(found: Mapping[View, Sequence[Neighbor]], rules: Rules) -> dict[View, list[Neighbor]]:
    """Those of each view who have one of the task's labels, nearest first; views without any are left out."""
    known = frozenset(rules.labels)
    voters: dict[View, list[Neighbor]] = {}
    for view, neighbors in found.items():
        # A label may have been taken out of the task while its examples were being found.
        own = nearest_first([neighbor for neighbor in neighbors if not known.isdisjoint(neighbor.labels)])
        if own and (view is View.MEANING or own[0].similarity > 0):
            voters[view] = own
    return voters


def _voter_weights(opinions: Opinions, policy: Policy, pool: Pool | None) -> dict[Voter, float]:
    """Each voter's part of the whole; they sum to 1."""
    if pool:
        weights = {voter: pool.weight(voter) for voter in opinions}
    else:
        weights = {voter: policy.view_weight(_VIEW_OF[voter]) for voter in opinions}
    total = sum(weights.values())
    # When only voters without weight have an opinion, it is all there is.
    return {voter: weight / total if total else 1 / len(weights) for voter, weight in weights.items()}


_VIEW_OF = {voter: view for view, voter in _VOTER_OF.items()}


def _completed(prototypes: Opinions, votes: Opinions, rules: Rules, newer: float) -> dict[Voter, Mapping[str, float]]:
    """The prototypes' opinions, as far as they know what was voted on.

    Labels that came after the fit have what the neighbours give them; and as much of the votes as is of examples that
    came or were changed after it, so much of the prototypes' opinion is the neighbours'.
    """
    known = next(iter(prototypes.values()))
    given = {label: sum(vote[label] for vote in votes.values()) / len(votes) for label in rules.labels}
    new = {label for label in rules.labels if label not in known}
    left = 1.0 if rules.multi_label else 1 - sum(given[label] for label in new)
    return {
        voter: {
            label: given[label] if label in new else newer * given[label] + (1 - newer) * left * opinion[label]
            for label in rules.labels
        }
        for voter, opinion in prototypes.items()
    }


def _weights(voters: Sequence[Neighbor], policy: Policy, view: View) -> list[float]:
    nearest = voters[0].similarity
    if view is View.SURFACE:
        return [v.example_weight * math.pow(v.similarity / nearest, policy.surface_exponent) for v in voters]
    return [v.example_weight * math.exp((v.similarity - nearest) / policy.temperature) for v in voters]


def _count_view(
    voters: Sequence[Neighbor], weights: list[float], rules: Rules, class_sizes: ClassSizes
) -> tuple[dict[str, float], list[float]]:
    """Each label's score among the voters of one view, and each voter's share."""
    exponent = rules.policy.class_size_exponent

    def correction(size: int) -> float:
        return math.pow(max(size, 1), exponent)

    votes = dict.fromkeys(rules.labels, 0.0)
    if rules.multi_label:
        total = sum(weights)
        for weight, voter in zip(weights, voters, strict=True):
            for label in votes.keys() & voter.labels:
                votes[label] += weight
        scores = {}
        for label, vote in votes.items():
            having = class_sizes.by_label.get(label, 1)
            yes, no = vote / correction(having), (total - vote) / correction(class_sizes.total - having)
            scores[label] = yes / (yes + no) if yes else 0.0
    else:
        for i, voter in enumerate(voters):
            labels = voter.labels
            own = labels[0] if len(labels) == 1 else next(label for label in labels if label in votes)
            if exponent:
                weights[i] /= correction(class_sizes.by_label.get(own, 1))
            votes[own] += weights[i]
        total = sum(votes.values())
        scores = {label: vote / total for label, vote in votes.items()}
    return scores, [weight / total for weight in weights]
