r"""The file of a backup: parts, each checked by a hash that also covers all parts before it.

    magic    "nearvote backup 1\n"
    part     kind, one byte; length of the body, 4 bytes, big endian; the body, JSON packed by zlib; SHA-256 of the hash
             before it, kind, length and body. The hash before the first part is that of the magic.
    kinds    H, once, first: the vector space, the service's version, the time
             P, any number: points of one collection
             E, once, last: how many points each collection has. Nothing follows it.

Dense vectors are base64 of float32, sparse ones of uint32 and float32, little endian.
"""

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nearvote.errors import InvalidBackup
from nearvote.examples.engine import Found, Point, Sparse, Vector

MAGIC = b"nearvote backup 1\n"
HEADER, POINTS, END = b"H", b"P", b"E"

_HEAD = struct.Struct(">cI")
# A part holds some dozen points, and a point a text and its vectors, or a document. Far above what is written.
_MAX_PACKED_BYTES = 256 << 20
_MAX_JSON_BYTES = 1 << 30
_CHUNK = 1 << 20

Json = dict[str, Any]


class Part(NamedTuple):
    """A part of a backup: its kind, and what it says."""

    kind: bytes
    body: Json


class Packer:
    """Makes parts, in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256(MAGIC).digest()

    def pack(self, kind: bytes, body: Json) -> bytes:
        """One part as bytes; the first comes with the magic before it."""
        start = MAGIC if kind == HEADER else b""
        packed = zlib.compress(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
        head = _HEAD.pack(kind, len(packed))
        self._digest = hashlib.sha256(self._digest + head + packed).digest()
        return start + head + packed + self._digest


def read_parts(file: IO[bytes]) -> Iterator[Part]:
    """The parts of a backup, from the header to the end, checked one by one as they are read.

    Raises:
        InvalidBackup: It is damaged, cut short, or no backup.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidBackup("this is no backup of nearvote, or one of a later version")
    digest = hashlib.sha256(MAGIC).digest()
    kind = b""
    while kind != END:
        expected = HEADER if not kind else None
        head = _read(file, _HEAD.size)
        kind, length = _HEAD.unpack(head)
        if length > _MAX_PACKED_BYTES:
            raise _damaged()
        packed = _read(file, length)
        digest = hashlib.sha256(digest + head + packed).digest()
        if _read(file, len(digest)) != digest:
            raise _damaged()
        if kind not in {HEADER, POINTS, END} or (kind == HEADER) != (expected == HEADER):
            raise _damaged()
        yield Part(kind, _unpacked(packed))
    if file.read(1):
        raise _damaged()


def points_to_json(points: list[Found]) -> list[Json]:
    """Points as JSON values."""
    return [
        {
            "id": point.id,
            "payload": point.payload,
            "vectors": {name: _vector_to_json(vector) for name, vector in point.vectors.items()},
        }
        for point in points
    ]


def points_from_json(points: list[Json]) -> list[Point]:
    """Points of JSON values."""
    return [
        Point(
            point["id"],
            point["payload"],
            {name: _vector_from_json(vector) for name, vector in point["vectors"].items()},
        )
        for point in points
    ]


def _read(file: IO[bytes], length: int) -> bytes:
    """So many bytes; piece by piece, since a damaged length may be far more than there is."""
    pieces = []
    while length:
        piece = file.read(min(length, _CHUNK))
        if not piece:
            raise InvalidBackup("the backup is cut short: take another copy of it")
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _unpacked(packed: bytes) -> Json:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, _MAX_JSON_BYTES)
        body = json.loads(text)
    except (zlib.error, ValueError):
        raise _damaged() from None
    if not unpacker.eof or not isinstance(body, dict):
        raise _damaged()
    return body


def _damaged() -> InvalidBackup:
    return InvalidBackup("the backup is damaged: take another copy of it")


def _vector_to_json(vector: Vector) -> Any:
    if isinstance(vector, Sparse):
        return {"indices": _base64(vector.indices, "<u4"), "values": _base64(vector.values, "<f4")}
    return _base64(vector, "<f4")


def _vector_from_json(vector: str | Mapping[str, str]) -> Vector:
    if isinstance(vector, str):
        return _array(vector, "<f4").tolist()  # type: ignore[no-any-return]
    return Sparse(_array(vector["indices"], "<u4").tolist(), _array(vector["values"], "<f4").tolist())


def _base64(numbers: list[Any], dtype: str) -> str:
    return base64.b64encode(np.array(numbers, dtype).tobytes()).decode("ascii")


def _array(text: str, dtype: str) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype)
