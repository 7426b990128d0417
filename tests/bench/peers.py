"""What the same examples make of the same messages elsewhere: scores of each label, for each message."""

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

Scores = npt.NDArray[np.float64]  # (messages, labels), the labels in the order of the alphabet
Vectors = npt.NDArray[np.float32]

SEMANTIC_ROUTER = "semantic-router==1.1.1"
_K = 5  # with a temperature of .1 the best of few on training texts; semantic-router's default, too
_ROUTER = Path(__file__).with_name("peer_router.py")
_HOME = Path(__file__).parents[2] / "build" / "semantic-router"


def plain_knn(examples: Vectors, labels: Sequence[str], messages: Vectors) -> Scores:
    """The vote of the five nearest by cosine, weighed by exp(similarity / .1)."""
    names, own = np.unique(labels, return_inverse=True)
    scores = np.zeros((len(messages), len(names)))
    for start in range(0, len(messages), 1000):
        similarity = messages[start : start + 1000] @ examples.T
        nearest = np.argpartition(-similarity, _K - 1, axis=1)[:, :_K]
        values = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((values - values.max(axis=1, keepdims=True)) / 0.1)
        rows = np.repeat(np.arange(start, start + len(similarity)), _K)
        np.add.at(scores, (rows, own[nearest].ravel()), weights.ravel())
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def logistic_regression(examples: Vectors, labels: Sequence[str], messages: Vectors) -> Scores:
    """scikit-learn's, on the same vectors."""
    model = LogisticRegression(C=10, max_iter=1000).fit(examples, labels)
    return np.asarray(model.predict_proba(messages))


def tfidf_linear(examples: Sequence[str], labels: Sequence[str], messages: Sequence[str]) -> Scores:
    """Word TF-IDF and a linear support vector machine, scikit-learn's defaults. Scores are margins."""
    words = TfidfVectorizer()
    model = LinearSVC().fit(words.fit_transform(examples), labels)
    margins = np.asarray(model.decision_function(words.transform(messages)))
    return margins if margins.ndim > 1 else np.stack([-margins, margins], axis=1)


def semantic_router(examples: Vectors, labels: Sequence[str], messages: Vectors) -> list[tuple[str, float]]:
    """The routes that semantic-router chooses by the same vectors, and its confidence in them.

    It runs in an environment of its own, with its defaults. The route is empty where it chooses none.
    """
    python = _HOME / "bin" / "python"
    if not python.exists():
        venv.create(_HOME, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", SEMANTIC_ROUTER], check=True)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/vectors.npz", examples=examples, messages=messages)
        Path(folder, "labels.json").write_text(json.dumps(list(labels)), encoding="utf-8")
        done = subprocess.run(
            [str(python), str(_ROUTER), folder], check=True, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
        )
    routes: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return [(name or "", float(confidence or 0.0)) for name, confidence in routes]
