"""Something doubtful about a task's examples."""

from dataclasses import dataclass
from enum import Enum


class FindingKind(Enum):
    """What is doubtful."""

    DUPLICATE = "duplicate"
    CONFLICTING_NEAR_DUPLICATE = "conflicting near-duplicate"
    CONTRADICTED = "contradicted"
    FEW_EXAMPLES = "few examples"
    CONTRADICTING_SOURCE = "contradicting source"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something doubtful about a task's examples.

    Attributes:
        kind: What it is.
        labels: The example's labels, or the label that it is about.
        example_id: The example; empty when it is about a label.
        text: Its text.
        other_id: The other example of a pair; empty without one.
        other_labels: Its labels, or those that the neighbours would give.
        other_text: Its text.
        value: Similarity of a pair, the neighbours' score, or the share of the source's examples that are contradicted,
            in [0, 1]; or the label's number of examples.
        source: The source that it is about; empty when it is about none.
        judged_count: How many of the source's examples were judged.
        rest_value: Share of all other examples that are contradicted, in [0, 1].
    """

    kind: FindingKind
    labels: tuple[str, ...]
    example_id: str = ""
    text: str = ""
    other_id: str = ""
    other_labels: tuple[str, ...] = ()
    other_text: str = ""
    value: float = 0.0
    source: str = ""
    judged_count: int = 0
    rest_value: float = 0.0
