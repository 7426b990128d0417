"""How the C library shares out memory among threads."""

import ctypes

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def share_arenas() -> None:
    """Has all threads share two arenas of the C library, where it is glibc; elsewhere nothing.

    It makes one a thread, up to eight a core, and what is freed in one is of no use to the others: fits, which work in
    threads on some ten megabytes, grew the service by 40 MB each. To be called before there are threads.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
