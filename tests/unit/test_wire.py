"""Domain types over the wire and back."""

import dataclasses
from typing import Any

import pytest

from nearvote.audit.event import Action as AuditAction
from nearvote.audit.event import Change, Event, ExampleChange, ExampleState
from nearvote.classify import Classification, Options, StageTimings
from nearvote.errors import InvalidField
from nearvote.examples.example import Draft, Example
from nearvote.limits import Limits
from nearvote.rpc import wire
from nearvote.rpc.audit_wire import event_from_wire, event_to_wire
from nearvote.tasks.task import Label, Task
from nearvote.v1 import audit_pb2, prediction_pb2, task_pb2
from nearvote.voting.metric import Slot
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.policy import Action, LabelPolicy, Policy
from nearvote.voting.pool import Pool, Voter
from nearvote.voting.prediction import AbstentionReason, Prediction, ScoreKind

NEIGHBOR = Neighbor("id", ("a", "b"), 0.5, view=View.MEANING, window=2, source="s", text="t", share=0.25)
PREDICTION = Prediction(
    task="spam",
    labels=("a",),
    abstention_reason=None,
    score=0.75,
    margin=0.5,
    scores={"a": 0.75, "b": 0.25},
    action=Action.REVIEW,
    neighbors=(NEIGHBOR,),
    decided_by_window=2,
    policy_version=3,
    examples_version=1_795_000_000_000_001,
    score_kind=ScoreKind.PROBABILITY,
    top_similarity=0.0,
    prototype_share=0.125,
    in_scope_score=0.375,
)


def round_trip(prediction: Prediction) -> Prediction:
    classification = Classification((prediction,), 3, "revision", StageTimings(0.1, 0.2, 0.3, 0.4, 0.5))
    back = wire.classification_from_wire(wire.classification_to_wire(classification))
    assert dataclasses.replace(back, predictions=()) == dataclasses.replace(classification, predictions=())
    return back.predictions[0]


def test_a_prediction_goes_round() -> None:
    """Every field of a prediction arrives, a 0.0 among them."""
    assert round_trip(PREDICTION) == PREDICTION


def test_every_enum_value_goes_round() -> None:
    """Each reason, action, view and kind of score has a value on the wire, and comes back."""
    for reason in AbstentionReason:
        abstained = dataclasses.replace(PREDICTION, labels=(), abstention_reason=reason, top_similarity=None)
        assert round_trip(abstained) == abstained
    for action in (None, *Action):
        assert round_trip(dataclasses.replace(PREDICTION, action=action)).action == action
    for kind in ScoreKind:
        assert round_trip(dataclasses.replace(PREDICTION, score_kind=kind)).score_kind == kind
    for view in View:
        seen = (dataclasses.replace(NEIGHBOR, view=view, similarity=23.5),)
        assert round_trip(dataclasses.replace(PREDICTION, neighbors=seen)).neighbors == seen
    assert len(prediction_pb2.View.values()) == len(View) + 1
    assert len(prediction_pb2.AbstentionReason.values()) == len(AbstentionReason) + 1
    assert len(prediction_pb2.ScoreKind.values()) == len(ScoreKind) + 1
    assert len(prediction_pb2.Action.values()) == len(Action) + 1


def test_examples_go_round() -> None:
    """Drafts and stored examples arrive as they were, to the microsecond; the tenant stays at home."""
    draft = Draft("spam", "text\x00", ("a",), 0.5, "s")
    assert wire.draft_from_wire(wire.draft_to_wire(draft)) == draft
    example = Example("id", "", "spam", "text", ("a",), 0.5, "s", 1_795_000_000_000_001, 1_795_000_000_999_999)
    assert wire.example_from_wire(wire.example_to_wire(example)) == example
    for end in (0, 1_795_000_000_000_001):
        ending = dataclasses.replace(draft, subject="p", expires_us=end)
        assert wire.draft_from_wire(wire.draft_to_wire(ending)) == ending
        ending_too = dataclasses.replace(example, subject="p", expires_us=end)
        assert wire.example_from_wire(wire.example_to_wire(ending_too)) == ending_too


def test_events_go_round() -> None:
    """Every field of an event arrives, for every action."""
    before, after = ExampleState(("a", "b"), 0.5, "s", 0), ExampleState(("c",), 2.0, "")
    examples = (ExampleChange("1", before, after), ExampleChange("2", None, after), ExampleChange("3", before, None))
    for action in AuditAction:
        change = Change(action, "spam", examples, 3, (1, 2), (3, 4), ("labels",), ("source:s",))
        event = Event("an-id", "", 1_795_000_000_000_001, "ann", "ipv4:192.0.2.1:1", change, "another")
        assert event_from_wire(event_to_wire(event)) == event
    assert len(audit_pb2.AuditAction.values()) == len(AuditAction) + 1


def test_options_and_limits_go_round() -> None:
    """What is not set stays not set, and 0 stays 0."""
    for options in (Options(), Options(with_texts=True, neighbor_limit=0, k=7)):
        assert wire.options_from_wire(wire.options_to_wire(options)) == options
    limits = Limits(*range(1, len(dataclasses.fields(Limits)) + 1))
    assert wire.limits_from_wire(wire.limits_to_wire(limits)) == limits


def test_a_task_goes_round() -> None:
    """Every field of a task and its policy arrives, zeros among them."""
    policy = Policy(
        k=7,
        temperature=0.25,
        surface_weight=0.0,
        surface_exponent=0.0,
        scope_floor=0.75,
        max_group_share=0.0,
        class_size_exponent=0.5,
        similarity_floor=0.0,
        margin_floor=0.0,
        score_threshold=0.0,
        pool=Pool({Voter.MEANING: 0.5, Voter.SURFACE_PROTOTYPES: 0.0}, {"a": -0.5, "b": 0.0}),
        labels={
            "a": LabelPolicy(review_score=0.0),
            "b": LabelPolicy(block_score=1.0, score_threshold=0.1, margin_floor=0.0),
        },
        abstention_action=Action.BLOCK,
    )
    labels = (Label("a", "A"), Label("b"))
    task = Task(
        "t",
        labels,
        "d",
        multi_label=True,
        benign_label="a",
        policy=policy,
        policy_version=4,
        fit_version=7,
        created_us=5,
        updated_us=6,
    )
    assert wire.task_from_wire(wire.task_to_wire(task)) == task
    in_slot = dataclasses.replace(task, slot=Slot.B)
    assert wire.task_from_wire(wire.task_to_wire(in_slot)) == task, "where vectors are kept is nobody's business"


def test_what_a_policy_leaves_out_has_the_default() -> None:
    """An empty policy is the default one, and a floor of 0.0 is a value."""
    assert wire.task_from_wire(task_pb2.Task()).policy == Policy()
    for field in ("similarity_floor", "surface_weight", "surface_exponent", "max_group_share", "margin_floor"):
        policy = wire.policy_from_wire(task_pb2.Policy(**{field: 0.0}))  # type: ignore[arg-type]
        assert policy == dataclasses.replace(Policy(), **{field: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "pool", [None, Pool({}), Pool({}, {"a": 0.5}), Pool({voter: i / 4 for i, voter in enumerate(Voter)})]
)
def test_a_pool_is_there_or_not(pool: Pool | None) -> None:
    """A policy without a pool comes back without one, and an empty pool as one; each voter has a name."""
    policy = Policy(pool=pool)
    assert wire.policy_from_wire(wire.policy_to_wire(policy)) == policy


def test_unknown_voters_are_refused() -> None:
    """A pool that gives weight to somebody unknown is refused, and those that are known are named."""
    with pytest.raises(InvalidField, match=", ".join(voter.value for voter in Voter)) as caught:
        wire.policy_from_wire(task_pb2.Policy(pool=task_pb2.Pool(weights={"meaning": 1.0, "smell": 0.5})))
    assert caught.value.field == "task.policy.pool.weights"


def test_no_field_of_the_domain_is_forgotten() -> None:
    """Each field of a domain type is one of its message, under the same name or one known here."""
    renamed: dict[type[Any], dict[str, str]] = {
        Neighbor: {"example_weight": "", "share": "weight", "fingerprint": "", "updated_us": ""},
        Prediction: {"prototype_share": "prototype_weight"},
        Policy: {},
        Pool: {},
        LabelPolicy: {},
        Task: {
            "slot": "",
            "slots": "",
            "claimed": "",
            "tried": "",
            "created_us": "create_time",
            "updated_us": "update_time",
        },
    }
    messages: dict[type[Any], Any] = {
        Neighbor: prediction_pb2.Neighbor,
        Prediction: prediction_pb2.Prediction,
        Policy: task_pb2.Policy,
        Pool: task_pb2.Pool,
        LabelPolicy: task_pb2.LabelPolicy,
        Task: task_pb2.Task,
    }
    for type_, names in renamed.items():
        on_wire = {field.name for field in messages[type_].DESCRIPTOR.fields}
        ours = {names.get(field.name, field.name) for field in dataclasses.fields(type_)} - {""}
        assert ours <= on_wire, type_
