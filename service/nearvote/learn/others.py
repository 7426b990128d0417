"""What the votes of a task's other examples say of each of them, before anything is fitted."""

from collections.abc import Sequence

from nearvote.embedding.encoder import Matrix
from nearvote.embedding.onnx_quantize import Labelled
from nearvote.examples.store import StoredWindow
from nearvote.learn.corpus import corpus_of
from nearvote.learn.leave_one_out import judged_by_others
from nearvote.text.clean import clean
from nearvote.text.surface import fingerprint, surface_vector
from nearvote.voting.policy import Policy, Rules


def labels_by_others(examples: Sequence[Labelled], vectors: Matrix) -> list[str]:
    """The label that the others give each example by the default policy; its own where it has no others.

    Args:
        examples: Of one task.
        vectors: (examples, dimension) float32, rows of length 1.
    """
    labels = sorted({example.label for example in examples})
    if len(labels) < 2:  # noqa: PLR2004 - no vote can change anything
        return [example.label for example in examples]
    surfaces = [surface_vector(clean(example.text)) for example in examples]
    windows = [
        StoredWindow(f"{i:08}", f"{i:08}", 0, (one.label,), 1.0, "", fingerprint(surface), one.text, vector, surface)
        for i, (one, surface, vector) in enumerate(zip(examples, surfaces, vectors, strict=True))
    ]
    scores = judged_by_others(corpus_of(windows, labels), Rules(tuple(labels), policy=Policy())).scores
    return [labels[best] for best in scores.argmax(axis=1)]
