"""Wire types of the record of changes to domain types and back. Nothing else."""

from nearvote.audit.event import Action, Change, Event, ExampleChange, ExampleState
from nearvote.rpc.wire import optional_time_to_wire, time_from_wire, time_to_wire
from nearvote.v1 import audit_pb2

_ACTIONS = {action: audit_pb2.AuditAction.Value(f"AUDIT_ACTION_{action.name}") for action in Action}
_ACTION_OF = {number: action for action, number in _ACTIONS.items()}


def event_to_wire(event: Event) -> audit_pb2.AuditEvent:
    """An event for the wire."""
    change = event.change
    return audit_pb2.AuditEvent(
        id=event.id,
        time=time_to_wire(event.time_us),
        actor=event.actor,
        address=event.address,
        action=_ACTIONS[change.action],
        task=change.task,
        examples=[
            audit_pb2.ExampleChange(id=one.id, before=_state_to_wire(one.before), after=_state_to_wire(one.after))
            for one in change.examples
        ],
        example_count=change.example_count,
        policy_version_before=change.policy_versions[0],
        policy_version_after=change.policy_versions[1],
        fit_version_before=change.fit_versions[0],
        fit_version_after=change.fit_versions[1],
        changed_fields=change.changed_fields,
        selected_by=change.selected_by,
        failed_event_id=event.failed_event_id,
    )


def event_from_wire(message: audit_pb2.AuditEvent) -> Event:
    """An event off the wire; the tenant stays with the service.

    Raises:
        KeyError: Its action is of a later version of the contract.
    """
    return Event(
        id=message.id,
        tenant="",
        time_us=time_from_wire(message.time),
        actor=message.actor,
        address=message.address,
        change=Change(
            action=_ACTION_OF[message.action],
            task=message.task,
            examples=tuple(
                ExampleChange(
                    one.id,
                    _state_from_wire(one.before) if one.HasField("before") else None,
                    _state_from_wire(one.after) if one.HasField("after") else None,
                )
                for one in message.examples
            ),
            example_count=message.example_count,
            policy_versions=(message.policy_version_before, message.policy_version_after),
            fit_versions=(message.fit_version_before, message.fit_version_after),
            changed_fields=tuple(message.changed_fields),
            selected_by=tuple(message.selected_by),
        ),
        failed_event_id=message.failed_event_id,
    )


def _state_to_wire(state: ExampleState | None) -> audit_pb2.AuditedExample | None:
    if state is None:
        return None
    return audit_pb2.AuditedExample(
        labels=state.labels,
        weight=state.weight,
        source=state.source,
        expire_time=optional_time_to_wire(state.expires_us),
    )


def _state_from_wire(message: audit_pb2.AuditedExample) -> ExampleState:
    return ExampleState(
        tuple(message.labels),
        message.weight,
        message.source,
        time_from_wire(message.expire_time) if message.HasField("expire_time") else None,
    )
