"""Vectors of texts that came before."""

import numpy as np
import pytest

from nearvote.embedding.cache import ViewCache, Views
from nearvote.text.surface import surface_vector


def _views(text: str = "win money now", windows: int = 1) -> Views:
    return Views(np.ones((windows, 8), np.float32), surface_vector(text))


def test_what_was_put_is_there() -> None:
    """Views are found by their text's key, and by no other."""
    cache = ViewCache(1_000_000)
    views = _views()
    cache.put(cache.key("win money now"), views)
    assert cache.get([cache.key("win money now"), cache.key("Win money now")]) == {cache.key("win money now"): views}


def test_those_used_longest_ago_go() -> None:
    """When there is no more room, what was neither put nor found for longest goes."""
    each = _views().size
    cache = ViewCache(3 * each)
    keys = [cache.key(str(i)) for i in range(4)]
    for key in keys[:3]:
        cache.put(key, _views())
    cache.get(keys[:1])
    cache.put(keys[3], _views())
    assert set(cache.get(keys)) == {keys[0], keys[2], keys[3]}
    assert cache.used_bytes == 3 * each


def test_the_bound_holds() -> None:
    """Whatever comes, the entries take no more than they may; what is larger than that is not kept at all."""
    rng = np.random.default_rng(0)
    cache = ViewCache(20_000)
    for i in rng.integers(0, 50, 500):
        cache.put(cache.key(str(i)), _views("a longer text " * int(rng.integers(1, 9)), int(rng.integers(1, 20))))
        assert 0 < cache.used_bytes <= 20_000
    assert cache.used_bytes == sum(one.size for one in cache.get([cache.key(str(i)) for i in range(50)]).values())
    small = cache.get([cache.key(str(i)) for i in range(50)])
    cache.put(cache.key("huge"), _views(windows=10_000))
    assert cache.get([cache.key("huge")]) == {}
    assert len(cache.get(list(small))) == len(small), "nothing went for it"


def test_lookups_are_told() -> None:
    """Each lookup tells how many texts were there, one that is asked twice counting twice, and how many were not."""
    told: list[tuple[int, int]] = []
    cache = ViewCache(1_000_000, lambda hits, misses: told.append((hits, misses)))
    a, b = cache.key("a"), cache.key("b")
    cache.get([a, b])
    cache.put(a, _views())
    cache.get([a, b, a])
    assert told == [(0, 2), (2, 1)]


def test_switched_off() -> None:
    """Without memory nothing is kept, and nothing told."""
    told: list[tuple[int, int]] = []
    cache = ViewCache(0, lambda hits, misses: told.append((hits, misses)))
    cache.put(cache.key("a"), _views())
    assert cache.get([cache.key("a")]) == {}
    assert (cache.used_bytes, told) == (0, [])


@pytest.mark.parametrize("text", ["", "win money now", "\ud800", "你好"])
def test_keys_tell_nothing(text: str) -> None:
    """Another process has other keys for the same text."""
    one, other = ViewCache(1), ViewCache(1)
    assert one.key(text) == one.key(text) != other.key(text)
    assert len(one.key(text)) == 16
