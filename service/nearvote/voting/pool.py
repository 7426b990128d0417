"""One answer of several opinions: votes of both views, and the label prototypes of both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from nearvote.voting.neighbor import Neighbor

# What an opinion that is quite sure leaves to chance: a label that nobody voted for is unlikely, not impossible.
# Chosen on training texts: anything from .02 to .1 does as well.
DOUBT = 0.05


class Voter(Enum):
    """Who has an opinion on a message."""

    MEANING = "meaning"
    SURFACE = "surface"
    MEANING_PROTOTYPES = "meaning_prototypes"
    PLAIN_PROTOTYPES = "plain_prototypes"
    SURFACE_PROTOTYPES = "surface_prototypes"

    __hash__ = object.__hash__  # as that of `View`


Opinions = Mapping[Voter, Mapping[str, float]]

NEAREST = 10  # neighbours whose mean similarity is the nearness

# How much each voter's doubt tells of the scope. Prototypes are the steadier half: of neighbours there are some
# everywhere. Set beforehand, since a task as a rule has no examples of what it is not about.
CERTAINTY_WEIGHTS = {
    Voter.MEANING: 1.0,
    Voter.SURFACE: 1.0,
    Voter.MEANING_PROTOTYPES: 2.0,
    Voter.PLAIN_PROTOTYPES: 2.0,
    Voter.SURFACE_PROTOTYPES: 2.0,
}


@dataclass(frozen=True, slots=True)
class Pool:
    """A logarithmic opinion pool (Genest and Zidek 1986), whose weights were chosen so that it gives probabilities.

    Single-label: the softmax of the weighted sum of the opinions' logarithms, and a bias. Multi-label: for each label
    the logistic function of the weighted sum of the opinions' log-odds, and a bias. Weights that sum to less than 1
    make the answer less decided than the opinions are, so this is temperature scaling (Guo et al. 2017) as well.

    Attributes:
        weights: Of each voter, 0 or more; 0 for a voter that is missing.
        bias: What is added, by label; 0 for a label that is missing.
    """

    weights: Mapping[Voter, float]
    bias: Mapping[str, float] = field(default_factory=dict)

    def weight(self, voter: Voter) -> float:
        """What a voter's opinion counts."""
        return self.weights.get(voter, 0.0)

    def scores(self, opinions: Opinions, labels: tuple[str, ...], *, multi_label: bool) -> dict[str, float]:
        """Pools opinions.

        Args:
            opinions: Of each voter that has one, a score of each label, in [0, 1].
            labels: The task's labels.
            multi_label: Whether each label is a question of its own.

        Returns:
            Probability of each label; in a single-label task they sum to 1.
        """
        logits = {label: self.bias.get(label, 0.0) for label in labels}
        doubt = DOUBT / (2 if multi_label else len(labels))
        for voter, opinion in opinions.items():
            weight = self.weight(voter)
            if not weight:
                continue
            for label in labels:
                score = (1 - DOUBT) * opinion.get(label, 0.0) + doubt
                logits[label] += weight * math.log(score / (1 - score) if multi_label else score)
        if multi_label:
            return {label: 0.5 * (1 + math.tanh(logit / 2)) for label, logit in logits.items()}  # does not overflow
        highest = max(logits.values())
        powers = {label: math.exp(logit - highest) for label, logit in logits.items()}
        total = sum(powers.values())
        return {label: power / total for label, power in powers.items()}


def in_scope_score(opinions: Opinions, label_count: int, nearest: Sequence[Neighbor]) -> float:
    """How surely a task is about a message: the mean of certainty and nearness.

    Certainty is 1 less the entropy of the opinions' mean, in parts of the greatest possible: neighbours and prototypes
    of what a task is not about are of many labels. Nearness is the mean similarity of the ten nearest voters in the
    meaning view. Each tells something that the other does not: on validation texts of clinc150 their AUROC is .981
    each, and .986 together (docs/quality.md).

    Args:
        opinions: Of each voter that has one, a score of each label, in [0, 1].
        label_count: How many labels the task has.
        nearest: Voters in the meaning view, nearest first.

    Returns:
        In [0, 1]; 0 when nobody has an opinion.
    """
    if not opinions:
        return 0.0
    mean: dict[str, float] = {}
    for voter, opinion in opinions.items():
        weight = CERTAINTY_WEIGHTS[voter]
        for label, score in opinion.items():
            mean[label] = mean.get(label, 0.0) + weight * score
    total = sum(mean.values())
    entropy = -sum(part / total * math.log(part / total) for part in mean.values() if part > 0) if total else math.inf
    certainty = 1 - entropy / math.log(label_count) if label_count > 1 else 1.0
    similarities = [neighbor.similarity for neighbor in nearest[:NEAREST]]
    nearness = sum(similarities) / len(similarities) if similarities else 0.0
    return (min(1.0, max(0.0, certainty)) + min(1.0, max(0.0, nearness))) / 2
