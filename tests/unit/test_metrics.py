"""What metrics keep, and what they let go of."""

import pytest

from nearvote.observe import metrics
from nearvote.observe.metrics import Metrics


def counted(of: Metrics, task: str) -> float | None:
    """How many corrections of a task were counted; None for nothing."""
    names = {"tenant": "default", "task": task, "outcome": "submitted"}
    return of.registry.get_sample_value("nearvote_feedback_total", names)


def test_a_task_that_is_missed_once_keeps_its_counts() -> None:
    """One that was made, and counted, before it is told of is not taken for one that was deleted."""
    told = Metrics()
    told.feedback("default", "new", "submitted", 3)
    told.policies({})
    told.policies({("default", "new"): 1})
    told.policies({})
    told.policies({("default", "new"): 1})
    assert counted(told, "new") == 3
    told.policies({})
    told.policies({})
    assert counted(told, "new") is None


def test_deleted_tasks_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Series of tasks are bounded in number, and those of deleted ones are not among them."""
    monkeypatch.setattr(metrics, "_MAX_TASK_LABELS", 2)
    told = Metrics()
    for task in ("a", "b", "c"):
        told.feedback("default", task, "submitted", 1)
    assert (counted(told, "a"), counted(told, "b"), counted(told, "c")) == (1, 1, None)
    for _ in range(2):
        told.policies({("default", "a"): 1, ("default", "c"): 1})
    told.feedback("default", "c", "submitted", 1)
    assert (counted(told, "a"), counted(told, "b"), counted(told, "c")) == (1, None, 1)


def test_changes_of_deleted_tasks_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of what a trial would change."""
    monkeypatch.setattr(metrics, "_MAX_CHANGES", 1)
    told = Metrics()
    told.shadow_changed("default", "a", "label", "spam", "ham")
    for _ in range(2):
        told.policies({})
    told.shadow_changed("default", "b", "label", "spam", "ham")
    names = {"tenant": "default", "task": "b", "of": "label", "from": "spam", "to": "ham"}
    assert told.registry.get_sample_value("nearvote_shadow_changes_total", names) == 1
