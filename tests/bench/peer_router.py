"""semantic-router on given vectors. `peers.py` runs it in an environment that has semantic-router."""

import json
import sys
from pathlib import Path

import numpy as np
from semantic_router import IndexedRouter, Route  # type: ignore[import-not-found]
from semantic_router.encoders import DenseEncoder  # type: ignore[import-not-found]

folder = Path(sys.argv[1])
vectors = np.load(folder / "vectors.npz")
labels = json.loads((folder / "labels.json").read_text())
examples, messages = vectors["examples"], vectors["messages"]


class Given(DenseEncoder):  # type: ignore[misc]
    """Texts are places in the matrices above: e12 is the thirteenth example, m3 the fourth message."""

    def __call__(self, docs: list[str]) -> list[list[float]]:
        """The vectors of texts."""
        return [(examples if doc[0] == "e" else messages)[int(doc[1:])].tolist() for doc in docs]


routes = [
    Route(name=label, utterances=[f"e{i}" for i, own in enumerate(labels) if own == label])
    for label in sorted(set(labels))
]
router = IndexedRouter(encoder=Given(name="given"), routes=routes)
choices = [router(f"m{i}") for i in range(len(messages))]
print(json.dumps([[choice.name, choice.confidence] for choice in choices]))
