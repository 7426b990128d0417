"""Logistic regressions, beside those of scikit-learn."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from nearvote.learn import heads
from nearvote.learn.heads import learn_head, ngrams_of
from nearvote.text.surface import surface_vector
from nearvote.voting.metric import Matrix
from nearvote.voting.pool import Voter
from nearvote.voting.prototypes import Prototypes
from tests.unit.made_up import Made, corpus, easy, unit

LABELS = ("a", "b", "c")


def _data(count: int = 150, features: int = 8, seed: int = 0) -> tuple[Matrix, Matrix]:
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    rows = unit(np.eye(3, features)[truth] + 0.4 * rng.standard_normal((count, features)))
    return rows, np.eye(3, dtype=np.float32)[truth]


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("compressed", [False, True])
def test_as_scikit_learn_does(strength: float, *, compressed: bool) -> None:
    """Probabilities are those of scikit-learn's softmax regression of the same C, on dense and on compressed rows."""
    rows, targets = _data()
    theirs = LogisticRegression(C=strength, tol=1e-6, max_iter=500).fit(rows, targets.argmax(axis=1))
    design = sparse.csr_array(rows) if compressed else rows
    ours = learn_head(design, targets, np.ones(len(rows), np.float32), strength=strength, multi_label=False)
    assert ours.opinions(design, multi_label=False) == pytest.approx(theirs.predict_proba(rows), abs=0.02)
    np.testing.assert_allclose(ours.coefficients.T, theirs.coef_, atol=0.05 * max(1.0, strength))


@pytest.mark.parametrize("strength", [0.3, 3.0])
def test_as_scikit_learn_does_for_several_labels(strength: float) -> None:
    """In a multi-label task each label's probability is that of a logistic regression of its own."""
    rows, _ = _data(seed=1)
    rng = np.random.default_rng(2)
    targets = ((rows @ rng.standard_normal((8, 3)) + 0.3 * rng.standard_normal((150, 3))) > 0.2).astype(np.float32)
    ours = learn_head(rows, targets, np.ones(150, np.float32), strength=strength, multi_label=True)
    for label in range(3):
        theirs = LogisticRegression(C=strength, tol=1e-6, max_iter=500).fit(rows, targets[:, label])
        given = ours.opinions(rows, multi_label=True)[:, label]
        assert given == pytest.approx(theirs.predict_proba(rows)[:, 1], abs=0.02)


def test_weights_are_as_many_examples() -> None:
    """An example of weight 3 counts as three of weight 1; only the relation of weights counts."""
    rows, targets = _data(60)
    weights = np.where(np.arange(60) % 4 == 0, 3, 1).astype(np.float32)
    mean = float(weights.mean())
    again = np.repeat(np.arange(60), weights.astype(int))
    weighed = learn_head(rows, targets, weights, strength=mean, multi_label=False)
    repeated = learn_head(rows[again], targets[again], np.ones(len(again), np.float32), strength=1.0, multi_label=False)
    scaled = learn_head(rows, targets, 7 * weights, strength=mean, multi_label=False)
    expected = repeated.opinions(rows, multi_label=False)
    assert weighed.opinions(rows, multi_label=False) == pytest.approx(expected, abs=0.02)
    assert scaled.coefficients == pytest.approx(weighed.coefficients, abs=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_examples_without_anything_to_see(*, multi_label: bool) -> None:
    """Where rows say nothing, every text gets what is frequent; labels without examples get next to nothing."""
    targets = np.eye(3, dtype=np.float32)[[0] * 30 + [1] * 10]
    head = learn_head(
        np.zeros((40, 5), np.float32), targets, np.ones(40, np.float32), strength=1.0, multi_label=multi_label
    )
    (given,) = head.opinions(np.zeros((1, 5), np.float32), multi_label=multi_label)
    assert given == pytest.approx([0.75, 0.25, 0.0], abs=0.02)
    assert np.isfinite(head.coefficients).all()


def test_examples_without_weight() -> None:
    """Examples that all weigh next to nothing teach what is finite."""
    rows, targets = _data(30)
    head = learn_head(rows, targets, np.full(30, 0.001, np.float32), strength=10.0, multi_label=False)
    assert (head.opinions(rows, multi_label=False).argmax(axis=1) == targets.argmax(axis=1)).mean() > 0.9


def test_n_grams_of_at_least_two_examples() -> None:
    """An n-gram that one example alone has is left out; the rarer one is, the more it counts."""
    made = [
        Made(text, ("a",), np.eye(2, dtype=np.float32)[:1])
        for text in ("xx common", "yy common", "yy common", "zz common")
    ]
    found = ngrams_of(corpus(made, LABELS))
    buckets = set(found.buckets.tolist())
    assert set(surface_vector("common").indices.tolist()) | set(surface_vector("yy").indices.tolist()) == buckets
    rarity = dict(zip(found.buckets.tolist(), found.rarity.tolist(), strict=True))
    common, rare = int(surface_vector("common").indices[0]), int(surface_vector("yy").indices[0])
    assert rarity[common] == pytest.approx(np.log1p(0.5 / 4.5))
    assert rarity[rare] == pytest.approx(np.log1p(2.5 / 2.5))
    assert found.unknown_rarity == pytest.approx(np.log1p(3.5 / 1.5))


def test_the_most_frequent_n_grams_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more n-grams than can be kept the most frequent stay, in the order of their places."""
    monkeypatch.setattr(heads, "_MOST_WEIGHTS", 9)
    made = [Made(text, ("a",), np.eye(2, dtype=np.float32)[:1]) for text in ("a b c", "a b c", "a b d", "a d e")]
    found = ngrams_of(corpus(made, LABELS))
    assert sorted({int(i) for text in ("a", "b") for i in surface_vector(text).indices})[:3] != []
    assert len(found.buckets) == len(found.rarity) == 3, "nine weights, three labels"
    assert set(surface_vector("a").indices.tolist()) < set(found.buckets.tolist())
    assert found.buckets.tolist() == sorted(found.buckets.tolist())


def test_nothing_in_common() -> None:
    """Where no two examples share an n-gram there is nothing to learn from, and that is learned."""
    made = [
        Made(text, (label,), np.eye(2, dtype=np.float32)[:1]) for text, label in (("xx", "a"), ("yy", "b"), ("", "b"))
    ]
    examples = corpus(made, LABELS)
    found = ngrams_of(examples)
    rows = found.rows(examples.texts.surface)
    assert (len(found.buckets), rows.shape) == (0, (3, 0))
    targets = examples.has.astype(np.float32)
    head = learn_head(rows, targets, examples.weights, strength=3.0, multi_label=False)
    assert head.opinions(rows, multi_label=False)[0] == pytest.approx([1 / 3, 2 / 3, 0], abs=0.02)


def test_in_bulk_as_one_by_one() -> None:
    """What is learned from rows of n-grams says of a message what its prototypes will say when it is asked."""
    made = easy(np.random.default_rng(3), {"a": 20, "b": 20, "c": 20})
    examples = corpus(made, LABELS)
    found = ngrams_of(examples)
    rows = found.rows(examples.texts.surface)
    head = learn_head(rows, examples.has.astype(np.float32), examples.weights, strength=30.0, multi_label=False)
    nothing = np.zeros((3, 24), np.float32)
    prototypes = Prototypes(
        LABELS, False, nothing, nothing[:, 0], nothing, nothing[:, 0],  # noqa: FBT003
        found.buckets.astype(np.uint32), found.rarity, found.unknown_rarity, head.coefficients, head.bias,
    )  # fmt: skip
    strange = [
        *made[:10],
        Made("nothing of these 123", ("a",), made[0].windows),
        Made(f"{made[0].text} 456", ("a",), made[0].windows),
    ]
    judged = found.rows(corpus(strange, LABELS).texts.surface)
    for one, expected in zip(strange, head.opinions(judged, multi_label=False).tolist(), strict=True):
        opinions = prototypes.opinions(one.windows, one.windows, surface_vector(one.text))
        assert list(opinions[Voter.SURFACE_PROTOTYPES].values()) == pytest.approx(expected, abs=1e-4)
