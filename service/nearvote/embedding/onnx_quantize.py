"""An exported model in whole numbers of 8 bits: smaller and faster, a little off."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nearvote.apart import check_interrupted
from nearvote.embedding.encoder import Encoder, Matrix
from nearvote.embedding.onnx_apart import quantize_apart
from nearvote.embedding.onnx_encoder import INT8_MODEL, OnnxEncoder
from nearvote.embedding.scratch import scratch_in

# Share of examples whose label stays the same, from which on the vectors are good enough to serve.
LEAST_AGREEMENT = 0.985
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example to compare two precisions by."""

    task: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Jury:
    """What two precisions are compared by.

    Attributes:
        examples: Of one task or several.
        label: From the examples of one task and their vectors, (examples, dimension), the label that each is given by
            the others.
    """

    examples: Sequence[Labelled]
    label: Callable[[Sequence[Labelled], Matrix], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far 8 bits agree with full precision.

    Attributes:
        share: Of the examples, those that the others give the same label, in [0, 1].
        examples: How many there were.
        cosine: Between the two vectors of one text, on average.
    """

    share: float
    examples: int
    cosine: float


def quantize(folder: Path, threads: int, jury: Jury) -> Agreement:
    """Adds an 8-bit version to an export, and compares it.

    Args:
        folder: The export.
        threads: Threads of one computation.
        jury: What to compare by.

    Returns:
        How far it agrees.

    Raises:
        ExportFailed: There can't be one.
        ExportMismatch: It does not compute what it should.
        Interrupted: Writing or comparing it was interrupted.
        OSError: There is no room for it.
    """
    with scratch_in(folder.parent) as scratch:
        draft = scratch / "export"
        shutil.copytree(folder, draft)
        quantize_apart(draft / "model.onnx", draft / INT8_MODEL)
        agreement = compare(OnnxEncoder(draft, threads), OnnxEncoder(draft, threads, precision="int8"), jury)
        (draft / "int8.json").write_text(json.dumps(asdict(agreement)))
        for name in (INT8_MODEL, "int8.json"):  # the figure last: it says that the model is whole
            (draft / name).replace(folder / name)
    return agreement


def known_agreement(folder: Path) -> Agreement | None:
    """What an 8-bit version was found to agree in; None where there is none, or nothing to compare it by."""
    try:
        found = Agreement(**json.loads((folder / "int8.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.examples else None


def compare(full: Encoder, small: Encoder, jury: Jury) -> Agreement:
    """How far two encoders agree on examples, each labelled by the others of its task."""
    texts = [example.text for example in jury.examples]
    readable = [one for one, tokens in zip(jury.examples, full.tokenize(texts), strict=True) if len(tokens)]
    one, other = (_vectors(encoder, [example.text for example in readable]) for encoder in (full, small))
    same = 0
    for task in {example.task for example in readable}:
        own = [i for i, example in enumerate(readable) if example.task == task]
        examples = [readable[i] for i in own]
        same += sum(
            a == b for a, b in zip(jury.label(examples, one[own]), jury.label(examples, other[own]), strict=True)
        )
    total = len(readable)
    cosine = float((one * other).sum(axis=1).mean()) if total else 0.0
    return Agreement(same / total if total else 0.0, total, cosine)


def _vectors(encoder: Encoder, texts: Sequence[str]) -> Matrix:
    windows = [tokens[: encoder.window_tokens] for tokens in encoder.tokenize(texts)]
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    found = np.empty((len(windows), encoder.spec.dimension), np.float32)
    for start in range(0, len(order), _AT_ONCE):
        check_interrupted()
        places = order[start : start + _AT_ONCE]
        found[places] = encoder.encode([windows[i] for i in places])
    return found
