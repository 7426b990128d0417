"""What each call for learning sends and what it makes of the answer: once, for both clients."""

from collections.abc import Sequence
from dataclasses import dataclass

from nearvote.client.calls import Call
from nearvote.client.errors import ServiceError, error_of_item
from nearvote.learn.finding import Finding
from nearvote.learn.goal import Goal, ValidationMessage
from nearvote.learn.jobs import JobState
from nearvote.rpc import learning_wire as wire
from nearvote.tasks.fit import Fit
from nearvote.v1 import learning_pb2
from nearvote.v1 import learning_service_pb2 as learning


@dataclass(frozen=True, slots=True)
class FitJob:
    """How far a fit is.

    Attributes:
        id: Its id.
        task: The task that is fitted.
        state: How far it is.
        progress: How much is done, in [0, 1].
        stage: What is being done.
        fit: What was made, without its arrays; only when it succeeded.
        error: What went wrong; only when it failed.
    """

    id: str
    task: str
    state: JobState
    progress: float
    stage: str
    fit: Fit | None
    error: ServiceError | None


def start_fit(task: str, goal: Goal, validation: Sequence[ValidationMessage], shadow_share: float) -> Call[FitJob]:
    """Begins to fit a task."""
    request = learning.StartFitRequest(
        task=task,
        goal=wire.goal_to_wire(goal),
        validation_messages=[
            learning_pb2.ValidationMessage(text=message.text, labels=message.labels) for message in validation
        ],
        shadow_share=shadow_share,
    )
    return Call("learning", "StartFit", request, lambda reply: _job(reply.job))


def get_fit_job(id_: str) -> Call[FitJob]:
    """Asks how far a fit is."""
    return Call("learning", "GetFitJob", learning.GetFitJobRequest(id=id_), lambda reply: _job(reply.job))


def cancel_fit_job(id_: str) -> Call[FitJob]:
    """Stops a fit."""
    return Call("learning", "CancelFitJob", learning.CancelFitJobRequest(id=id_), lambda reply: _job(reply.job))


def roll_back_fit(task: str) -> Call[int]:
    """Goes back to the former fit."""
    request = learning.RollBackFitRequest(task=task)
    return Call("learning", "RollBackFit", request, lambda reply: int(reply.fit_version))


def get_fit(task: str) -> Call[Fit]:
    """Reads the fit that serves a task."""
    return Call("learning", "GetFit", learning.GetFitRequest(task=task), lambda reply: wire.fit_from_wire(reply.fit))


def check_request(task: str) -> learning.CheckExamplesRequest:
    """Asks what is doubtful about a task's examples."""
    return learning.CheckExamplesRequest(task=task)


def checked(reply: learning.CheckExamplesResponse) -> list[Finding]:
    """Some of what was found."""
    return [wire.finding_from_wire(one) for one in reply.findings]


def _job(message: learning_pb2.FitJob) -> FitJob:
    return FitJob(
        id=message.id,
        task=message.task,
        state=wire.STATE_OF.get(message.state, JobState.RUNNING),
        progress=message.progress,
        stage=message.stage,
        fit=wire.fit_from_wire(message.fit) if message.HasField("fit") else None,
        error=error_of_item(message.error) if message.HasField("error") else None,
    )
