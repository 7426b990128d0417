"""What is tried beside what serves: a policy, a fit with its own, or an encoder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from nearvote.tasks.task import Task
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Policy


@dataclass(frozen=True, slots=True)
class TriedEncoder:
    """An encoder that is tried, before it serves.

    Attributes:
        model: What its users call it.
        key: Of its vector space.
        place: Names the collection of documents that goes with its examples; a reindex that begins anew makes another.
    """

    model: str
    key: str
    place: str


@dataclass(frozen=True, slots=True)
class Shadow:
    """A policy that is tried on a share of a task's messages, with what serves, or with a fit or an encoder of its own.

    Attributes:
        task: The task's name.
        policy: The policy that is tried; of a fit its own, and of an encoder the one that the task would have with it.
        share: On which share of the messages, above 0 and up to 1.
        policy_version: Version of the task that it was begun on.
        created_us: When that task was created; one of the same name may be another.
        started_us: When it was begun, in microseconds since 1970-01-01 UTC.
        fit_version: The fit that is tried; 0 where none is.
        slot: Where the vectors in that fit's metric are; None for the plain ones.
        encoder: The encoder that is tried; None for the one that serves.
    """

    task: str
    policy: Policy
    share: float
    policy_version: int
    created_us: int
    started_us: int
    fit_version: int = 0
    slot: Slot | None = None
    encoder: TriedEncoder | None = None

    def is_of(self, task: Task | None) -> bool:
        """Whether a task is still what this was begun on; None stands for one that is gone."""
        if task is None or (task.created_us, task.policy_version) != (self.created_us, self.policy_version):
            return False
        # A task forgets what is tried when another fit takes the slot.
        return self.fit_version in (0, task.tried)

    def candidate(self, task: Task) -> Task:
        """The task as it would be if this served, with the encoder that does."""
        if not self.fit_version:
            return replace(task, policy=self.policy)
        # The two change places, so that whoever remembers the fits of the one remembers those of the other.
        return replace(task, policy=self.policy, fit_version=self.fit_version, slot=self.slot, tried=task.fit_version)


_ADAPTER = TypeAdapter(Shadow)


def shadow_to_document(shadow: Shadow) -> dict[str, Any]:
    """A trial, to be stored."""
    document: dict[str, Any] = _ADAPTER.dump_python(shadow, mode="json")
    return document


def shadow_from_document(document: Mapping[str, Any]) -> Shadow:
    """A stored trial.

    Raises:
        ValidationError: It is none.
    """
    return _ADAPTER.validate_python(document)


def ends_at_a_switch(document: Mapping[str, Any]) -> bool:
    """Whether a stored trial is over once another encoder serves: of a fit, which is of vectors, or of an encoder."""
    return bool(document.get("fit_version")) or document.get("encoder") is not None
