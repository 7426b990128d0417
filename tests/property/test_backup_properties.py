"""A backup is restored as it was written, or not at all."""

import asyncio
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearvote.backup import restore, verify
from nearvote.errors import InvalidBackup
from nearvote.examples.archive import END, HEADER, MAGIC, POINTS, Packer, points_from_json, points_to_json, read_parts
from nearvote.examples.engine import Found, Point, Sparse

_SPACE = {"key": "k", "dimension": 2, "model": "m"}
_HEADER = {"format": 1, "version": "0", "created_us": 1, "space": _SPACE}
_FOUND = [
    Found(
        f"00000000-0000-4000-8000-{i:012d}",
        {"text": "word " * i},
        {"meaning": [0.6, 0.8], "surface": Sparse([i], [1.0])},
    )
    for i in range(5)
]


def _parts(counts: dict[str, int] | None = None, header: dict[str, Any] | None = None) -> list[bytes]:
    packer = Packer()
    page = points_to_json(_FOUND)
    return [
        packer.pack(HEADER, _HEADER if header is None else header),
        packer.pack(POINTS, {"collection": "state", "points": page[:2]}),
        packer.pack(POINTS, {"collection": "examples", "points": page[2:]}),
        packer.pack(POINTS, {"collection": "feedback", "points": page[:1]}),
        packer.pack(END, {"counts": {"state": 2, "examples": 3, "feedback": 1} if counts is None else counts}),
    ]


_PARTS = _parts()
_BACKUP = b"".join(_PARTS)


class Untouched:
    """An engine that nobody may ask for anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} of the store was asked for")


def refused(backup: bytes) -> None:
    """Checks that a backup is refused before the store is so much as looked at."""
    with pytest.raises(InvalidBackup):
        asyncio.run(restore(Untouched(), io.BytesIO(backup), replace=True))


def test_a_whole_backup_is_read() -> None:
    """What the damaged ones are made of is a good one."""
    contents = verify(io.BytesIO(_BACKUP))
    assert (contents.point_count, contents.document_count, contents.feedback_count) == (3, 2, 1)
    assert contents.space.model == "m"


@given(place=st.integers(0, len(_BACKUP) - 1), change=st.integers(1, 255))
def test_one_changed_byte_is_refused(place: int, change: int) -> None:
    """Whatever byte is changed to whatever else."""
    damaged = bytearray(_BACKUP)
    damaged[place] ^= change
    refused(bytes(damaged))


@given(length=st.integers(0, len(_BACKUP) - 1))
def test_a_cut_file_is_refused(length: int) -> None:
    """Wherever it is cut, also between parts."""
    refused(_BACKUP[:length])


@given(start=st.integers(0, len(_BACKUP)), length=st.integers(1, 200))
def test_a_missing_stretch_is_refused(start: int, length: int) -> None:
    """Whatever is missing from its middle."""
    if start < len(_BACKUP):
        refused(_BACKUP[:start] + _BACKUP[start + length :])


@given(start=st.integers(0, len(_BACKUP)), more=st.binary(min_size=1, max_size=50))
def test_an_inserted_stretch_is_refused(start: int, more: bytes) -> None:
    """Whatever is put in, also at the end."""
    damaged = _BACKUP[:start] + more + _BACKUP[start:]
    if damaged != _BACKUP:
        refused(damaged)


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=6))
def test_parts_in_another_order_are_refused(order: list[int], others: list[int]) -> None:
    """Parts that are whole, and stand where they don't belong, or twice, or not at all."""
    for chosen in (order, others):
        if chosen != [0, 1, 2, 3]:
            refused(b"".join(_PARTS[i] for i in chosen))


@given(st.binary(max_size=300))
def test_a_foreign_file_is_refused(content: bytes) -> None:
    """Any bytes, with the magic before them or not."""
    refused(content)
    refused(MAGIC + content)


@pytest.mark.parametrize(
    "parts",
    [
        _parts(counts={"state": 2, "examples": 4}),
        _parts(counts={}),
        _parts(header={**_HEADER, "format": 2}),
        _parts(header={"format": 1}),
        _parts(header={**_HEADER, "space": {"key": "k"}}),
    ],
)
def test_a_whole_file_that_says_something_else_is_refused(parts: list[bytes]) -> None:
    """Hashes that are right do not make a backup of what this version does not write."""
    refused(b"".join(parts))


_floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)  # fmt: skip


@given(
    st.lists(
        st.builds(
            Found,
            st.uuids().map(str),
            st.dictionaries(st.text(st.characters(codec="utf-8")), _json),
            st.dictionaries(
                st.sampled_from(["meaning", "surface"]),
                st.lists(_floats) | st.lists(st.integers(0, 2**32 - 1)).map(lambda ids: Sparse(ids, [0.5] * len(ids))),
            ),
        ),
        max_size=4,
    )
)
def test_points_come_back_as_they_were(points: list[Found]) -> None:
    """Any payload and any vectors, to the bit."""
    packer = Packer()
    parts = [
        packer.pack(HEADER, _HEADER),
        packer.pack(POINTS, {"points": points_to_json(points)}),
        packer.pack(END, {}),
    ]
    _, (_, body), _ = read_parts(io.BytesIO(b"".join(parts)))
    assert points_from_json(body["points"]) == [Point(p.id, p.payload, p.vectors) for p in points]
