import numpy as np
import pytest

from nearvote.embedding.encoder import normalized
from nearvote.learn.layout import Vectors, hull, lay_out, random_vectors, sample, silhouette, spread


def _groups(count: int, each: int, noise: float = 0.05) -> tuple[Vectors, list[str]]:
    """Vectors around some directions, and the name of each one's direction."""
    middles = np.repeat(random_vectors(count, 32), each, axis=0)
    around = np.random.default_rng(7).standard_normal(middles.shape) * noise
    return normalized(middles + around), [f"label {i // each}" for i in range(count * each)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 6, 7, 20, 200])
def test_any_number_of_points_is_laid_out(count: int) -> None:
    """Each vector has a place on the map, however few there are, and the map reaches from -1 to 1."""
    places = lay_out(random_vectors(count, 16))
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    if count > 1:
        assert np.abs(places).max() == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_equal_vectors_are_laid_out(count: int) -> None:
    """Texts that are all alike to the encoder still make a map."""
    assert np.isfinite(lay_out(np.repeat(random_vectors(1, 16), count, axis=0))).all()


def test_a_layout_repeats() -> None:
    """The same vectors go to the same places each time."""
    vectors, _ = _groups(4, 30)
    np.testing.assert_array_equal(lay_out(vectors), lay_out(vectors))


def test_what_is_near_stays_near() -> None:
    """Groups that lie apart lie apart on the map: each point's nearest is of its own group."""
    vectors, labels = _groups(5, 20)
    places = lay_out(vectors)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert all(labels[i] == labels[j] for i, j in enumerate(distances.argmin(axis=1)))


def test_silhouette_tells_groups_from_chance() -> None:
    """The figure is high where labels part the vectors, and about nought where they do not."""
    vectors, labels = _groups(5, 20)
    apart = silhouette(vectors, labels)
    chance = silhouette(random_vectors(100, 32), labels)
    assert apart is not None
    assert chance is not None
    assert apart > 0.8
    assert abs(chance) < 0.05


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a", "a"], ["a", "b", "c"]])
def test_silhouette_needs_labels_to_tell_apart(labels: list[str]) -> None:
    """There is no figure for one label, nor where no two points share one."""
    assert silhouette(random_vectors(len(labels), 8), labels) is None


def test_a_hull_leaves_out_what_lies_far_off() -> None:
    """A hull holds the bulk of the points, and a few far away do not stretch it."""
    points = np.random.default_rng(1).normal(scale=0.1, size=(100, 2))
    outline = hull(np.vstack([points, [[5, 5], [-7, 0]]]))
    assert outline is not None
    assert np.abs(outline).max() < 0.5
    assert (points[:, 0] < outline[:, 0].max()).mean() > 0.9


@pytest.mark.parametrize(
    "points",
    [
        [],
        [[0, 0]],
        [[0, 0], [1, 1]],
        [[0, 0], [0, 0], [0, 0], [0, 0]],
        [[i / 10, i / 5] for i in range(11)],
    ],
)
def test_some_points_have_no_hull(points: list[list[float]]) -> None:
    """Fewer than three points, equal ones and those on one line have no outline."""
    assert hull(np.array(points, dtype=np.float64).reshape(-1, 2)) is None


def test_three_points_have_a_hull() -> None:
    """A triangle is the least that has an outline."""
    assert hull(np.array([[0.0, 0.0], [0.2, 0.0], [0.1, 0.2]])) is not None


def test_a_sample_is_even() -> None:
    """Small labels are kept whole and large ones share what is left; the points asked for are among them."""
    labels = ["large"] * 500 + ["small"] * 20 + ["other"] * 300
    chosen = sample(labels, 120, keep=[3, 4, 5])
    counts = [sum(labels[i] == label for i in chosen) for label in ("large", "small", "other")]
    assert (counts[1], sum(counts)) == (20, 120)
    assert abs(counts[0] - counts[2]) <= 3
    assert {3, 4, 5} <= set(chosen)
    assert chosen == sorted(set(chosen)) == sample(labels, 120, keep=[3, 4, 5])
    assert sample(labels, 1000) == list(range(820))


def test_boxes_are_spread() -> None:
    """Boxes that lie on one another are moved apart, stay on the sheet, and stay put where there is no need."""
    centres = np.array([[100.0, 100.0]] * 12 + [[700.0, 500.0]])
    sizes = np.array([[80.0, 12.0]] * 13)
    placed = spread(centres, sizes, 800, 600)
    apart = np.abs(placed[:, None] - placed[None])
    touching = (apart[:, :, 0] < 79) & (apart[:, :, 1] < 11)
    assert touching.sum() == 13  # each with itself
    assert (placed >= sizes / 2).all()
    assert (placed <= np.array([800, 600]) - sizes / 2).all()
    np.testing.assert_allclose(placed[-1], centres[-1], atol=1)
    assert spread(np.empty((0, 2)), np.empty((0, 2)), 800, 600).shape == (0, 2)


def test_boxes_make_way_for_fixed_ones() -> None:
    """The last boxes stay where they are when told to, and the others move off them."""
    centres = np.array([[100.0, 100.0], [105.0, 100.0]])
    placed = spread(centres, np.array([[80.0, 12.0], [40.0, 40.0]]), 800, 600, fixed=1)
    np.testing.assert_array_equal(placed[1], centres[1])
    apart = np.abs(placed[0] - placed[1])
    assert apart[0] >= 59 or apart[1] >= 25
