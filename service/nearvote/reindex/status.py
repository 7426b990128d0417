"""How far a change of encoder is."""

from dataclasses import dataclass
from enum import Enum

from nearvote.errors import NearvoteError
from nearvote.examples.places import Place


class Phase(Enum):
    """What is being done."""

    IDLE = "idle"
    LOADING = "loading the encoder"
    EMBEDDING = "embedding examples"
    COMPARING = "comparing"
    READY = "ready"
    SWITCHING = "switching"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Changed:
    """An example of which the others say something else.

    Attributes:
        example_id: Its id.
        text: Its text.
        labels: Its own labels.
        before: The labels that the others give it with the former encoder; none where nobody votes.
        after: The same, with the other one.
    """

    example_id: str
    text: str
    labels: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """A task under two encoders, by the plain vote: no fit has a say, and nobody abstains.

    Attributes:
        tenant: Whose it is.
        task: Its name.
        judged_count: How many examples were judged.
        accuracy_before: Share of them that get their own labels from the others, with the former encoder; in [0, 1].
        accuracy_after: The same, with the other one.
        changed_count: How many get other labels than before.
        changed: Some of these, those first that are wrong now.
        is_fitted: Whether a fit serves it, which the other encoder has not got.
    """

    tenant: str
    task: str
    judged_count: int
    accuracy_before: float
    accuracy_after: float
    changed_count: int
    changed: tuple[Changed, ...]
    is_fitted: bool


@dataclass(frozen=True, slots=True)
class Status:
    """How far a change of encoder is.

    Attributes:
        phase: What this process is doing for it.
        active: What serves; None before anything is stored.
        building: What is to serve, as far as it was ever begun; None for nothing.
        former: What served before, and can again; None for nothing.
        done: How many examples have been looked at.
        total: How many there were when it began.
        left_out_count: Those that the other encoder reads nothing in.
        compared: What it changes, once it is ready, by tenant and task.
        unfitted_tasks: Tenants and tasks whose fit stayed with the former vectors, once it has switched.
        error: Why it failed; None when it has not, or when that is not the caller's to know.
    """

    phase: Phase
    active: Place | None = None
    building: Place | None = None
    former: Place | None = None
    done: int = 0
    total: int = 0
    left_out_count: int = 0
    compared: tuple[Compared, ...] = ()
    unfitted_tasks: tuple[tuple[str, str], ...] = ()
    error: NearvoteError | None = None

    @property
    def models(self) -> tuple[str, str, str]:
        """Models of what serves, what is to serve, and what served before; empty where there is none."""
        serving, building, former = (
            place.space.model if place else "" for place in (self.active, self.building, self.former)
        )
        return serving, building, former
