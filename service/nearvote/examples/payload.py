"""Examples and their windows as points, and back."""

import numpy as np

from nearvote.examples.engine import Found, Match, NotUpTo, Payload, Sparse, UpTo
from nearvote.examples.example import Example
from nearvote.examples.readable import readable
from nearvote.examples.store import Selection, StoredWindow
from nearvote.text.surface import SparseVector
from nearvote.voting.neighbor import View


def match_of(tenant: str, selection: Selection) -> Match:
    """What matches the windows of a selection."""
    given = {"task": selection.task, "source": selection.source, "subject": selection.subject}
    match: dict[str, str | int | UpTo | NotUpTo] = {key: value for key, value in given.items() if value}
    if selection.expired_us is not None:
        match["expires_us"] = UpTo(selection.expired_us)
    return {"tenant": tenant, **match}


def annotations_of(example: Example) -> Payload:
    """What stands with each of an example's windows, and may change."""
    return {
        "labels": list(example.labels),
        "weight": example.weight,
        "source": example.source,
        "created_us": example.created_us,
        "updated_us": example.updated_us,
        "subject": example.subject,
        "expires_us": example.expires_us,
    }


def example_of(point: Found) -> Example:
    """An example of its first window's point."""
    payload = point.payload
    with readable():
        return Example(
            id=point.id,
            tenant=payload["tenant"],
            task=payload["task"],
            text=payload["text"],
            labels=tuple(payload["labels"]),
            weight=payload["weight"],
            source=payload["source"],
            created_us=payload["created_us"],
            updated_us=payload["updated_us"],
            # Examples of earlier versions have neither.
            subject=payload.get("subject", ""),
            expires_us=payload.get("expires_us"),
        )


def sparse_of(vector: SparseVector) -> Sparse:
    """N-grams as a point has them."""
    return Sparse(vector.indices.tolist(), vector.values.tolist())


def window_of(point: Found) -> StoredWindow:
    """A stored window of its point."""
    payload = point.payload
    surface = point.vectors.get(View.SURFACE.value)
    with readable():
        return StoredWindow(
            point_id=point.id,
            example_id=payload["example_id"],
            window=payload["window"],
            labels=tuple(payload["labels"]),
            example_weight=payload["weight"],
            source=payload["source"],
            fingerprint=payload["fingerprint"],
            text=payload.get("text", ""),
            vector=np.array(point.vectors[View.MEANING.value], np.float32),
            surface=_surface_of(surface) if isinstance(surface, Sparse) else None,
        )


def _surface_of(stored: Sparse) -> SparseVector:
    order = np.argsort(stored.indices)  # engines keep no order
    return SparseVector(np.array(stored.indices, np.uint32)[order], np.array(stored.values, np.float32)[order])
