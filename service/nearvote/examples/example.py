"""A text with its label or labels in one task."""

import uuid
from dataclasses import dataclass, replace

from nearvote.audit.event import ExampleState
from nearvote.errors import ExampleNotFound, InvalidExample, InvalidField, InvalidPageToken, NearvoteError

# Random, made once for this project: ids of other things never collide with those of examples.
_NAMESPACE = uuid.UUID("6f0c8a52-3f3f-4f0b-9d8e-0d5a4b3f7c11")

MIN_WEIGHT = 0.001
MAX_WEIGHT = 100.0
MAX_TIME_US = 253_402_300_799_999_999  # the last that the wire and JSON can carry: the year 9999
MAX_SOURCE_BYTES = 256
MAX_SUBJECT_BYTES = 256


def example_id(tenant: str, task: str, text: str) -> str:
    """The id of a text in a task: a UUID of version 5, so that the same text added twice is one example."""
    # Lengths first, so that no two triples run together into the same name.
    return str(uuid.uuid5(_NAMESPACE, f"{len(tenant)},{len(task)}:{tenant}{task}{text}"))


def point_id(example: str, window: int) -> str:
    """The id of the point that holds one window of an example; the first window's is the example's own."""
    return example if window == 0 else str(uuid.uuid5(uuid.UUID(example), str(window)))


@dataclass(frozen=True, slots=True)
class Draft:
    """An example as somebody gives it.

    Attributes:
        task: Its task.
        text: Its text, not blank.
        labels: Its labels.
        weight: How much its vote counts, 0.001 to 100.
        source: Where it comes from; may be empty.
        subject: Who the text is about or from; may be empty.
        expires_us: When it ends, in microseconds since 1970-01-01 UTC; never when None.
    """

    task: str
    text: str
    labels: tuple[str, ...]
    weight: float = 1.0
    source: str = ""
    subject: str = ""
    expires_us: int | None = None

    def check(self, now_us: int = 0) -> None:
        """Checks what can be checked without knowing the task.

        Args:
            now_us: The time, in microseconds since 1970-01-01 UTC.

        Raises:
            InvalidExample: The text is blank, weight, source or subject are out of range, or it has ended already.
        """
        if not self.text.strip():
            raise InvalidExample("an example needs a text", field="text")
        if not MIN_WEIGHT <= self.weight <= MAX_WEIGHT:
            raise InvalidExample(f"a weight is {MIN_WEIGHT:g} to {MAX_WEIGHT:g}", field="weight")
        if len(self.source.encode(errors="replace")) > MAX_SOURCE_BYTES:
            raise InvalidExample(f"a source has at most {MAX_SOURCE_BYTES} bytes", field="source")
        if len(self.subject.encode(errors="replace")) > MAX_SUBJECT_BYTES:
            raise InvalidExample(f"a subject has at most {MAX_SUBJECT_BYTES} bytes", field="subject")
        if self.expires_us is not None and not now_us < self.expires_us <= MAX_TIME_US:
            raise InvalidExample("an example ends in the future, before the year 10000", field="expire_time")

    def stored_for(self, tenant: str) -> "Example":
        """The example as it is stored for a tenant, its times still to be set."""
        return Example(
            id=example_id(tenant, self.task, self.text),
            tenant=tenant,
            task=self.task,
            text=self.text,
            labels=tuple(sorted(self.labels)),
            weight=self.weight,
            source=self.source,
            created_us=0,
            updated_us=0,
            subject=self.subject,
            expires_us=self.expires_us,
        )


@dataclass(frozen=True, slots=True)
class Example:
    """An example as it is stored.

    Attributes:
        id: Derived from tenant, task and text.
        tenant: Whose it is.
        task: Its task.
        text: Its text, as it was given.
        labels: Its labels, sorted.
        weight: How much its vote counts.
        source: Where it comes from; may be empty.
        created_us: When it was first added, in microseconds since 1970-01-01 UTC.
        updated_us: When it was last changed, in the same.
        subject: Who the text is about or from; may be empty.
        expires_us: When it ends, in the same; never when None.
    """

    id: str
    tenant: str
    task: str
    text: str
    labels: tuple[str, ...]
    weight: float
    source: str
    created_us: int
    updated_us: int
    subject: str = ""
    expires_us: int | None = None

    def after(self, before: "Example | None", now_us: int) -> "Example":
        """What is stored when this one is given for a text that is there, or is not.

        Subject and end stay where none is given: whoever corrects a label has no say in how long a text is kept.
        """
        if before is None:
            return replace(self, created_us=now_us, updated_us=now_us)
        return replace(
            self,
            created_us=before.created_us,
            updated_us=now_us,
            subject=self.subject or before.subject,
            expires_us=before.expires_us if self.expires_us is None else self.expires_us,
        )

    @property
    def state(self) -> ExampleState:
        """What is recorded of it."""
        return ExampleState(self.labels, self.weight, self.source, self.expires_us)


@dataclass(frozen=True, slots=True)
class Saved:
    """An example as it is stored, and whether its text was new to the task."""

    example: Example
    created: bool


@dataclass(frozen=True, slots=True)
class SearchedExample:
    """An example, and its cosine similarity to what was searched, in [-1, 1]."""

    example: Example
    similarity: float


@dataclass(frozen=True, slots=True)
class ImportedChunk:
    """What became of a chunk of an import: what was saved, and what was refused, by its place in the chunk."""

    saved: list[Saved]
    rejected: dict[int, NearvoteError]


def not_found() -> ExampleNotFound:
    """The error of an id that no example of the task has."""
    return ExampleNotFound(
        "the task has no example of this id; `nearvote examples list` shows those it has", field="id"
    )


def checked_id(id_: str) -> str:
    """An id as ids are written here.

    Raises:
        InvalidField: It is none.
    """
    try:
        return str(uuid.UUID(id_))
    except ValueError:
        raise InvalidField("an example's id is a UUID", field="id") from None


def checked_start(from_id: str | None) -> str | None:
    """The id that a page begins with, as ids are written here; None for the first page.

    Raises:
        InvalidPageToken: It is no id.
    """
    try:
        return None if from_id is None else str(uuid.UUID(from_id))
    except ValueError:
        raise InvalidPageToken("begin anew without a page token", field="page_token") from None
