"""`nearvote` with a second encoder without a model, `hashing-2`, whose vectors are those of the first, turned.

Cosines within one space are so the same in both, and between the two they are not. `REINDEX_GATE` names a file: while
it is there the second encoder stops after some texts. With `REINDEX_WITHOUT` there is no second encoder.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nearvote import wiring
from nearvote.cli import main
from nearvote.embedding.encoder import Encoder, Matrix, Tokens
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.embedding.load import load_encoder
from nearvote.startup_errors import ModelNotFound

_STOPS_AFTER = 100  # windows


class TurnedEncoder(HashingEncoder):
    """The second encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = replace(self.spec, model="hashing-2", fingerprint="hashing-2")
        self._encoded = 0

    def encode(self, windows: Sequence[Tokens], *, alone: bool = True) -> Matrix:
        gate = os.environ.get("REINDEX_GATE")
        while gate and self._encoded > _STOPS_AFTER and Path(gate).exists():
            time.sleep(0.02)
        self._encoded += len(windows)
        return np.roll(super().encode(windows, alone=alone), 7, axis=1)


def _load(model: str, *more: Any) -> Encoder:
    if model != "hashing-2":
        return load_encoder(model, *more)
    if os.environ.get("REINDEX_WITHOUT"):
        raise ModelNotFound("there is no hashing-2 here")
    return TurnedEncoder()


if __name__ == "__main__":
    wiring.load_encoder = _load  # type: ignore[assignment, attr-defined]  # looked up there with each load
    main()
