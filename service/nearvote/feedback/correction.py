"""A correction: what labels a text should have, according to somebody."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from nearvote.errors import InvalidField, NearvoteError
from nearvote.examples.example import MAX_SOURCE_BYTES, Draft, example_id

# Random, made once for this project.
_NAMESPACE = uuid.UUID("a3c1f1de-6c3f-4f6e-8d54-3a1b7f0f6b2d")

MAX_KEY_BYTES = 128


def feedback_id(tenant: str, key: str) -> str:
    """The id of what is submitted under a key: a UUID of version 5, so that submitting twice is submitting once."""
    return str(uuid.uuid5(_NAMESPACE, f"{len(tenant)}:{tenant}{key}"))


class FeedbackState(Enum):
    """What has become of a correction."""

    PENDING = "pending"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction as somebody gives it: of a text, or of an example by its id.

    Attributes:
        key: Names it, 1 to 128 bytes; the same when it is given again.
        task: The task.
        labels: The labels that it should have.
        source: Who says so, 1 to 256 bytes.
        text: The text; empty when an example is named.
        example_id: The example; empty when the text is given.
    """

    key: str
    task: str
    labels: tuple[str, ...]
    source: str
    text: str = ""
    example_id: str = ""

    def check(self) -> None:
        """Checks what can be checked without knowing the task.

        Raises:
            InvalidField: Key or source are missing or too long, or neither text nor example is given, or both are.
        """
        for name, value, most in (("key", self.key, MAX_KEY_BYTES), ("source", self.source, MAX_SOURCE_BYTES)):
            if not 1 <= len(value.encode(errors="replace")) <= most:
                raise InvalidField(f"feedback needs a {name} of 1 to {most} bytes", field=name)
        if bool(self.text) == bool(self.example_id):
            raise InvalidField("give a text or the id of an example", field="text")


@dataclass(frozen=True, slots=True)
class Former:
    """An example's labels, weight, source and times as they were, without its text."""

    labels: tuple[str, ...]
    weight: float
    source: str
    created_us: int
    updated_us: int


@dataclass(frozen=True, slots=True)
class Layer:
    """What is known of a promotion, so that it can be undone: see `layers.py`.

    Attributes:
        stack: Names the promotions that lie on one another.
        place: Above how many it lies, or lay.
        laid_us: When it was laid, in microseconds since 1970-01-01 UTC.
        base: The example beneath the stack; None when there was none.
    """

    stack: str
    place: int
    laid_us: int
    base: Former | None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A correction as it is stored.

    Attributes:
        id: Derived from tenant and key.
        tenant: Whose it is.
        key: What it was submitted under.
        task: The task.
        text: The text, as it was given.
        example_id: Of the example that the text is, or would be.
        labels: The labels that it should have, sorted.
        source: Who says so.
        state: What has become of it.
        created_us: When it was submitted, in microseconds since 1970-01-01 UTC.
        updated_us: When its state last changed, in the same.
        layer: How its promotion can be undone; None before it was begun.
        due: Whether the rule has said to promote it, and it is not promoted yet.
    """

    id: str
    tenant: str
    key: str
    task: str
    text: str
    example_id: str
    labels: tuple[str, ...]
    source: str
    state: FeedbackState
    created_us: int
    updated_us: int
    layer: Layer | None = None
    due: bool = False

    def is_of(self, correction: Correction) -> bool:
        """Whether it is what somebody gives, under whatever key."""
        subject = correction.example_id or example_id(self.tenant, correction.task, correction.text)
        try:
            subject = str(uuid.UUID(subject))
        except ValueError:
            return False
        return (self.task, self.example_id, self.labels, self.source) == (
            correction.task,
            subject,
            tuple(sorted(correction.labels)),
            correction.source,
        )

    def draft(self, weight: float = 1.0) -> Draft:
        """The example that it asks for."""
        return Draft(self.task, self.text, self.labels, weight, self.source)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What is there under a key, and whether it was not there before."""

    feedback: Feedback
    created: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which feedback of a task is meant: that of some ids, or all of a source or of some time.

    Attributes:
        task: The task.
        ids: Their ids; with ids the other fields stay empty.
        source: Their source; any when empty.
        from_us: Submitted at this time or later, in microseconds since 1970-01-01 UTC; 0 for any.
        until_us: Submitted before this time; 0 for any.
    """

    task: str
    ids: Sequence[str] = ()
    source: str = ""
    from_us: int = 0
    until_us: int = 0

    def check(self) -> None:
        """Checks that it says something, and one thing.

        Raises:
            InvalidField: It does not.
        """
        others = bool(self.source or self.from_us or self.until_us)
        if bool(self.ids) == others:
            raise InvalidField("select by ids, or by source and time", field="selection")

    def covers(self, feedback: Feedback) -> bool:
        """Whether a correction was submitted in its time."""
        return self.from_us <= feedback.created_us and (not self.until_us or feedback.created_us < self.until_us)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What came of a promotion: so many corrections, new examples, examples of other labels; and what was refused."""

    count: int
    new_count: int
    relabeled_count: int
    refused: dict[str, NearvoteError]


@dataclass(frozen=True, slots=True)
class Revoked:
    """What came of taking feedback back.

    Attributes:
        dropped_count: Corrections that were pending.
        undone_count: Corrections that had been promoted.
        deleted_count: Examples that are gone, since nothing was there before.
        restored_count: Examples that are as they were, or as another correction has them that stands.
        kept_count: Examples that stay, since somebody changed or deleted them since, or another correction stands.
    """

    dropped_count: int = 0
    undone_count: int = 0
    deleted_count: int = 0
    restored_count: int = 0
    kept_count: int = 0
