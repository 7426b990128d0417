import json
import math
from dataclasses import replace

import pytest

from nearvote.errors import InvalidExample, InvalidTask, UnknownLabel
from nearvote.tasks.document import task_from_document, task_to_document
from nearvote.tasks.task import Label, Task
from nearvote.voting.metric import Slot
from nearvote.voting.policy import Action, LabelPolicy, Policy
from nearvote.voting.pool import Pool, Voter

_TASK = Task("abuse", (Label("hate"), Label("threat"), Label("none")), multi_label=True, benign_label="none")
_FULL = Task(
    "intent-2",
    (Label("Refund.v1", "wants money back"), Label("other")),
    description="what the customer wants: \u00fc",
    out_of_scope_label="other",
    policy=Policy(
        k=7,
        temperature=0.05,
        surface_weight=0.0,
        surface_exponent=0.0,
        scope_floor=1.0,
        max_group_share=0.0,
        class_size_exponent=0.5,
        similarity_floor=0.0,
        margin_floor=0.0,
        score_threshold=0.0,
        pool=Pool({Voter.SURFACE: 0.0, Voter.MEANING_PROTOTYPES: 2.5}, {"other": -2.0, "elsewhere": 0.0}),
        labels={"other": LabelPolicy(review_score=0.0, block_score=1.0, score_threshold=0.3, margin_floor=0.0)},
        abstention_action=Action.REVIEW,
    ),
    policy_version=3,
    fit_version=2,
    slot=Slot.B,
    created_us=1,
    updated_us=2,
)


def _check(task: Task) -> None:
    task.check(max_labels=4, max_k=50)


@pytest.mark.parametrize("task", [_TASK, _FULL, Task("a" * 64, (Label("b" * 64),)), Task("t", (Label("a"),) * 1)])
def test_a_right_task_passes(task: Task) -> None:
    """A task with names, labels and a policy in range is taken."""
    _check(task)


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a b", "a.b", "\u00e4", "a\n", "a" * 65])
def test_task_names(name: str) -> None:
    """A task's name has 1 to 64 lower-case letters, digits, '_' and '-', a letter first."""
    with pytest.raises(InvalidTask) as refused:
        _check(replace(_TASK, name=name))
    assert refused.value.field == "name"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "\u00e4", "a\n", "a" * 65])
def test_label_names(name: str) -> None:
    """A label's name has 1 to 64 letters, digits, '_', '-' and '.'; the error says which label it is."""
    with pytest.raises(InvalidTask) as refused:
        _check(Task("t", (Label("a"), Label(name))))
    assert refused.value.field == "labels[1].name"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"labels": ()}, "labels"),
        ({"labels": tuple(map(Label, "abcde")), "benign_label": ""}, "labels"),
        ({"labels": (Label("none"), Label("none"))}, "labels"),
        ({"benign_label": "gone"}, "benign_label"),
        ({"out_of_scope_label": "gone"}, "out_of_scope_label"),
        ({"out_of_scope_label": "hate"}, "out_of_scope_label"),  # it is multi-label
        ({"multi_label": False, "out_of_scope_label": "none"}, "out_of_scope_label"),
        ({"description": "\u00fc" * 513}, "description"),
        ({"labels": (Label("none", "x" * 1025),)}, "labels[0].description"),
    ],
)
def test_tasks_that_cant_be_right(changes: dict[str, object], field: str) -> None:
    """A task that can't be right is refused, naming the field."""
    with pytest.raises(InvalidTask) as refused:
        _check(replace(_TASK, **changes))  # type: ignore[arg-type]
    assert field == refused.value.field


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("k", (0, -1, 51)),
        ("temperature", (0.0, -0.1, 10.1, math.nan, math.inf)),
        ("similarity_floor", (-1.1, 1.1, math.nan)),
        ("surface_weight", (-0.1, 1.1, math.nan)),
        ("surface_exponent", (-0.1, 100.1, math.nan, math.inf)),
        ("scope_floor", (-0.1, 1.1, math.nan)),
        ("max_group_share", (-0.1, 1.1, math.nan)),
        ("class_size_exponent", (-0.1, 1.1, math.nan)),
        ("margin_floor", (-0.1, 1.1, math.nan)),
        ("score_threshold", (-0.1, 1.1, math.nan)),
    ],
)
def test_policies_that_cant_be_right(field: str, wrong: tuple[float, ...]) -> None:
    """A number of the policy that is out of range, or none, is refused."""
    for value in wrong:
        with pytest.raises(InvalidTask) as refused:
            _check(replace(_TASK, policy=replace(Policy(), **{field: value})))  # type: ignore[arg-type]
        assert f"policy.{field}" == refused.value.field


@pytest.mark.parametrize(
    ("field", "bounds"),
    [
        ("k", (1, 50)),
        ("temperature", (5e-324, 10.0)),
        ("similarity_floor", (-1.0, 1.0)),
        ("surface_weight", (0.0, 1.0)),
        ("surface_exponent", (0.0, 100.0)),
        ("scope_floor", (0.0, 1.0)),
        ("max_group_share", (0.0, 1.0)),
        ("class_size_exponent", (0.0, 1.0)),
        ("margin_floor", (0.0, 1.0)),
        ("score_threshold", (0.0, 1.0)),
    ],
)
def test_bounds_of_a_policy_are_in_range(field: str, bounds: tuple[float, float]) -> None:
    """The least and the greatest value of each number of the policy are taken."""
    for value in bounds:
        _check(replace(_TASK, policy=replace(Policy(), **{field: value})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pool",
    [
        Pool({Voter.MEANING: -0.1}),
        Pool({Voter.MEANING: 1.0, Voter.SURFACE: math.nan}),
        Pool({Voter.SURFACE_PROTOTYPES: math.inf}),
        Pool({Voter.MEANING: 1.0}, {"hate": math.nan}),
        Pool({Voter.MEANING: 1.0}, {"hate": 0.0, "none": -math.inf}),
    ],
)
def test_pools_that_cant_be_right(pool: Pool) -> None:
    """A pool that would turn an opinion round, or make scores no numbers, is refused."""
    with pytest.raises(InvalidTask) as refused:
        _check(replace(_TASK, policy=Policy(pool=pool)))
    assert refused.value.field == "policy.pool"


@pytest.mark.parametrize("pool", [Pool({}), Pool({Voter.MEANING: 0.0, Voter.SURFACE: 9.0}, {"hate": -50.0})])
def test_a_right_pool_passes(pool: Pool) -> None:
    """A pool of finite numbers is taken, weights of 0 and biases of either sign among them."""
    _check(replace(_TASK, policy=Policy(pool=pool)))


@pytest.mark.parametrize("field", ["review_score", "block_score", "score_threshold", "margin_floor"])
def test_policies_of_labels_that_cant_be_right(field: str) -> None:
    """A number of a label's policy that is out of range is refused, and 0 and 1 are in range."""
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidTask) as refused:
            _check(replace(_TASK, policy=Policy(labels={"hate": LabelPolicy(**{field: value})})))
        assert f"policy.labels[hate].{field}" == refused.value.field
    for value in (0.0, 1.0):
        _check(replace(_TASK, policy=Policy(labels={"hate": LabelPolicy(**{field: value})})))


def test_the_policy_names_labels_of_the_task() -> None:
    """A policy for a label that the task does not have is refused."""
    with pytest.raises(InvalidTask) as refused:
        _check(replace(_TASK, policy=Policy(labels={"gone": LabelPolicy()})))
    assert refused.value.field == "policy.labels[gone]"


@pytest.mark.parametrize("labels", [("hate",), ("hate", "threat"), ("none",)])
def test_an_examples_labels(labels: tuple[str, ...]) -> None:
    """An example has one or more of the task's labels."""
    _TASK.check_labels(labels)


@pytest.mark.parametrize(
    ("labels", "error", "field"),
    [
        ((), InvalidExample, "labels"),
        (("hate", "gone"), UnknownLabel, "labels[1]"),
        (("hate", "hate"), InvalidExample, "labels"),
        (("hate", "none"), InvalidExample, "labels"),
    ],
)
def test_labels_that_cant_be_right(labels: tuple[str, ...], error: type[InvalidExample], field: str) -> None:
    """Unknown labels, none, one twice, and the benign label beside others are refused."""
    with pytest.raises(error) as refused:
        _TASK.check_labels(labels)
    assert field == refused.value.field


def test_a_single_label_task_takes_one_label() -> None:
    """An example of a single-label task has one label."""
    with pytest.raises(InvalidExample, match="single-label"):
        replace(_TASK, multi_label=False).check_labels(("hate", "threat"))


def test_an_unknown_label_is_not_repeated() -> None:
    """The refusal of a label says which there are, the first of many, and does not repeat what was given."""
    task = Task("t", tuple(Label(f"label{i:03}") for i in range(500)))
    with pytest.raises(UnknownLabel) as refused:
        task.check_labels(("a private matter",))
    assert "label000" in refused.value.message
    assert "480 more" in refused.value.message
    assert "private" not in refused.value.message


@pytest.mark.parametrize("task", [_TASK, _FULL])
def test_a_task_survives_the_document(task: Task) -> None:
    """A task that went through JSON is the same, floors of 0 included."""
    assert task == task_from_document(json.loads(json.dumps(task_to_document(task))))


def test_what_a_document_leaves_out_has_the_default() -> None:
    """A document of an earlier version lacks fields, one of a later version has more; both can be read."""
    document = {"name": "t", "labels": [{"name": "a", "colour": "red"}], "policy": {"k": 3, "new": 1}, "more": {}}
    assert Task("t", (Label("a"),), policy=Policy(k=3)) == task_from_document(document)


@pytest.mark.parametrize("document", [{}, {"name": "t"}, {"name": "t", "labels": "a"}, {"name": 1, "labels": []}])
def test_a_document_that_is_no_task(document: dict[str, object]) -> None:
    """A document that lacks what a task needs, or has it in another type, is refused."""
    with pytest.raises(ValueError, match="validation error"):
        task_from_document(document)


def test_its_rules_are_its_own() -> None:
    """What the vote is told is what the task says."""
    rules = _FULL.rules
    assert rules.labels == ("Refund.v1", "other")
    assert (rules.multi_label, rules.benign_label, rules.out_of_scope_label) == (False, "", "other")
    assert rules.policy is _FULL.policy
