"""Wire types to domain types and back. Nothing else."""

from dataclasses import asdict, fields
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from nearvote.classify import Classification, Options, StageTimings
from nearvote.errors import InvalidField
from nearvote.examples.example import Draft, Example
from nearvote.limits import Limits
from nearvote.tasks.task import Label, Task
from nearvote.v1 import (
    classification_service_pb2,
    example_pb2,
    info_service_pb2,
    prediction_pb2,
    task_pb2,
)
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.policy import Action, LabelPolicy, Policy
from nearvote.voting.pool import Pool, Voter
from nearvote.voting.prediction import AbstentionReason, Prediction, ScoreKind

_K = TypeVar("_K")
_V = TypeVar("_V")

_VIEWS = {View.MEANING: prediction_pb2.VIEW_MEANING, View.SURFACE: prediction_pb2.VIEW_SURFACE}
_REASONS = {
    AbstentionReason.TOO_FAR: prediction_pb2.ABSTENTION_REASON_TOO_FAR,
    AbstentionReason.OUT_OF_SCOPE: prediction_pb2.ABSTENTION_REASON_OUT_OF_SCOPE,
    AbstentionReason.AMBIGUOUS: prediction_pb2.ABSTENTION_REASON_AMBIGUOUS,
    AbstentionReason.NO_EXAMPLES: prediction_pb2.ABSTENTION_REASON_NO_EXAMPLES,
    AbstentionReason.NO_TEXT: prediction_pb2.ABSTENTION_REASON_NO_TEXT,
    AbstentionReason.STORE_UNAVAILABLE: prediction_pb2.ABSTENTION_REASON_STORE_UNAVAILABLE,
}
_SCORE_KINDS = {
    ScoreKind.VOTE_SHARE: prediction_pb2.SCORE_KIND_VOTE_SHARE,
    ScoreKind.PROBABILITY: prediction_pb2.SCORE_KIND_PROBABILITY,
}
_ACTIONS = {
    None: prediction_pb2.ACTION_UNSPECIFIED,
    Action.ALLOW: prediction_pb2.ACTION_ALLOW,
    Action.REVIEW: prediction_pb2.ACTION_REVIEW,
    Action.BLOCK: prediction_pb2.ACTION_BLOCK,
}
_MICROS = 1_000_000


def _inverse(mapping: dict[_K, _V]) -> dict[_V, _K]:
    return {value: key for key, value in mapping.items()}


_VIEW_OF = _inverse(_VIEWS)
_REASON_OF = _inverse(_REASONS)
_SCORE_KIND_OF = _inverse(_SCORE_KINDS)
_ACTION_OF = _inverse(_ACTIONS)


def options_from_wire(
    options: classification_service_pb2.ClassifyOptions, request_ids: tuple[str, ...] = ()
) -> Options:
    """What a caller asked to be answered with, and what the answers are to be known by."""
    return Options(
        with_texts=options.include_neighbor_texts,
        neighbor_limit=options.neighbor_limit if options.HasField("neighbor_limit") else None,
        k=options.k if options.HasField("k") else None,
        request_ids=request_ids,
    )


def options_to_wire(options: Options) -> classification_service_pb2.ClassifyOptions:
    """The same, for a client."""
    return classification_service_pb2.ClassifyOptions(
        include_neighbor_texts=options.with_texts, neighbor_limit=options.neighbor_limit, k=options.k
    )


def classification_to_wire(classification: Classification) -> prediction_pb2.Classification:
    """A classification for the wire."""
    timings = classification.timings
    return prediction_pb2.Classification(
        predictions=[_prediction_to_wire(prediction) for prediction in classification.predictions],
        window_count=classification.window_count,
        encoder_revision=classification.encoder_revision,
        encoder_key=classification.encoder_key,
        request_id=classification.request_id,
        timings=prediction_pb2.StageTimings(
            clean_seconds=timings.clean,
            queue_seconds=timings.queue,
            embed_seconds=timings.embed,
            search_seconds=timings.search,
            vote_seconds=timings.vote,
        ),
    )


def classification_from_wire(message: prediction_pb2.Classification) -> Classification:
    """A classification off the wire."""
    timings = message.timings
    return Classification(
        predictions=tuple(_prediction_from_wire(prediction) for prediction in message.predictions),
        window_count=message.window_count,
        encoder_revision=message.encoder_revision,
        encoder_key=message.encoder_key,
        request_id=message.request_id,
        timings=StageTimings(
            clean=timings.clean_seconds,
            queue=timings.queue_seconds,
            embed=timings.embed_seconds,
            search=timings.search_seconds,
            vote=timings.vote_seconds,
        ),
    )


def _prediction_to_wire(prediction: Prediction) -> prediction_pb2.Prediction:
    reason = prediction.abstention_reason
    return prediction_pb2.Prediction(
        task=prediction.task,
        labels=prediction.labels,
        abstained=prediction.abstained,
        abstention_reason=_REASONS[reason] if reason else prediction_pb2.ABSTENTION_REASON_UNSPECIFIED,
        score=prediction.score,
        score_kind=_SCORE_KINDS[prediction.score_kind],
        margin=prediction.margin,
        scores=[prediction_pb2.LabelScore(label=label, score=score) for label, score in prediction.scores.items()],
        action=_ACTIONS[prediction.action],
        neighbors=[
            prediction_pb2.Neighbor(
                example_id=neighbor.example_id,
                labels=neighbor.labels,
                similarity=neighbor.similarity,
                view=_VIEWS[neighbor.view],
                weight=neighbor.share,
                window=neighbor.window,
                source=neighbor.source,
                text=neighbor.text,
            )
            for neighbor in prediction.neighbors
        ],
        decided_by_window=prediction.decided_by_window,
        policy_version=prediction.policy_version,
        examples_version=prediction.examples_version,
        top_similarity=prediction.top_similarity,
        prototype_weight=prediction.prototype_share,
        in_scope_score=prediction.in_scope_score,
    )


def _prediction_from_wire(message: prediction_pb2.Prediction) -> Prediction:
    return Prediction(
        task=message.task,
        labels=tuple(message.labels),
        abstention_reason=_REASON_OF.get(message.abstention_reason),
        score=message.score,
        score_kind=_SCORE_KIND_OF.get(message.score_kind, ScoreKind.VOTE_SHARE),
        margin=message.margin,
        scores={score.label: score.score for score in message.scores},
        action=_ACTION_OF.get(message.action),
        neighbors=tuple(
            Neighbor(
                example_id=neighbor.example_id,
                labels=tuple(neighbor.labels),
                similarity=neighbor.similarity,
                view=_VIEW_OF.get(neighbor.view, View.MEANING),
                share=neighbor.weight,
                window=neighbor.window,
                source=neighbor.source,
                text=neighbor.text,
            )
            for neighbor in message.neighbors
        ),
        decided_by_window=message.decided_by_window,
        policy_version=message.policy_version,
        examples_version=message.examples_version,
        top_similarity=message.top_similarity if message.HasField("top_similarity") else None,
        prototype_share=message.prototype_weight,
        in_scope_score=message.in_scope_score,
    )


def draft_from_wire(message: example_pb2.Example) -> Draft:
    """An example as a caller gives it."""
    return Draft(
        task=message.task,
        text=message.text,
        labels=tuple(message.labels),
        weight=message.weight if message.HasField("weight") else 1.0,
        source=message.source,
        subject=message.subject,
        expires_us=time_from_wire(message.expire_time) if message.HasField("expire_time") else None,
    )


def draft_to_wire(draft: Draft) -> example_pb2.Example:
    """The same, for a client."""
    return example_pb2.Example(
        task=draft.task,
        text=draft.text,
        labels=draft.labels,
        weight=draft.weight,
        source=draft.source,
        subject=draft.subject,
        expire_time=optional_time_to_wire(draft.expires_us),
    )


def example_to_wire(example: Example) -> example_pb2.Example:
    """A stored example for the wire."""
    return example_pb2.Example(
        id=example.id,
        task=example.task,
        text=example.text,
        labels=example.labels,
        weight=example.weight,
        source=example.source,
        create_time=time_to_wire(example.created_us),
        update_time=time_to_wire(example.updated_us),
        subject=example.subject,
        expire_time=optional_time_to_wire(example.expires_us),
    )


def example_from_wire(message: example_pb2.Example) -> Example:
    """A stored example off the wire; the tenant stays with the service."""
    return Example(
        id=message.id,
        tenant="",
        task=message.task,
        text=message.text,
        labels=tuple(message.labels),
        weight=message.weight,
        source=message.source,
        created_us=time_from_wire(message.create_time),
        updated_us=time_from_wire(message.update_time),
        subject=message.subject,
        expires_us=time_from_wire(message.expire_time) if message.HasField("expire_time") else None,
    )


def task_to_wire(task: Task) -> task_pb2.Task:
    """A task for the wire, its policy spelled out."""
    return task_pb2.Task(
        name=task.name,
        description=task.description,
        labels=[task_pb2.Label(name=label.name, description=label.description) for label in task.labels],
        multi_label=task.multi_label,
        benign_label=task.benign_label,
        out_of_scope_label=task.out_of_scope_label,
        policy=policy_to_wire(task.policy),
        policy_version=task.policy_version,
        fit_version=task.fit_version,
        create_time=time_to_wire(task.created_us),
        update_time=time_to_wire(task.updated_us),
    )


def task_from_wire(message: task_pb2.Task) -> Task:
    """A task off the wire; what its policy leaves out has the default."""
    return Task(
        name=message.name,
        description=message.description,
        labels=tuple(Label(label.name, label.description) for label in message.labels),
        multi_label=message.multi_label,
        benign_label=message.benign_label,
        out_of_scope_label=message.out_of_scope_label,
        policy=policy_from_wire(message.policy),
        policy_version=message.policy_version,
        fit_version=message.fit_version,
        created_us=time_from_wire(message.create_time),
        updated_us=time_from_wire(message.update_time),
    )


# Fields of a policy that are one number each, the same in both.
_POLICY_NUMBERS = (
    "k",
    "temperature",
    "surface_weight",
    "surface_exponent",
    "scope_floor",
    "max_group_share",
    "class_size_exponent",
    "similarity_floor",
    "margin_floor",
    "score_threshold",
)


def policy_to_wire(policy: Policy) -> task_pb2.Policy:
    """A policy for the wire, spelled out."""
    pool = policy.pool
    return task_pb2.Policy(
        **{name: getattr(policy, name) for name in _POLICY_NUMBERS},
        pool=task_pb2.Pool(weights={voter.value: weight for voter, weight in pool.weights.items()}, bias=pool.bias)
        if pool
        else None,
        labels={
            label: task_pb2.LabelPolicy(
                review_score=own.review_score,
                block_score=own.block_score,
                score_threshold=own.score_threshold,
                margin_floor=own.margin_floor,
            )
            for label, own in policy.labels.items()
        },
        abstention_action=_ACTIONS[policy.abstention_action],
    )


def policy_from_wire(message: task_pb2.Policy) -> Policy:
    """A policy off the wire; what it leaves out has the default."""
    given = {name: getattr(message, name) for name in _POLICY_NUMBERS if message.HasField(name)}  # type: ignore[arg-type]
    if message.HasField("pool"):
        given["pool"] = _pool_from_wire(message.pool)
    if message.abstention_action not in _ACTION_OF:
        raise InvalidField("there is no such action", field="task.policy.abstention_action")
    return Policy(
        **given,
        labels={label: _label_policy_from_wire(own) for label, own in sorted(message.labels.items())},
        abstention_action=_ACTION_OF[message.abstention_action],
    )


def _pool_from_wire(message: task_pb2.Pool) -> Pool:
    known = {voter.value: voter for voter in Voter}
    if message.weights.keys() - known.keys():
        raise InvalidField(f"voters are: {', '.join(known)}", field="task.policy.pool.weights")
    return Pool({known[name]: weight for name, weight in sorted(message.weights.items())}, dict(message.bias))


def _label_policy_from_wire(message: task_pb2.LabelPolicy) -> LabelPolicy:
    names = ("review_score", "block_score", "score_threshold", "margin_floor")
    return LabelPolicy(**{name: getattr(message, name) for name in names if message.HasField(name)})  # type: ignore[arg-type]


def limits_to_wire(limits: Limits) -> info_service_pb2.Limits:
    """The limits for the wire; both have the same fields."""
    return info_service_pb2.Limits(**asdict(limits))


def limits_from_wire(message: info_service_pb2.Limits) -> Limits:
    """The limits off the wire."""
    return Limits(**{field.name: getattr(message, field.name) for field in fields(Limits)})


def time_to_wire(micros: int) -> Timestamp:
    """Microseconds since 1970-01-01 UTC for the wire."""
    return Timestamp(seconds=micros // _MICROS, nanos=micros % _MICROS * 1000)


def optional_time_to_wire(micros: int | None) -> Timestamp | None:
    """A time for the wire, where there is one."""
    return None if micros is None else time_to_wire(micros)


def time_from_wire(time: Timestamp) -> int:
    """Microseconds since 1970-01-01 UTC off the wire."""
    return time.seconds * _MICROS + time.nanos // 1000
