"""The learned metric: a linear map of the frozen embedding, in which examples of one label lie close together."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


class Slot(Enum):
    """Where vectors in a learned metric are kept: a new metric is written to one while the other one serves."""

    A = "metric_a"
    B = "metric_b"

    @property
    def other(self) -> "Slot":
        """The other one."""
        return Slot.B if self is Slot.A else Slot.A


@dataclass(frozen=True, slots=True, eq=False)
class LinearMetric:
    """Similarity of two texts as the cosine of their mapped embeddings.

    Attributes:
        matrix: (dimension, dimension) float32.
    """

    matrix: Matrix

    def project(self, vectors: Matrix) -> Matrix:
        """Maps embeddings. (n, dimension) float32 in, the same out, rows of length 1."""
        mapped = vectors @ self.matrix.T
        lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
        return np.asarray(mapped / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
