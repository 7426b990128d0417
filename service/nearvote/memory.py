"""How memory is shared out among threads, and how often what refers to itself is looked for."""

import ctypes
import gc

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2
# Objects that are new before the collector looks at them: a message makes a few hundred, which go by themselves.
_NEW_OBJECTS = 5_000


def share_arenas() -> None:
    """Has all threads share two arenas of the C library, where it is glibc; elsewhere nothing.

    It makes one a thread, up to eight a core, and what is freed in one is of no use to the others: fits, which work in
    threads on some ten megabytes, grew the service by 40 MB each. To be called before there are threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def collect_rarely() -> None:
    """Has the garbage collector look less often, and never at what is there now.

    What refers to itself here is small: `rpc/interceptors.py` sees to it that a call that failed keeps no request. With
    the usual 700 objects it took a twelfth of the event loop's time. To be called once all is there that stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
