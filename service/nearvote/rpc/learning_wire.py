"""Wire types of learning to domain types and back. Nothing else."""

from nearvote.errors import InvalidField
from nearvote.learn.finding import Finding, FindingKind
from nearvote.learn.goal import Goal, GoalKind, ValidationMessage
from nearvote.learn.jobs import Job, JobState
from nearvote.rpc.status import error_to_wire, internal_to_wire
from nearvote.rpc.wire import policy_from_wire, policy_to_wire, time_from_wire, time_to_wire
from nearvote.tasks.fit import Fit
from nearvote.v1 import learning_pb2

_GOALS = {
    GoalKind.TARGET_PRECISION: "target_precision",
    GoalKind.TARGET_RECALL: "target_recall",
    GoalKind.MAX_FALSE_POSITIVES: "max_false_positives",
}
_GOAL_OF = {name: kind for kind, name in _GOALS.items()}
_STATES = {
    JobState.RUNNING: learning_pb2.JOB_STATE_RUNNING,
    JobState.SUCCEEDED: learning_pb2.JOB_STATE_SUCCEEDED,
    JobState.FAILED: learning_pb2.JOB_STATE_FAILED,
    JobState.CANCELLED: learning_pb2.JOB_STATE_CANCELLED,
}
_KINDS = {
    FindingKind.DUPLICATE: learning_pb2.FINDING_KIND_DUPLICATE,
    FindingKind.CONFLICTING_NEAR_DUPLICATE: learning_pb2.FINDING_KIND_CONFLICTING_NEAR_DUPLICATE,
    FindingKind.CONTRADICTED: learning_pb2.FINDING_KIND_CONTRADICTED,
    FindingKind.FEW_EXAMPLES: learning_pb2.FINDING_KIND_FEW_EXAMPLES,
    FindingKind.CONTRADICTING_SOURCE: learning_pb2.FINDING_KIND_CONTRADICTING_SOURCE,
}
STATE_OF = {value: key for key, value in _STATES.items()}
_KIND_OF = {value: key for key, value in _KINDS.items()}
_FIGURES = (
    "example_count",
    "judged_count",
    "accuracy",
    "accuracy_before",
    "macro_f1",
    "macro_f1_before",
    "calibration_error",
    "calibration_error_before",
    "coverage",
    "accuracy_of_answered",
    "has_metric",
    "has_prototypes",
    "notes",
)


def goal_from_wire(message: learning_pb2.FitGoal) -> Goal:
    """What floors are set for."""
    which = message.WhichOneof("goal")
    return Goal(_GOAL_OF[which], getattr(message, which)) if which else Goal()


def goal_to_wire(goal: Goal) -> learning_pb2.FitGoal:
    """The same, for a client."""
    return learning_pb2.FitGoal(**{_GOALS[goal.kind]: goal.value}) if goal.kind in _GOALS else learning_pb2.FitGoal()


def validation_from_wire(message: learning_pb2.ValidationMessage) -> ValidationMessage:
    """A message whose labels are known."""
    return ValidationMessage(message.text, tuple(message.labels))


def fit_to_wire(fit: Fit) -> learning_pb2.FitVersion:
    """A fit for the wire, without its arrays."""
    return learning_pb2.FitVersion(
        version=fit.version,
        replaced_version=fit.replaced_version,
        create_time=time_to_wire(fit.created_us),
        policy=policy_to_wire(fit.policy),
        replaced_policy=policy_to_wire(fit.replaced_policy),
        figures=learning_pb2.FitFigures(**{name: fit.figures[name] for name in _FIGURES if name in fit.figures}),
    )


def fit_from_wire(message: learning_pb2.FitVersion) -> Fit:
    """A fit off the wire, without its arrays, which stay with the service."""
    figures = {
        name: list(message.figures.notes) if name == "notes" else getattr(message.figures, name) for name in _FIGURES
    }
    return Fit(
        version=message.version,
        metric=None,
        in_metric=message.figures.has_metric,
        prototypes=None,
        policy=policy_from_wire(message.policy),
        replaced_version=message.replaced_version,
        replaced_policy=policy_from_wire(message.replaced_policy),
        created_us=time_from_wire(message.create_time),
        figures=figures,
    )


def job_to_wire(job: Job) -> learning_pb2.FitJob:
    """A job for the wire."""
    error = None
    if job.state is JobState.FAILED:
        error = error_to_wire(job.error) if job.error else internal_to_wire()
    return learning_pb2.FitJob(
        id=job.id,
        task=job.task,
        state=_STATES[job.state],
        progress=job.progress,
        stage=job.stage,
        fit=fit_to_wire(job.fit) if job.fit else None,
        error=error,
        start_time=time_to_wire(job.started_us),
        end_time=time_to_wire(job.ended_us) if job.ended_us else None,
    )


def finding_to_wire(finding: Finding) -> learning_pb2.Finding:
    """A finding for the wire."""
    return learning_pb2.Finding(
        kind=_KINDS[finding.kind],
        example_id=finding.example_id,
        labels=finding.labels,
        text=finding.text,
        other_id=finding.other_id,
        other_labels=finding.other_labels,
        other_text=finding.other_text,
        value=finding.value,
        source=finding.source,
        judged_count=finding.judged_count,
        rest_value=finding.rest_value,
    )


def finding_from_wire(message: learning_pb2.Finding) -> Finding:
    """A finding off the wire.

    Raises:
        InvalidField: It is of a kind that this version does not know.
    """
    if message.kind not in _KIND_OF:
        raise InvalidField("the service knows more kinds of findings than this client: renew the client", field="kind")
    return Finding(
        kind=_KIND_OF[message.kind],
        labels=tuple(message.labels),
        example_id=message.example_id,
        text=message.text,
        other_id=message.other_id,
        other_labels=tuple(message.other_labels),
        other_text=message.other_text,
        value=message.value,
        source=message.source,
        judged_count=message.judged_count,
        rest_value=message.rest_value,
    )
