"""How memory is shared out among threads, and what is in it."""

import subprocess
import sys

import pytest

# Eight threads allocate at once; arenas but the main one begin at multiples of 64 MB.
_COUNT_ARENAS = """
import threading
{first}
together = threading.Barrier(8)
def work():
    kept = [bytearray(2_000) for _ in range(500)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
maps = [line for line in open("/proc/self/maps") if len(line.split()) == 5 and " rw-p " in line]
print(sum(int(line.split("-")[0], 16) % (64 << 20) == 0 for line in maps))
"""


def _arenas(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_ARENAS.format(first=first)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_threads_share_arenas() -> None:
    """Whatever the number of threads, the C library keeps two arenas, the main one among them."""
    assert _arenas("from nearvote.memory import share_arenas; share_arenas()") <= 1
    assert _arenas("pass") > 1, "else this test sees nothing"


def test_what_only_fits_need_waits_for_the_first() -> None:
    """A service that has not fitted has not loaded SciPy's parts, which take 40 MB and a third of a second."""
    code = "import sys, nearvote.server; print([m for m in ('scipy.sparse', 'scipy.optimize') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_collector_looks_rarely() -> None:
    """What is there when it is told so is not looked at again, and new objects are when there are many."""
    code = (
        "import gc, weakref; from nearvote.memory import collect_rarely; collect_rarely()\n"
        "class Own: pass\n"
        "one = Own(); one.one = one; seen = weakref.ref(one); del one\n"
        "kept = [[] for _ in range(2_000)]; early = seen() is not None\n"
        "kept += [[] for _ in range(10_000)]\n"
        "print(gc.get_freeze_count() > 1_000, early, seen() is None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3
