"""A question asked of messages, with its labels and its policy."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearvote.errors import InvalidExample, InvalidTask, UnknownLabel
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Policy, Rules

_TASK_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_LABEL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_DESCRIPTION_BYTES = 1024
_MAX_TEMPERATURE = 10.0
_MAX_EXPONENT = 100.0


@dataclass(frozen=True, slots=True)
class Label:
    """One possible answer: its name, and what it means for the people who label."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A question asked of messages.

    Attributes:
        name: 1 to 64 characters of a-z, 0-9, '_', '-', beginning with a letter.
        labels: Its labels, in the order in which they were given.
        description: What it asks.
        multi_label: Whether a message may have several labels.
        benign_label: The label that means "nothing to see here"; empty for none.
        out_of_scope_label: The label of examples that show what the task is not about; empty for none.
        policy: How votes become a prediction.
        policy_version: Goes up by one with each change, from 1; 0 before it is stored.
        fit_version: The fit that serves; 0 for none.
        slot: Where the vectors in the fit's metric are; None for the plain ones.
        slots: The fits whose vectors are in the slots: of the one that serves, and of the one that it replaced.
        claimed: A slot to which vectors are being written, or whose fit is tried, and the fit; None for none.
        tried: The fit that is tried beside the one that serves; 0 for none.
        created_us: When it was created, in microseconds since 1970-01-01 UTC; 0 before it is stored.
        updated_us: When it was last changed, in the same.
    """

    name: str
    labels: tuple[Label, ...]
    description: str = ""
    multi_label: bool = False
    benign_label: str = ""
    out_of_scope_label: str = ""
    policy: Policy = field(default_factory=Policy)
    policy_version: int = 0
    fit_version: int = 0
    slot: Slot | None = None
    slots: Mapping[Slot, int] = field(default_factory=dict)
    claimed: tuple[Slot, int] | None = None
    tried: int = 0
    created_us: int = 0
    updated_us: int = 0

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(label.name for label in self.labels)

    @property
    def rules(self) -> Rules:
        """What the vote needs to know."""
        return Rules(self.label_names, self.multi_label, self.benign_label, self.out_of_scope_label, self.policy)

    @property
    def written_slots(self) -> dict[Slot, int]:
        """The fits in whose metrics an example that comes is written, by slot: what is searched, or may come to be."""
        serving = {self.slot: self.fit_version} if self.slot else {}
        claimed = dict([self.claimed]) if self.claimed else {}
        return {**self.slots, **serving, **claimed}

    def slot_of(self, fit_version: int) -> Slot | None:
        """The slot that has a fit's vectors; None where none has."""
        return next((slot for slot, version in self.slots.items() if version == fit_version), None)

    def slots_after(self, slot: Slot | None, fit_version: int) -> dict[Slot, int]:
        """The fits in the slots once this slot serves: a replica that has not heard of it searches in the former."""
        former = {self.slot: self.fit_version} if self.slot else {}
        return {**former, **({slot: fit_version} if slot else {})}

    def check(self, *, max_labels: int, max_k: int) -> None:
        """Checks names, labels and policy.

        Raises:
            InvalidTask: Something can't be right; `field` says what.
        """
        _check(
            _TASK_NAME.fullmatch(self.name) is not None,
            "name",
            "a task's name is 1 to 64 characters of a-z, 0-9, '_', '-', beginning with a letter",
        )
        _check_description(self.description, "description")
        _check(
            1 <= len(self.labels) <= max_labels,
            "labels",
            f"a task has 1 to {max_labels} labels, not {len(self.labels)}",
        )
        names = self.label_names
        for i, label in enumerate(self.labels):
            _check(
                _LABEL_NAME.fullmatch(label.name) is not None,
                f"labels[{i}].name",
                "a label's name is 1 to 64 characters of a-z, A-Z, 0-9, '_', '-', '.'",
            )
            _check_description(label.description, f"labels[{i}].description")
        _check(len(set(names)) == len(names), "labels", "a label is named twice; name each once")
        for name, value in (("benign_label", self.benign_label), ("out_of_scope_label", self.out_of_scope_label)):
            _check(not value or value in names, name, f"{name} must be one of the task's labels")
        _check(
            not self.out_of_scope_label or not self.multi_label,
            "out_of_scope_label",
            "a multi-label task has no out-of-scope label; use its benign label",
        )
        _check(
            not self.out_of_scope_label or self.out_of_scope_label != self.benign_label,
            "out_of_scope_label",
            "the benign and the out-of-scope label must differ",
        )
        self._check_policy(max_k)

    def _check_policy(self, max_k: int) -> None:
        policy = self.policy
        _check(1 <= policy.k <= max_k, "policy.k", f"k must be 1 to {max_k}")
        _check(
            0 < policy.temperature <= _MAX_TEMPERATURE,
            "policy.temperature",
            f"temperature must be above 0 and up to {_MAX_TEMPERATURE:g}",
        )
        _check(
            0 <= policy.surface_exponent <= _MAX_EXPONENT,
            "policy.surface_exponent",
            f"surface_exponent must be 0 to {_MAX_EXPONENT:g}",
        )
        _check(-1 <= policy.similarity_floor <= 1, "policy.similarity_floor", "similarity_floor must be -1 to 1")
        bounded = {
            "class_size_exponent": policy.class_size_exponent,
            "surface_weight": policy.surface_weight,
            "scope_floor": policy.scope_floor,
            "max_group_share": policy.max_group_share,
            "margin_floor": policy.margin_floor,
            "score_threshold": policy.score_threshold,
        }
        for label, own in policy.labels.items():
            _check(
                label in self.label_names,
                f"policy.labels[{label}]",
                "the policy names a label that the task does not have; add the label or take it out of the policy",
            )
            _check(
                own.review_score is None or own.block_score is None or own.review_score <= own.block_score,
                f"policy.labels[{label}]",
                "what is blocked is never reviewed: review_score must be block_score or less",
            )
            for name in ("review_score", "block_score", "score_threshold", "margin_floor"):
                value = getattr(own, name)
                if value is not None:
                    bounded[f"labels[{label}].{name}"] = value
        if policy.pool is not None:
            weights = policy.pool.weights.values()
            _check(
                all(weight >= 0 for weight in weights)
                and all(map(math.isfinite, (*weights, *policy.pool.bias.values()))),
                "policy.pool",
                "a pool's weights must be 0 or more, and all its numbers finite",
            )
        for name, value in bounded.items():
            _check(0 <= value <= 1, f"policy.{name}", f"{name} must be 0 to 1")

    def check_labels(self, labels: Sequence[str]) -> None:
        """Checks an example's labels against the task.

        Raises:
            UnknownLabel: One of them is not the task's.
            InvalidExample: There are none, too many, one twice, or the benign label beside others.
        """
        known = self.label_names
        for i, label in enumerate(labels):
            if label not in known:
                raise UnknownLabel(
                    f"task '{self.name}' has no such label; add it with `nearvote tasks update {self.name} "
                    f"--add-label NAME`, or use one of: {some_of(known)}",
                    field=f"labels[{i}]",
                )
        if not labels:
            raise InvalidExample("an example needs a label", field="labels")
        if len(set(labels)) != len(labels):
            raise InvalidExample("a label is named twice; name each once", field="labels")
        if len(labels) > 1 and not self.multi_label:
            raise InvalidExample(f"task '{self.name}' is single-label: give one label", field="labels")
        if len(labels) > 1 and self.benign_label in labels:
            raise InvalidExample(f"'{self.benign_label}' stands alone: leave it or the others out", field="labels")


_SHOWN_LABELS = 20  # of a thousand labels a message names the first few


def some_of(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    more = len(names) - _SHOWN_LABELS
    return ", ".join(names[:_SHOWN_LABELS]) + (f", and {more} more" if more > 0 else "")


def _check(right: bool, field_path: str, remedy: str) -> None:  # noqa: FBT001 - reads as "check that ..."
    if not right:
        raise InvalidTask(remedy, field=field_path)


def _check_description(description: str, field_path: str) -> None:
    _check(
        len(description.encode(errors="replace")) <= _MAX_DESCRIPTION_BYTES,
        field_path,
        f"a description has at most {_MAX_DESCRIPTION_BYTES} bytes",
    )
