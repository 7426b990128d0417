"""Vectors of texts that came before: a campaign sends the same text thousands of times."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nearvote.embedding.encoder import Matrix
from nearvote.text.surface import SparseVector

_KEY_BYTES = 16
# What an entry takes beside its arrays: their headers, the key, and its place in the table.
_OVERHEAD_BYTES = 700


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """A text's views.

    Attributes:
        windows: (windows, dimension) float32, rows of length 1; no rows for a text with nothing to read.
        surface: Its n-grams.
    """

    windows: Matrix
    surface: SparseVector

    @property
    def size(self) -> int:
        """Bytes that it takes in the cache."""
        arrays = (self.windows, self.surface.indices, self.surface.values)
        return sum(array.nbytes for array in arrays) + _OVERHEAD_BYTES


class ViewCache:
    """The views of the texts that were used last, up to so many bytes.

    It holds no text: an entry is found by a hash keyed with a secret that this process made up, so that what is in
    memory does not tell who sent what.

    Args:
        max_bytes: What the entries may take together; 0 to keep nothing.
        looked_up: Told of each lookup: how many of the texts were there, and how many were not.
    """

    def __init__(self, max_bytes: int, looked_up: Callable[[int, int], None] = lambda _hits, _misses: None) -> None:
        self._max_bytes = max_bytes
        self._looked_up = looked_up
        self._secret = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, Views] = OrderedDict()  # the one used last at the end
        self._bytes = 0

    @property
    def used_bytes(self) -> int:
        """What the entries take."""
        return self._bytes

    def key(self, text: str, scope: str = "") -> bytes:
        """The key of a cleaned text of somebody's."""
        encoded = f"{len(scope)}:{scope}{text}".encode(errors="surrogatepass")
        return hashlib.blake2b(encoded, key=self._secret, digest_size=_KEY_BYTES).digest()

    def get(self, keys: list[bytes]) -> dict[bytes, Views]:
        """The views that are there, by their keys."""
        if not self._max_bytes:
            return {}
        found = {key: entry for key in keys if (entry := self._entries.get(key)) is not None}
        for key in found:
            self._entries.move_to_end(key)
        hits = sum(key in found for key in keys)
        self._looked_up(hits, len(keys) - hits)
        return found

    def forget(self, keys: Sequence[bytes]) -> None:
        """Lets go of texts' views, those that are there."""
        for key in keys:
            former = self._entries.pop(key, None)
            self._bytes -= former.size if former else 0

    def put(self, key: bytes, views: Views) -> None:
        """Keeps a text's views; those used longest ago go for it."""
        if views.size > self._max_bytes:
            return
        former = self._entries.pop(key, None)
        self._bytes += views.size - (former.size if former else 0)
        self._entries[key] = views
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size
