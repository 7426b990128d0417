"""What a fit sets floors and thresholds for."""

from dataclasses import dataclass
from enum import Enum

from nearvote.errors import InvalidField

_MOST_FALSE_POSITIVES = 1000.0


class GoalKind(Enum):
    """What is to be reached."""

    BEST_F1 = "best F1"
    TARGET_PRECISION = "target precision"
    TARGET_RECALL = "target recall"
    MAX_FALSE_POSITIVES = "max false positives"


@dataclass(frozen=True, slots=True)
class Goal:
    """What floors and thresholds are set for.

    Attributes:
        kind: What is to be reached.
        value: Precision or recall of each label, in (0, 1]; or false positives in 1,000 messages that are benign or out
            of scope, 0 to 1000. Without meaning for the best F1. 0 false positives is a goal like any other.
    """

    kind: GoalKind = GoalKind.BEST_F1
    value: float = 0.0

    def check(self) -> None:
        """Checks the value.

        Raises:
            InvalidField: It is out of range.
        """
        if self.kind is GoalKind.MAX_FALSE_POSITIVES and not 0 <= self.value <= _MOST_FALSE_POSITIVES:
            raise InvalidField("false positives are 0 to 1000 in 1,000 messages", field="goal.max_false_positives")
        if self.kind in (GoalKind.TARGET_PRECISION, GoalKind.TARGET_RECALL) and not 0 < self.value <= 1:
            name = self.kind.value.replace(" ", "_")
            raise InvalidField(f"{name} must be above 0 and up to 1", field=f"goal.{name}")


@dataclass(frozen=True, slots=True)
class ValidationMessage:
    """A message that is no example, and whose right labels are known; none for one that is out of scope."""

    text: str
    labels: tuple[str, ...]
