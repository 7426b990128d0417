import os
import threading
from concurrent.futures import ThreadPoolExecutor

from nearvote.priority import ENCODING, ENCODING_SHORT, LEARNING, give_way


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gives_way_alone() -> None:
    """A thread that gives way is less urgent than the first one, as often as it says so, and no other is."""
    first = os.getpriority(os.PRIO_PROCESS, os.getpid())

    def twice() -> int:
        give_way(ENCODING)
        give_way(ENCODING)
        return _niceness()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(twice).result() == min(first + ENCODING, 19)
        assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == first
        assert _niceness() == first


def test_what_it_starts_gives_way_too() -> None:
    """Threads that a less urgent thread starts are as little urgent."""

    def outer() -> int:
        give_way(LEARNING)
        with ThreadPoolExecutor(1) as inner:
            return inner.submit(_niceness).result()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(outer).result() > _niceness()


def test_no_thread_becomes_more_urgent() -> None:
    """What gives way already is not made more urgent by giving way less, which a process may not do."""

    def less() -> tuple[int, int]:
        give_way(LEARNING)
        before = _niceness()
        give_way(ENCODING)
        return before, _niceness()

    with ThreadPoolExecutor(1) as pool:
        before, after = pool.submit(less).result()
    assert before == after


def test_learning_gives_way_to_encoding() -> None:
    """A fit takes what messages leave it, and long texts what short ones leave them; calls come before all."""
    assert 0 < ENCODING_SHORT < ENCODING < LEARNING
