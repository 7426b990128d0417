"""What is recorded of a change of a task."""

from dataclasses import fields

from nearvote.audit.event import Action, Change
from nearvote.tasks.task import Task
from nearvote.voting.policy import Policy

_RECORDED = ("description", "labels", "benign_label", "out_of_scope_label")


def change_of_task(action: Action, before: Task | None, after: Task | None, example_count: int = 0) -> Change:
    """What is recorded of a change of a task."""
    task = after or before
    return Change(
        action,
        task.name if task else "",
        example_count=example_count,
        policy_versions=(before.policy_version if before else 0, after.policy_version if after else 0),
        fit_versions=(before.fit_version if before else 0, after.fit_version if after else 0),
        changed_fields=_differing(before, after) if before and after else (),
    )


def _differing(before: Task, after: Task) -> tuple[str, ...]:
    """The fields that were changed, those of the policy as `policy.k`."""
    changed = [name for name in _RECORDED if getattr(before, name) != getattr(after, name)]
    policy = [field.name for field in fields(Policy)]
    changed += [f"policy.{name}" for name in policy if getattr(before.policy, name) != getattr(after.policy, name)]
    return tuple(changed)
