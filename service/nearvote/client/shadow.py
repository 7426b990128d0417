"""What each call for trials of policies sends and what it makes of the answer: once, for both clients."""

from dataclasses import dataclass

from nearvote.client.calls import Call
from nearvote.rpc import wire
from nearvote.tasks.task import Task
from nearvote.v1 import task_pb2
from nearvote.v1 import task_service_pb2 as tasks
from nearvote.voting.policy import Policy


@dataclass(frozen=True, slots=True)
class Shadow:
    """What is tried beside what serves: a policy, a fit with its own, or an encoder.

    Attributes:
        task: The task.
        policy: The policy that is tried; of a fit its own, and of an encoder the one that the task would have with it.
        share: On which share of the task's messages, above 0 and up to 1.
        policy_version: Version of the task that it was begun on.
        started_us: When it was begun, in microseconds since 1970-01-01 UTC.
        outdated: Whether the task was changed since, another fit took the tried one's place, or the encoder is no
            longer about to serve: then it is tried no more, and can't be promoted.
        fit_version: The fit that is tried; 0 where none is.
        encoder_model: Model of the encoder that is tried; empty where it is the one that serves.
    """

    task: str
    policy: Policy
    share: float
    policy_version: int
    started_us: int
    outdated: bool
    fit_version: int = 0
    encoder_model: str = ""


def start_shadow(task: str, policy: Policy, share: float) -> Call[Shadow]:
    """Begins to try a policy."""
    request = tasks.StartShadowRequest(task=task, policy=wire.policy_to_wire(policy), share=share)
    return Call("task", "StartShadow", request, lambda reply: _shadow(reply.shadow))


def start_encoder_shadow(task: str, share: float) -> Call[Shadow]:
    """Begins to try the encoder that a reindex has made ready."""
    request = tasks.StartShadowRequest(task=task, encoder=True, share=share)
    return Call("task", "StartShadow", request, lambda reply: _shadow(reply.shadow))


def list_shadows() -> Call[list[Shadow]]:
    """Reads what is tried."""
    return Call("task", "ListShadows", tasks.ListShadowsRequest(), lambda reply: [*map(_shadow, reply.shadows)])


def promote_shadow(task: str) -> Call[Task]:
    """Lets serve what is tried."""
    request = tasks.PromoteShadowRequest(task=task)
    return Call("task", "PromoteShadow", request, lambda reply: wire.task_from_wire(reply.task))


def stop_shadow(task: str) -> Call[None]:
    """Ends a trial."""
    return Call("task", "StopShadow", tasks.StopShadowRequest(task=task), lambda _: None)


def _shadow(message: task_pb2.Shadow) -> Shadow:
    return Shadow(
        task=message.task,
        policy=wire.policy_from_wire(message.policy),
        share=message.share,
        policy_version=message.policy_version,
        started_us=wire.time_from_wire(message.start_time),
        outdated=message.outdated,
        fit_version=message.fit_version,
        encoder_model=message.encoder_model,
    )
