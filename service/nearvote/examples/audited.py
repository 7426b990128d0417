"""What is recorded of changes of examples."""

from collections.abc import Iterable, Mapping, Sequence

from nearvote.audit.event import Action, Change, ExampleChange, of_examples
from nearvote.examples.example import Example


def written(
    known: Mapping[str, Example], new: Iterable[Example], changed: Iterable[Example], action: Action | None = None
) -> list[Change]:
    """Of examples that are added, and others that are changed, or all of them as `action`; known ones by id."""
    added = ((one.task, ExampleChange(one.id, None, one.state)) for one in new)
    replaced = ((one.task, ExampleChange(one.id, known[one.id].state, one.state)) for one in changed)
    if action is not None:
        return of_examples(action, [*added, *replaced])
    return [*of_examples(Action.EXAMPLES_ADDED, added), *of_examples(Action.EXAMPLES_CHANGED, replaced)]


def deleted(
    examples: Iterable[Example], action: Action = Action.EXAMPLES_DELETED, selected_by: Sequence[str] = ()
) -> list[Change]:
    """Of examples that are deleted."""
    gone = ((one.task, ExampleChange(one.id, one.state, None)) for one in examples)
    return of_examples(action, gone, selected_by)
