"""The learned metric."""

import numpy as np
import pytest

from nearvote.voting.metric import LinearMetric, Matrix, Slot


def _rows(count: int, dimension: int, seed: int = 0) -> Matrix:
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_the_plain_metric_changes_nothing() -> None:
    """The identity gives embeddings back as they were."""
    vectors = _rows(5, 8)
    assert LinearMetric(np.eye(8, dtype=np.float32)).project(vectors) == pytest.approx(vectors, abs=1e-6)


def test_each_row_is_mapped() -> None:
    """A row is what the matrix makes of it, brought to length 1."""
    turned = LinearMetric(np.array([[0, -2], [1, 0]], np.float32))
    found = turned.project(np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32))
    expected = np.array([[0, 1], [-1, 0], [-1.6, 0.6] / np.hypot(1.6, 0.6)])
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_rows_have_length_1(scale: float) -> None:
    """However the matrix stretches, rows have length 1, in the type in which they are stored."""
    matrix = np.random.default_rng(1).standard_normal((16, 16)).astype(np.float32) * np.float32(scale)
    found = LinearMetric(matrix).project(_rows(20, 16))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert (found.shape, found.dtype) == ((20, 16), np.dtype(np.float32))


def test_a_row_that_vanishes() -> None:
    """A row that the matrix maps to nothing stays zeros, not no numbers."""
    flat = LinearMetric(np.array([[1, 0], [0, 0]], np.float32))
    assert flat.project(np.array([[0, 1]], np.float32)).tolist() == [[0, 0]]


def test_no_rows() -> None:
    """No rows are mapped to no rows."""
    assert LinearMetric(np.eye(4, dtype=np.float32)).project(np.empty((0, 4), np.float32)).shape == (0, 4)


def test_a_row_does_not_depend_on_its_company() -> None:
    """A message alone and in a batch is mapped alike."""
    metric, vectors = LinearMetric(_rows(32, 32, seed=2)), _rows(40, 32, seed=3)
    together = metric.project(vectors)
    for i in (0, 17, 39):
        assert metric.project(vectors[i : i + 1])[0] == pytest.approx(together[i], abs=1e-6)


def test_two_slots_take_turns() -> None:
    """There are two slots, and each one's other is the other."""
    assert [slot.other for slot in Slot] == [Slot.B, Slot.A]
