"""Where a map's points go: vectors brought down to two dimensions, hulls around labels, names that do not overlap."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]  # (n, dimension), rows of length 1
Places = npt.NDArray[np.float64]  # (n, 2)

# Beyond this a map takes minutes, and its points hide one another.
MAX_POINTS = 5_000

_SEED = 0
_PERPLEXITY = 30.0
# Fewer points have no neighbourhoods to keep, and t-SNE throws them about.
_FEWEST = 6
# In the units of a map, which reaches from -1 to 1.
_HULL_MARGIN = 0.025
_OUTLYING_SHARE = 0.1
_FAR = 1.9  # times the median distance; of points that lie as a bell does, a tenth is further away
_LEAST_HULL = 3
_THIN = 1e-6
_STEPS = 400
_PULL = 0.01


def lay_out(vectors: Vectors) -> Places:
    """Brings vectors down to two dimensions, so that near ones stay near; the same vectors always go the same way.

    Distances between far groups mean little: t-SNE keeps neighbourhoods, not proportions.

    Args:
        vectors: (n, dimension) float32, rows of length 1; n up to `MAX_POINTS`.

    Returns:
        (n, 2), centred, the furthest coordinate at 1 or -1.
    """
    start = _principal(vectors)
    if len(vectors) < _FEWEST:
        return _scaled(start)
    from sklearn.manifold import TSNE  # noqa: PLC0415 - takes seconds, and is not always installed
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    # Equal vectors would start at one point and never part: a speck of noise, the same each time, lets them.
    start = _scaled(start) * 1e-4 + np.random.default_rng(_SEED).normal(scale=1e-7, size=start.shape)
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (len(vectors) - 1) / 3),
        metric="cosine",
        init=start.astype(np.float32),
        random_state=_SEED,
    )
    # Threads add up in an order of their own, and t-SNE makes much of the last digit.
    with threadpool_limits(1):
        return _scaled(np.asarray(tsne.fit_transform(vectors), dtype=np.float64))


def random_vectors(count: int, dimension: int) -> Vectors:
    """Directions that mean nothing, the same each time: what a map looks like when an encoder knows nothing."""
    drawn = np.random.default_rng(_SEED).standard_normal((count, dimension))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


def silhouette(vectors: Vectors, labels: Sequence[str]) -> float | None:
    """How well labels part the vectors, by cosine distance.

    Args:
        vectors: (n, dimension) float32, rows of length 1.
        labels: One for each.

    Returns:
        -1 to 1, about 0 where labels lie at random; None where there are not two labels, or no two points share one.
    """
    if not 1 < len(set(labels)) < len(labels):
        return None
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    return float(silhouette_score(vectors, list(labels), metric="cosine"))


def sample(labels: Sequence[str], limit: int, keep: Iterable[int] = ()) -> list[int]:
    """Which points to show where there are too many: about as many of each label, the same ones each time.

    Args:
        labels: The label of each point.
        limit: How many to show.
        keep: Points that come first, by their place.

    Returns:
        Their places, ascending.
    """
    if len(labels) <= limit:
        return list(range(len(labels)))
    order = np.random.default_rng(_SEED).permutation(len(labels))
    kept = set(keep)
    seen: dict[str, int] = {}
    ranked: list[tuple[bool, int, int, int]] = []
    for i in sorted(map(int, order), key=lambda place: place not in kept):  # stable: the rest stays shuffled
        turn = seen[labels[i]] = seen.get(labels[i], 0) + 1
        ranked.append((i not in kept, turn, len(ranked), i))
    return sorted(place for *_, place in sorted(ranked)[:limit])


def hull(places: Places) -> Places | None:
    """The outline of the bulk of a label's points: what lies far off is left out, at least a tenth; corners are round.

    Args:
        places: (n, 2), the label's points.

    Returns:
        (corners, 2), counter-clockwise; None where fewer than three points are left, or all lie on one line.
    """
    core = _core(places)
    if len(core) < _LEAST_HULL or _thickness(core) < _THIN:
        return None
    from scipy.spatial import ConvexHull  # noqa: PLC0415 - takes a while, and is not always installed

    corners = core[ConvexHull(core).vertices]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    disc = _HULL_MARGIN * np.column_stack([np.cos(angles), np.sin(angles)])
    # The hull of discs around the corners is the hull itself, grown and rounded.
    grown = (corners[:, None, :] + disc[None, :, :]).reshape(-1, 2)
    return np.asarray(grown[ConvexHull(grown).vertices])


def centre(places: Places) -> Places:
    """(2,): the middle of a label's points, whatever lies far off."""
    return np.asarray(np.median(places, axis=0))


def spread(centres: Places, sizes: Places, width: float, height: float, fixed: int = 0) -> Places:
    """Moves boxes apart until none covers another, each as near to where it was as that allows.

    Args:
        centres: (n, 2), where the boxes want to be.
        sizes: (n, 2), how wide and how high each is.
        width: Of the sheet; boxes stay on it.
        height: Of the sheet.
        fixed: So many boxes, the last ones, stay where they are, and the others make way.

    Returns:
        (n, 2), where they are. On a sheet too small for all of them, some still overlap.
    """
    # Boxes at one point have no way to go: a speck of noise, the same each time, gives them one.
    placed = centres + np.random.default_rng(_SEED).normal(scale=1e-3, size=centres.shape)
    low, high = sizes / 2, np.array([width, height]) - sizes / 2
    room = (sizes[:, None, :] + sizes[None, :, :]) / 2
    free = len(placed) - fixed
    placed[free:] = centres[free:]
    others = ~np.eye(len(placed), dtype=bool)
    for step in range(_STEPS):
        apart = placed[:, None, :] - placed[None, :, :]
        overlap = room - np.abs(apart)
        touching = np.all(overlap > 0, axis=2) & others
        if step and not touching.any():
            break
        # Out of each other by the shorter way.
        shorter = overlap == overlap.min(axis=2, keepdims=True)
        push = np.where(touching[:, :, None] & shorter, np.sign(apart) * overlap / 2, 0).sum(axis=1)
        pull = (centres - placed) * _PULL * (1 - step / _STEPS)
        moved = np.clip(placed + push * 0.6 + pull, low, np.maximum(low, high))
        placed[:free] = moved[:free]
    return placed


def _principal(vectors: Vectors) -> Places:
    """(n, 2): the two principal components; zeros where there are fewer."""
    centred = np.asarray(vectors - vectors.mean(axis=0), dtype=np.float64) if len(vectors) else vectors
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), 2))
    found = min(2, len(scale))
    places[:, :found] = left[:, :found] * scale[:found]
    # Which way a component points is a matter of rounding: the furthest point is made positive.
    furthest = np.take_along_axis(places, np.abs(places).argmax(axis=0)[None, :], axis=0) if len(places) else 1
    return np.asarray(places * np.where(np.sign(furthest) == 0, 1, np.sign(furthest)))


def _scaled(places: Places) -> Places:
    if not len(places):
        return places
    centred = places - (places.max(axis=0) + places.min(axis=0)) / 2
    size = np.abs(centred).max()
    return np.asarray(centred / size if size > _THIN else np.zeros_like(centred))


def _core(places: Places) -> Places:
    """The points without the tenth that is furthest from the middle, and without any that are far from it."""
    if not len(places):
        return places
    distances = np.linalg.norm(places - centre(places), axis=1)
    kept = len(places) - int(len(places) * _OUTLYING_SHARE)
    nearest = np.argsort(distances, kind="stable")[:kept]
    near = nearest[distances[nearest] <= _FAR * np.median(distances)]
    return np.asarray(places[near if len(near) >= _LEAST_HULL else nearest])


def _thickness(places: Places) -> float:
    """How far the points are from lying on one line."""
    return float(np.linalg.svd(places - places.mean(axis=0), compute_uv=False)[-1])
