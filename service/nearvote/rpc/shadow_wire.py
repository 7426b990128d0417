"""Wire types of trials to domain types. Nothing else."""

from nearvote.rpc import wire
from nearvote.tasks.shadow import Shadow
from nearvote.v1 import task_pb2


def shadow_to_wire(shadow: Shadow, *, outdated: bool) -> task_pb2.Shadow:
    """What is tried, for the wire."""
    return task_pb2.Shadow(
        task=shadow.task,
        policy=wire.policy_to_wire(shadow.policy),
        share=shadow.share,
        policy_version=shadow.policy_version,
        start_time=wire.time_to_wire(shadow.started_us),
        outdated=outdated,
        fit_version=shadow.fit_version,
        encoder_model=shadow.encoder.model if shadow.encoder else "",
    )
