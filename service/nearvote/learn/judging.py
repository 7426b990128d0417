"""How well scores do on texts whose labels are known: what a fit chooses by, and what it reports."""

import numpy as np
import numpy.typing as npt

from nearvote.learn.corpus import Matrix
from nearvote.learn.measures import calibration, macro_f1, value


def accuracy_of(scores: Matrix, has: npt.NDArray[np.bool_]) -> float:
    """The share of texts with a label whose best label is right, in [0, 1]; 0 when no text has one.

    Args:
        scores: (texts, labels).
        has: (texts, labels), what is right; of several right ones any will do.
    """
    inside = has.any(axis=1)
    return float(_right(scores, has)[inside].mean()) if inside.any() else 0.0


def figures_of(scores: Matrix, has: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy, macro-F1 and expected calibration error of the best labels; arguments as above.

    Returns:
        Each in [0, 1], by the names of the contract's FitFigures; 0 when no text has a label.
    """
    inside = has.any(axis=1)
    scores, has = scores[inside], has[inside]
    if not len(scores):
        return {"accuracy": 0.0, "macro_f1": 0.0, "calibration_error": 0.0}
    right = _right(scores, has)
    given = np.zeros_like(has)
    given[np.arange(len(given)), scores.argmax(axis=1)] = True
    error, _ = calibration(scores.max(axis=1).astype(np.float64), right)
    return {
        "accuracy": float(right.mean()),
        "macro_f1": value(macro_f1(has, given), len(has)) or 0.0,
        "calibration_error": error or 0.0,
    }


def _right(scores: Matrix, has: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(has[np.arange(len(has)), scores.argmax(axis=1)], np.bool_)
