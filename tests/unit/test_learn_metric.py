"""Learning the metric."""

import numpy as np
import pytest

from nearvote.learn.jobs import JobCancelledError
from nearvote.learn.metric import SCALE, LearnedMetric, learn_metric
from nearvote.voting.metric import Matrix
from nearvote.voting.prototypes import activate
from tests.unit.made_up import unit


def _nothing() -> None:
    pass


def hidden(count: int, rng: np.random.Generator, *, labels: int = 4, dimension: int = 32) -> tuple[Matrix, Matrix]:
    """Labels that lie in a few dimensions, under three times as much noise in all the others."""
    truth = np.arange(count) % labels
    rows = rng.standard_normal((count, dimension)) * 0.7
    rows[:, :labels] = np.eye(labels)[truth] + 0.15 * rng.standard_normal((count, labels))
    return unit(rows), np.eye(labels, dtype=np.float32)[truth]


def _learn(vectors: Matrix, targets: Matrix, weights: Matrix | None = None, seed: int = 0) -> LearnedMetric:
    found = learn_metric(
        vectors, targets, np.ones(len(vectors), np.float32) if weights is None else weights, _nothing, seed=seed
    )
    assert found is not None
    return found


def _nearest_right(known: Matrix, of_known: Matrix, asked: Matrix, of_asked: Matrix) -> float:
    nearest = (asked @ known.T).argmax(axis=1)
    return float((of_known[nearest] * of_asked).sum(axis=1).mean())


def _loss(metric: LearnedMetric, vectors: Matrix, targets: Matrix) -> float:
    given = activate(SCALE * metric.metric.project(vectors) @ metric.prototypes.T, multi_label=False)
    return float(-np.log((given * targets).sum(axis=1)).mean())


@pytest.mark.parametrize("count", [200, 600])
def test_noise_is_looked_through(count: int) -> None:
    """Where noise hides what tells labels apart, new texts are nearer to those of their label than they were."""
    rng = np.random.default_rng(0)
    vectors, targets = hidden(count, rng)
    asked, right = hidden(200, rng)
    learned = _learn(vectors, targets)
    before = _nearest_right(vectors, targets, asked, right)
    after = _nearest_right(learned.metric.project(vectors), targets, learned.metric.project(asked), right)
    assert before < 0.75
    assert after > before + 0.15


def test_the_loss_falls() -> None:
    """What is learned explains the examples better than the identity and the labels' means do."""
    vectors, targets = hidden(200, np.random.default_rng(1))
    learned = _learn(vectors, targets)
    identity = LearnedMetric(type(learned.metric)(np.eye(32, dtype=np.float32)), unit(targets.T @ vectors))
    assert _loss(learned, vectors, targets) < 0.5 * _loss(identity, vectors, targets)


def test_directions_of_noise_shrink() -> None:
    """The map keeps the directions that tell labels apart longer than the others."""
    vectors, targets = hidden(400, np.random.default_rng(2))
    lengths = np.linalg.norm(_learn(vectors, targets).metric.matrix, axis=0)
    assert lengths[:4].min() > lengths[4:].max()


def test_few_examples_move_little() -> None:
    """With little to learn from the map stays near the identity, and what was near stays near."""
    vectors, targets = hidden(12, np.random.default_rng(3))
    learned = _learn(vectors, targets)
    assert np.linalg.norm(learned.metric.matrix - np.eye(32), 2) < 0.8
    cosine = (learned.metric.project(vectors) * vectors).sum(axis=1)
    assert cosine.min() > 0.7


def test_the_same_every_time() -> None:
    """The same examples give the same metric to the last digit; another seed another one."""
    vectors, targets = hidden(60, np.random.default_rng(4))
    one, other = _learn(vectors, targets), _learn(vectors, targets)
    np.testing.assert_array_equal(one.metric.matrix, other.metric.matrix)
    np.testing.assert_array_equal(one.prototypes, other.prototypes)
    assert (one.metric.matrix != _learn(vectors, targets, seed=1).metric.matrix).any()


def test_weights_count() -> None:
    """Examples without weight teach nothing: their lies do not count."""
    rng = np.random.default_rng(5)
    vectors, targets = hidden(120, rng)
    lies = np.roll(targets, 1, axis=1)
    asked, right = hidden(100, rng)
    weights = np.repeat([1, 0], 120).astype(np.float32)
    both = np.concatenate([vectors, vectors])
    learned = _learn(both, np.concatenate([targets, lies]), weights)
    given = learned.metric.project(asked) @ learned.prototypes.T
    assert (given.argmax(axis=1) == right.argmax(axis=1)).mean() > 0.8


def test_several_labels_at_once() -> None:
    """Targets that share a text between labels, or give it none, are learned from as well."""
    vectors, targets = hidden(80, np.random.default_rng(6))
    targets[::2] = (targets[::2] + np.roll(targets[::2], 1, axis=1)) / 2
    targets[:4] = 0
    learned = _learn(vectors, targets)
    assert np.isfinite(learned.metric.matrix).all()
    assert learned.prototypes.shape == (4, 32)


def test_labels_without_examples() -> None:
    """A label that no example has gets no prototype, and the others' have length 1."""
    vectors, targets = hidden(40, np.random.default_rng(7))
    wider = np.concatenate([np.zeros((40, 1), np.float32), targets], axis=1)
    learned = _learn(vectors, wider)
    assert np.linalg.norm(learned.prototypes, axis=1) == pytest.approx([0, 1, 1, 1, 1], abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "same"), [([0] * 20, False), ([0, 1, 0], False), (list(range(20)), False), ([0, 1] * 10, True)]
)
def test_nothing_to_learn_from(labels: list[int], *, same: bool) -> None:
    """One label, few examples, one example of each label, or one text again and again: there is no metric."""
    rng = np.random.default_rng(8)
    vectors = unit(rng.standard_normal((len(labels), 8)))
    if same:
        vectors = np.repeat(vectors[:1], len(labels), axis=0)
    targets = np.eye(20, dtype=np.float32)[labels]
    assert learn_metric(vectors, targets, np.ones(len(labels), np.float32), _nothing) is None


def test_vectors_of_zeros() -> None:
    """Texts whose windows cancel out spoil nothing."""
    vectors, targets = hidden(60, np.random.default_rng(9))
    vectors[::7] = 0
    learned = _learn(vectors, targets)
    assert np.isfinite(learned.metric.matrix).all()
    assert np.isfinite(learned.prototypes).all()


def test_it_stops_when_told() -> None:
    """What the tick raises comes out at once."""
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise JobCancelledError

    vectors, targets = hidden(60, np.random.default_rng(10))
    with pytest.raises(JobCancelledError):
        learn_metric(vectors, targets, np.ones(60, np.float32), tick)
    assert calls == 5
