"""How promotions lie on one another, so that each can be taken back without the others. Pure.

An example and the corrections that were promoted onto it are a stack: beneath, the example as it was before the first
of them; on top the correction that it shows. Each remembers what is beneath all of them. Taking one out from the top
shows the next one, or what is beneath; taking one out from elsewhere shows nothing. When somebody changes the example
by other ways the stack is covered: what is promoted then begins a new one, and undoing the old one changes nothing.

A promotion is written down before the example is changed, and said to be done after it. So what was cut short in
between is a pending correction with a layer, and counts only where the example shows it.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from nearvote.examples.example import Example
from nearvote.feedback.correction import Feedback, FeedbackState, Former, Layer


@dataclass(frozen=True, slots=True)
class Undoing:
    """What taking corrections back does to their example.

    Attributes:
        changes: Whether anything.
        former: What it is to be; None when it is to be deleted.
    """

    changes: bool
    former: Former | None = None


def lay(chosen: Sequence[Feedback], onto: Sequence[Feedback], present: Example | None, now_us: int) -> list[Feedback]:
    """Lays corrections on their example.

    Args:
        chosen: Corrections of one example, the one that is to show last.
        onto: All of this example that have a layer and are not taken back; some of `chosen` may be among them.
        present: The example; None when there is none.
        now_us: The time, in microseconds since 1970-01-01 UTC.

    Returns:
        The chosen ones with their layers.
    """
    top = _shown(onto, present)
    if top is None or top.layer is None:
        stack, place, base = f"{chosen[0].id}/{now_us}", 0, _former(present)
    else:
        stack, place, base = top.layer.stack, top.layer.place + 1, top.layer.base
    return [replace(one, layer=Layer(stack, place + i, now_us, base)) for i, one in enumerate(chosen)]


def undo(
    taken: AbstractSet[str], onto: Sequence[Feedback], present: Example | None, labels: Sequence[str], now_us: int
) -> Undoing:
    """What an example is to be without some corrections.

    Args:
        taken: Ids of those taken back.
        onto: All of this example that have a layer, among them those taken back.
        present: The example; None when there is none.
        labels: The task's labels; what has none of them can't be an example again.
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """
    top = _shown(onto, present)
    if top is None or top.layer is None or present is None or top.id not in taken:
        return Undoing(changes=False)
    standing = [
        one
        for one in _newest_first(onto)
        if one.layer is not None
        and one.layer.stack == top.layer.stack
        and one.id not in taken
        and one.state is FeedbackState.PROMOTED
    ]
    former = top.layer.base
    if standing:
        last = standing[0]
        former = Former(last.labels, present.weight, last.source, present.created_us, now_us)
    if former is not None and not set(former.labels) <= set(labels):
        former = None
    return Undoing(changes=True, former=former)


def _newest_first(onto: Sequence[Feedback]) -> list[Feedback]:
    laid = [((one.layer.laid_us, one.layer.place), one) for one in onto if one.layer is not None]
    return [one for _, one in sorted(laid, key=lambda item: item[0], reverse=True)]


def _shown(onto: Sequence[Feedback], present: Example | None) -> Feedback | None:
    """The correction that an example shows; None when it shows none."""
    for one in _newest_first(onto):
        if present is not None and (present.labels, present.source) == (one.labels, one.source):
            return one
        if one.state is FeedbackState.PROMOTED:
            return None  # covered by what somebody did since
    return None


def _former(example: Example | None) -> Former | None:
    if example is None:
        return None
    return Former(example.labels, example.weight, example.source, example.created_us, example.updated_us)
