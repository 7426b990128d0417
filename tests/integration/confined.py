"""Runs a program that the kernel ends as soon as it asks to reach anybody: `python confined.py PROGRAM ARGUMENTS`.

It may not connect, open a socket for datagrams (names are looked up by them), or send to an address, in any library
and any thread, and its children may not either. It may listen and answer. Linux on x86-64 and arm64.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from typing import NamedTuple


class _Calls(NamedTuple):
    architecture: int
    socket: int
    connect: int
    sendto: int


_CALLS = {
    "x86_64": _Calls(0xC000003E, socket=41, connect=42, sendto=44),
    "aarch64": _Calls(0xC00000B7, socket=198, connect=203, sendto=206),
}
SUPPORTED = sys.platform == "linux" and platform.machine() in _CALLS

# Classic BPF: load a word of seccomp_data, and with a mask, jump where equal, return.
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EACCES
_NUMBER, _ARCHITECTURE = 0, 4
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


def _argument(number: int, half: int = 0) -> int:
    return 16 + 8 * number + 4 * half


def _program() -> bytes:
    calls = _CALLS[platform.machine()]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, calls.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 12, 0, calls.connect),  # to the end, which kills
        (_JUMP_IF_EQUAL, 2, 0, calls.socket),
        (_JUMP_IF_EQUAL, 6, 0, calls.sendto),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _argument(0)),
        (_JUMP_IF_EQUAL, 8, 0, socket.AF_UNIX),  # refused: it is asked for to reach caches of names, and can be missed
        (_LOAD, 0, 0, _argument(1)),
        (_AND, 0, 0, 0xF),  # without the flags
        (_JUMP_IF_EQUAL, 4, 6, socket.SOCK_DGRAM),
        (_LOAD, 0, 0, _argument(4)),
        (_JUMP_IF_EQUAL, 0, 2, 0),
        (_LOAD, 0, 0, _argument(4, 1)),
        (_JUMP_IF_EQUAL, 2, 0, 0),  # no address: an answer on a connection that came in
        (_RETURN, 0, 0, _KILL),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def confine() -> None:
    """Confines this process and all that it starts, for good."""
    program = ctypes.create_string_buffer(_program())
    header = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.addressof(header), 0, 0)):
        if libc.prctl(arguments[0], *(ctypes.c_ulong(one) for one in arguments[1:])) != 0:
            raise OSError(ctypes.get_errno(), "this kernel confines nobody")


if __name__ == "__main__":
    confine()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606
