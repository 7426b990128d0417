"""Label prototypes."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from nearvote.text.surface import SparseVector, surface_vector
from nearvote.voting.pool import Voter
from nearvote.voting.prototypes import Matrix, Prototypes, activate, labels_matrix, mean_vector

_NO_BUCKETS = np.empty(0, np.uint32)
_NOTHING = SparseVector(_NO_BUCKETS, np.empty(0, np.float32))


def _matrix(*rows: list[float]) -> Matrix:
    return np.array(rows, np.float32)


def _prototypes(
    *,
    multi_label: bool = False,
    buckets: tuple[int, ...] = (),
    bias: tuple[float, ...] = (0, 0),
    plain_bias: tuple[float, ...] = (0, 0),
    surface_bias: tuple[float, ...] = (0, 0),
    rarity: tuple[float, ...] | None = None,
    unknown_rarity: float = 1.0,
) -> Prototypes:
    """Two labels: "x" lies along the first axis and "y" along the second, the other way in the plain metric.

    The n-grams all speak for "y".
    """
    return Prototypes(
        labels=("x", "y"),
        multi_label=multi_label,
        meaning=_matrix([2, 0], [0, 2]),
        meaning_bias=np.array(bias, np.float32),
        plain=_matrix([0, 3], [3, 0]),
        plain_bias=np.array(plain_bias, np.float32),
        buckets=np.array(buckets, np.uint32),
        rarity=np.array(rarity or (1,) * len(buckets), np.float32),
        unknown_rarity=unknown_rarity,
        surface=np.array([[0, i + 1] for i in range(len(buckets))], np.float32).reshape(-1, 2),
        surface_bias=np.array(surface_bias, np.float32),
    )


def _of_meaning(prototypes: Prototypes, windows: Matrix) -> Mapping[str, float]:
    return prototypes.opinions(windows[:, ::-1], windows, _NOTHING)[Voter.MEANING_PROTOTYPES]


def _of_surface(prototypes: Prototypes, surface: SparseVector) -> Mapping[str, float]:
    return prototypes.opinions(_matrix([1, 0]), _matrix([1, 0]), surface)[Voter.SURFACE_PROTOTYPES]


def _sparse(elements: dict[int, float]) -> SparseVector:
    return SparseVector(np.array(list(elements), np.uint32), np.array(list(elements.values()), np.float32))


def _softmax(*logits: float) -> dict[str, float]:
    powers = [math.exp(logit) for logit in logits]
    return {label: power / sum(powers) for label, power in zip("xy", powers, strict=True)}


def test_a_message_is_like_what_it_lies_along() -> None:
    """In a single-label task scores are the softmax of how far the message lies along each label."""
    found = _of_meaning(_prototypes(), _matrix([0.6, 0.8]))
    assert found == pytest.approx(_softmax(1.2, 1.6))
    assert sum(found.values()) == pytest.approx(1.0)


def test_several_labels_are_questions_of_their_own() -> None:
    """In a multi-label task each label's score is the logistic function of its own logit."""
    found = _of_meaning(_prototypes(multi_label=True, bias=(-1, 0)), _matrix([1, 0]))
    assert found == pytest.approx({"x": 1 / (1 + math.exp(-1)), "y": 0.5})


def test_biases_are_added() -> None:
    """A label's bias is added to what its direction says, each view's in its own view."""
    prototypes = _prototypes(buckets=(3,), bias=(1, 3), plain_bias=(0, -1), surface_bias=(0.5, 0))
    opinions = prototypes.opinions(_matrix([1, 0]), _matrix([0.6, 0.8]), _sparse({3: 1.0}))
    assert opinions[Voter.MEANING_PROTOTYPES] == pytest.approx(_softmax(2.2, 4.6))
    assert opinions[Voter.PLAIN_PROTOTYPES] == pytest.approx(_softmax(0, 2))
    assert opinions[Voter.SURFACE_PROTOTYPES] == pytest.approx(_softmax(0.5, 1))
    assert set(opinions) == {Voter.MEANING_PROTOTYPES, Voter.PLAIN_PROTOTYPES, Voter.SURFACE_PROTOTYPES}


def test_windows_are_one_text() -> None:
    """Of a long message the mean of its windows is asked, brought to length 1, in either metric."""
    windows = _matrix([1, 0], [0, 1], [0, 1])
    found = _prototypes().opinions(windows, windows, _NOTHING)
    length = math.sqrt(5)
    assert found[Voter.MEANING_PROTOTYPES] == pytest.approx(_softmax(2 / length, 4 / length))
    assert found[Voter.PLAIN_PROTOTYPES] == pytest.approx(_softmax(6 / length, 3 / length))


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        # 3 says 1 for "y", 5 says 2, 900 says 3; 5 is twice as rare as the others, and unknown ones are half as rare
        ({3: 0.5}, 1.0),
        ({5: 0.5}, 2.0),
        ({900: 0.5}, 3.0),
        ({3: 0.6, 900: 0.8}, 0.6 + 3 * 0.8),
        ({3: 0.75, 5: 0.5}, (0.75 + 2 * 1.0) / 1.25),
        ({0: 1.2, 3: 0.8}, 0.8),
        ({3: 0.8, 1_048_575: 1.2}, 0.8),
        ({4: 1.6, 3: 0.6}, 0.6),
        ({0: 1.0, 3: 1.0, 4: 1.0, 5: 1.0, 900: 1.0, 901: 1.0}, (1 + 4 + 3) / math.sqrt(1 + 4 + 1 + 3 / 4)),
        ({0: 0.5, 4: 0.5, 901: 0.5}, 0.0),
        ({}, 0.0),
    ],
)
def test_n_grams_that_tell_labels_apart(elements: dict[int, float], said: float) -> None:
    """Each n-gram that is known adds what it says, by value and rarity; unknown ones make the text longer alone."""
    prototypes = _prototypes(buckets=(3, 5, 900), rarity=(1, 2, 1), unknown_rarity=0.5)
    found = _of_surface(prototypes, _sparse(dict(sorted(elements.items()))))
    assert found == pytest.approx(_softmax(0, said))


def test_where_no_n_gram_tells() -> None:
    """Where no n-grams were kept the surface knows how frequent labels are, and no more."""
    found = _of_surface(_prototypes(surface_bias=(1, 0)), surface_vector("win money now"))
    assert found == pytest.approx(_softmax(1, 0))


def test_they_stay_as_they_are() -> None:
    """Asking changes neither the prototypes nor what is asked."""
    prototypes, surface, windows = _prototypes(buckets=(3, 5)), _sparse({3: 1.0, 7: 1.0}), _matrix([1, 0])
    first = prototypes.opinions(windows, windows, surface)
    assert first == prototypes.opinions(windows, windows, surface)
    assert prototypes.buckets.tolist() == [3, 5]
    assert (prototypes.meaning_bias.tolist(), prototypes.surface_bias.tolist()) == ([0, 0], [0, 0])
    assert (surface.indices.tolist(), windows.tolist()) == ([3, 7], [[1, 0]])


def test_a_mean_of_nothing() -> None:
    """Windows that cancel out have a mean of zeros, not of no numbers."""
    assert mean_vector(_matrix([1, 0], [-1, 0])).tolist() == [0, 0]
    assert mean_vector(_matrix([0.6, 0.8])) == pytest.approx(np.array([0.6, 0.8]))
    assert mean_vector(_matrix([1, 0], [0, 1])).dtype == np.float32


@pytest.mark.parametrize("multi_label", [False, True])
def test_extreme_logits_do_not_overflow(multi_label: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """However large logits are, scores are numbers in [0, 1]."""
    scores = activate(_matrix([1e30, -1e30]), multi_label=multi_label)
    assert scores.tolist() == [[1.0, 0.0]]


def test_many_rows_are_activated_each() -> None:
    """Each of many rows has scores of its own."""
    rows = activate(_matrix([0, 0], [math.log(3), 0]), multi_label=False)
    assert rows == pytest.approx(np.array([[0.5, 0.5], [0.75, 0.25]]))
    rows = activate(_matrix([0, math.log(3)], [0, 0]), multi_label=True)
    assert rows == pytest.approx(np.array([[0.5, 0.75], [0.5, 0.5]]))


def test_which_row_has_which_label() -> None:
    """A row has those of its labels that are asked for."""
    has = labels_matrix([("a", "b"), (), ("b", "gone"), ("c",)], ("c", "b", "a"))
    expected = [[False, True, True], [False, False, False], [False, True, False], [True, False, False]]
    assert expected == has.tolist()
