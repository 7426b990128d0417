"""What the votes of a task's other examples say of each of them, before anything is fitted."""

from collections.abc import Sequence

import numpy as np

from nearvote.embedding.encoder import Matrix
from nearvote.embedding.onnx_quantize import Labelled
from nearvote.examples.store import StoredWindow
from nearvote.learn.corpus import Corpus, corpus_of
from nearvote.learn.votes import (
    count,
    fuse,
    meaning_candidates,
    meaning_kernel,
    seated,
    surface_candidates,
    surface_kernel,
)
from nearvote.text.clean import clean
from nearvote.text.surface import fingerprint, surface_vector
from nearvote.voting.policy import Policy, Rules
from nearvote.voting.seats import OVERSAMPLING


def scores_by_others(corpus: Corpus, rules: Rules) -> Matrix:
    """Each label's score in both views, averaged by the policy; every example is judged by all others.

    Args:
        corpus: Two examples or more.
        rules: The task's labels and policy.

    Returns:
        (examples, labels) float32, in [0, 1].
    """
    policy, own = rules.policy, np.arange(len(corpus))
    limit = min(len(corpus) - 1, OVERSAMPLING * policy.k)
    meaning, surface = (
        count(
            candidates,
            seated(candidates, corpus, policy.k, policy.max_group_share),
            corpus,
            kernel,
            class_size_exponent=policy.class_size_exponent,
            multi_label=rules.multi_label,
        )
        for candidates, kernel in (
            (
                meaning_candidates(corpus.texts, corpus, limit, own=own, project=lambda vectors: vectors),
                meaning_kernel(policy.temperature),
            ),
            (surface_candidates(corpus.texts, corpus, limit, own=own), surface_kernel(policy.surface_exponent)),
        )
    )
    return fuse(meaning, surface, policy)


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
    scores = scores_by_others(corpus_of(windows, labels), Rules(tuple(labels), policy=Policy()))
    return [labels[best] for best in scores.argmax(axis=1)]
