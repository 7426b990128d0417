"""Who may vote."""

import pytest

from nearvote.voting.neighbor import Neighbor
from nearvote.voting.seats import NEAR_DUPLICATE_BITS, is_near_duplicate, seat_limit, take_seats

_CAMPAIGN = 0x0F0F_0F0F_0F0F_0F0F
_OTHER_CAMPAIGN = ~_CAMPAIGN


def _candidates(*groups: tuple[str, int]) -> list[Neighbor]:
    """Neighbours, nearest first, each of a source and with a fingerprint; their ids are their places."""
    return [
        Neighbor(f"{i:02}", ("a",), 1 - i / 100, source=source, fingerprint=print_)
        for i, (source, print_) in enumerate(groups)
    ]


def _places(seated: list[Neighbor]) -> list[int]:
    return [int(neighbor.example_id) for neighbor in seated]


@pytest.mark.parametrize(
    ("k", "share", "expected"), [(20, 0.5, 10), (5, 0.5, 2), (3, 0.5, 1), (1, 0.5, 1), (10, 0.0, 1), (10, 1.0, 10)]
)
def test_a_groups_seats(k: int, share: float, expected: int) -> None:
    """A group may take its share of the seats, rounded down, but always one."""
    assert expected == seat_limit(k, share)


def test_the_nearest_sit() -> None:
    """Where nobody is of a group the k nearest take the seats."""
    assert _places(take_seats(_candidates(*[("", 0)] * 9), 4, 0.5)) == [0, 1, 2, 3]


def test_no_candidates() -> None:
    """Without candidates all seats stay empty."""
    assert take_seats([], 5, 0.5) == []


def test_one_source_has_its_share() -> None:
    """Of one source no more than its share sit while there are others, though it has the nearest."""
    crowd = _candidates(*[("mail", 0)] * 6, *[("", 0)] * 6)
    assert _places(take_seats(crowd, 4, 0.5)) == [0, 1, 6, 7]


def test_each_source_has_a_share_of_its_own() -> None:
    """One source's seats are not another's."""
    crowd = _candidates(*[("mail", 0)] * 3, *[("sms", 0)] * 3, ("", 0))
    assert _places(take_seats(crowd, 4, 0.5)) == [0, 1, 3, 4]


def test_no_source_is_no_group() -> None:
    """Examples that nobody said the source of have nothing in common."""
    assert _places(take_seats(_candidates(*[("", 0)] * 4, *[("mail", 0)] * 4), 4, 0.25)) == [0, 1, 2, 3]


def test_one_campaign_has_its_share() -> None:
    """Of near-duplicates of one text no more than their share sit, whatever sources they name."""
    campaign = [(f"s{i}", _CAMPAIGN ^ 1 << i) for i in range(6)]
    assert _places(take_seats(_candidates(*campaign, ("", 0), ("", _OTHER_CAMPAIGN)), 4, 0.5)) == [0, 1, 6, 7]


def test_each_campaign_has_a_share_of_its_own() -> None:
    """One campaign's seats are not another's."""
    crowd = _candidates(*[("", _CAMPAIGN)] * 3, *[("", _OTHER_CAMPAIGN)] * 3, ("", 0))
    assert _places(take_seats(crowd, 4, 0.5)) == [0, 1, 3, 4]


def test_source_and_campaign_both_bind() -> None:
    """Whoever is beyond the share of its source or of its campaign is refused."""
    crowd = _candidates(("mail", _CAMPAIGN), ("mail", 0), ("mail", 0), ("sms", _CAMPAIGN), ("sms", _CAMPAIGN), ("", 0))
    assert _places(take_seats(crowd, 4, 0.5)) == [0, 1, 3, 5]


def test_empty_seats_go_to_those_who_were_refused() -> None:
    """A ballot is never smaller for it: seats that would stay empty go to the nearest that were refused, in order."""
    crowd = _candidates(*[("mail", 0)] * 5, ("", 0))
    assert _places(take_seats(crowd, 4, 0.25)) == [0, 1, 2, 5]
    assert _places(take_seats(crowd[:5], 4, 0.25)) == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [1.0, 0.99])
def test_a_share_of_all(share: float) -> None:
    """Where a group may have all seats nobody is refused; where it may have all but one, one is."""
    crowd = _candidates(*[("mail", _CAMPAIGN)] * 5, ("", 0))
    assert _places(take_seats(crowd, 4, share)) == ([0, 1, 2, 3] if share == 1 else [0, 1, 2, 5])


def test_a_single_seat_goes_to_the_nearest() -> None:
    """A group may always take one seat."""
    assert _places(take_seats(_candidates(*[("mail", _CAMPAIGN)] * 5), 1, 0.0)) == [0]


def test_few_candidates_all_sit() -> None:
    """Where there are no more candidates than a group may have, all sit."""
    crowd = _candidates(*[("mail", _CAMPAIGN)] * 3)
    assert take_seats(crowd, 6, 0.5) == crowd


@pytest.mark.parametrize(("bits", "expected"), [(0, True), (1, True), (NEAR_DUPLICATE_BITS, True), (11, False)])
def test_near_duplicates(bits: int, expected: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Texts whose fingerprints differ in ten bits or fewer are nearly the same, whatever the sign."""
    for print_ in (_CAMPAIGN, -_CAMPAIGN, _OTHER_CAMPAIGN):
        flipped = print_ ^ ((1 << bits) - 1)
        assert expected == is_near_duplicate(print_, flipped) == is_near_duplicate(flipped, print_)


def test_opposite_signs() -> None:
    """The sign is one bit of the fingerprint like the others."""
    assert is_near_duplicate(5, 5 - 2**63)
    assert not is_near_duplicate(1, -1)


def test_texts_without_fingerprint_are_alone() -> None:
    """A text that has no fingerprint is nobody's near-duplicate, not even of one like it."""
    assert not is_near_duplicate(0, 0)
    assert not is_near_duplicate(0, 1)
    assert not is_near_duplicate(1, 0)
