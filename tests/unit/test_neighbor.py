from dataclasses import fields

from nearvote.voting.neighbor import Neighbor, merge_windows, nearest_first, weightiest_first


def test_nearest_first() -> None:
    """Neighbours are sorted by similarity, equally near ones by id."""
    far, b, a, near = (Neighbor(i, ("x",), s) for i, s in (("0", -0.5), ("b", 0.5), ("a", 0.5), ("z", 0.9)))
    assert [near, a, b, far] == nearest_first([far, b, a, near])


def test_an_example_votes_once() -> None:
    """An example that is near to several windows is kept once, at the window it is nearest to."""
    first, second, third = (Neighbor("e", ("x",), s, window=w) for w, s in enumerate((0.5, 0.8, 0.6)))
    assert [second] == merge_windows([[first], [second], [third]], k=5)


def test_a_share_changes_nothing_else() -> None:
    """A voter whose share is known is the same in all else, whatever fields there are."""
    values = {field.name: f"its {field.name}" for field in fields(Neighbor)}
    counted = Neighbor(**values).with_share(0.25)  # type: ignore[arg-type]
    assert {field.name: getattr(counted, field.name) for field in fields(Neighbor)} == values | {"share": 0.25}


def test_the_first_of_equally_near_windows_stays() -> None:
    """An example that is equally near to two windows is kept at the first."""
    first, second = (Neighbor("e", ("x",), 0.5, window=w) for w in (0, 1))
    assert [first] == merge_windows([[first], [second]], k=5)


def test_the_k_nearest_of_all_windows_stay() -> None:
    """Of all windows' neighbours the k nearest are kept, nearest first."""
    a, b, c, d = (Neighbor(i, ("x",), s) for i, s in (("a", 0.1), ("b", 0.9), ("c", 0.5), ("d", 0.8)))
    assert [b, d, c] == merge_windows([[a, b], [c, d]], k=3)


def test_no_windows_have_no_neighbours() -> None:
    """Without windows, or with nothing found near them, there are no neighbours."""
    assert merge_windows([], k=3) == []
    assert merge_windows([[], []], k=3) == []


def test_weightiest_first() -> None:
    """Voters are sorted by share; of equal shares the nearer comes first, of equally near ones the lesser id."""
    shares = (("0", 0.9, 0.1), ("b", 0.5, 0.4), ("a", 0.5, 0.4), ("z", 0.8, 0.4), ("y", 0.1, 0.7))
    last, b, a, near, first = (Neighbor(i, ("x",), s, share=share) for i, s, share in shares)
    assert [first, near, a, b, last] == weightiest_first([last, b, a, near, first])
