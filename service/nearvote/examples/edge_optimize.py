"""Builds the index of one Edge shard, in a process of its own: `python edge_optimize.py FOLDER PARENT`.

The engine never lets other threads of its interpreter run meanwhile, so this is never done where messages are served.
Imports nothing of nearvote, to start at once.
"""

import ctypes
import os
import signal
import sys

import qdrant_edge as edge

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Ends this process with the one that started it, which alone holds the folder's lock. On Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we could ask
        sys.exit(1)


def optimize(folder: str) -> int:
    """Merges the shard's segments, and builds HNSW over those that are large enough to need it.

    Returns:
        How many points it has.
    """
    shard = edge.EdgeShard.load(folder)
    shard.optimize()
    shard.flush()
    count = shard.info().points_count
    shard.close()
    return count


if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    sys.stdout.write(str(optimize(sys.argv[1])))
