"""How far a change of encoder is, as a wire type and back. Nothing else."""

from collections.abc import Sequence

from nearvote.reindex.status import Changed, Compared, Phase, Status
from nearvote.rpc.pages import MESSAGE_BYTES
from nearvote.rpc.status import error_to_wire, internal_to_wire
from nearvote.v1 import reindex_service_pb2 as pb

_PHASES = {
    Phase.IDLE: pb.REINDEX_PHASE_IDLE,
    Phase.LOADING: pb.REINDEX_PHASE_LOADING,
    Phase.EMBEDDING: pb.REINDEX_PHASE_EMBEDDING,
    Phase.COMPARING: pb.REINDEX_PHASE_COMPARING,
    Phase.READY: pb.REINDEX_PHASE_READY,
    Phase.SWITCHING: pb.REINDEX_PHASE_SWITCHING,
    Phase.FAILED: pb.REINDEX_PHASE_FAILED,
}
PHASE_OF = {value: key for key, value in _PHASES.items()}


def status_to_wire(status: Status, tenant: str) -> pb.Reindex:
    """How far it is, with what changes of a tenant's tasks."""
    error = None
    if status.phase is Phase.FAILED:
        error = error_to_wire(status.error) if status.error else internal_to_wire()
    serving, building, former = status.models
    return pb.Reindex(
        phase=_PHASES[status.phase],
        serving_model=serving,
        building_model=building,
        former_model=former,
        done_count=status.done,
        total_count=status.total,
        left_out_count=status.left_out_count,
        comparisons=_comparisons([one for one in status.compared if one.tenant == tenant]),
        unfitted_tasks=[task for owner, task in status.unfitted_tasks if owner == tenant],
        error=error,
    )


def compared_from_wire(message: pb.TaskComparison, tenant: str = "") -> Compared:
    """What changes of a task."""
    return Compared(
        tenant,
        message.task,
        message.judged_count,
        message.accuracy_before,
        message.accuracy_after,
        message.changed_count,
        tuple(
            Changed(one.example_id, one.text, tuple(one.labels), tuple(one.before), tuple(one.after))
            for one in message.changed
        ),
        message.fitted,
    )


def _comparisons(compared: Sequence[Compared]) -> list[pb.TaskComparison]:
    """What changes, with as many changes of each task as clients take in one answer."""
    room = MESSAGE_BYTES // max(1, len(compared))
    found = []
    for one in compared:
        message = _compared(one)
        while message.changed and message.ByteSize() > room:  # texts may be long
            del message.changed[-1]
        found.append(message)
    return found


def _compared(one: Compared) -> pb.TaskComparison:
    return pb.TaskComparison(
        task=one.task,
        judged_count=one.judged_count,
        accuracy_before=one.accuracy_before,
        accuracy_after=one.accuracy_after,
        changed_count=one.changed_count,
        changed=[
            pb.ChangedExample(
                example_id=changed.example_id,
                text=changed.text,
                labels=changed.labels,
                before=changed.before,
                after=changed.after,
            )
            for changed in one.changed
        ],
        fitted=one.is_fitted,
    )
