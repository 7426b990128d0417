"""Counting votes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nearvote.voting.neighbor import Neighbor, nearest_first
from nearvote.voting.policy import Rules


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
        neighbors: The voters, nearest first, with their shares, which sum to 1.
    """

    scores: Mapping[str, float]
    neighbors: tuple[Neighbor, ...]

    def nearest_with(self, label: str) -> Neighbor | None:
        """The nearest voter that has the label."""
        return next((neighbor for neighbor in self.neighbors if label in neighbor.labels), None)


def count_votes(neighbors: Sequence[Neighbor], rules: Rules, class_sizes: ClassSizes) -> Ballot:
    """Counts the votes of a message's neighbours.

    A neighbour's vote weighs exp((s - s_max) / T) times its example's weight: the softmax kernel of neighbourhood
    components analysis (Goldberger et al. 2004) on cosine similarity. Subtracting s_max changes no score; it keeps
    the exponential in range.

    Single-label: each vote goes to the neighbour's label, divided by that label's number of examples to the power
    of `class_size_exponent`; a score is the label's part of the sum. Multi-label: each label is a question of its own,
    its score the part of "yes", where the votes for yes are divided by the number of examples that have the label,
    and those for no by the number that don't, to the same power.

    Args:
        neighbors: The voters, in any order; those with none of the task's labels are left out.
        rules: The task's labels and policy.
        class_sizes: How many examples the task has; only a class-size correction asks. A label that is missing counts
            as one example.

    Returns:
        The ballot. Ties between labels go to the one with the nearer neighbour, then to the first in the alphabet.
    """
    known = frozenset(rules.labels)
    # A label may have been taken out of the task while its examples were being found.
    voters = nearest_first([neighbor for neighbor in neighbors if not known.isdisjoint(neighbor.labels)])
    if not voters:
        return Ballot(dict.fromkeys(sorted(rules.labels), 0.0), ())
    policy = rules.policy
    nearest = voters[0].similarity
    weights = [voter.example_weight * math.exp((voter.similarity - nearest) / policy.temperature) for voter in voters]

    def correction(size: int) -> float:
        return math.pow(max(size, 1), policy.class_size_exponent)

    if rules.multi_label:
        total = 0.0
        votes = dict.fromkeys(rules.labels, 0.0)
        for weight, voter in zip(weights, voters, strict=True):
            total += weight
            for label in known.intersection(voter.labels):
                votes[label] += weight
        scores = {}
        for label, vote in votes.items():
            having = class_sizes.by_label.get(label, 1)
            yes, no = vote / correction(having), (total - vote) / correction(class_sizes.total - having)
            scores[label] = yes / (yes + no) if yes else 0.0
    else:
        votes = dict.fromkeys(rules.labels, 0.0)
        for i, voter in enumerate(voters):
            own = next(label for label in voter.labels if label in known)
            weights[i] /= correction(class_sizes.by_label.get(own, 1))
            votes[own] += weights[i]
        total = sum(votes.values())
        scores = {label: vote / total for label, vote in votes.items()}

    shares = [weight / total for weight in weights]
    counted = tuple(replace(voter, share=share) for voter, share in zip(voters, shares, strict=True))
    rank = {label: i for i, voter in reversed(list(enumerate(voters))) for label in voter.labels}
    best_first = sorted(scores, key=lambda label: (-scores[label], rank.get(label, len(voters)), label))
    return Ballot({label: scores[label] for label in best_first}, counted)
