"""Builds the index of one Edge shard, in a process of its own: `python edge_optimize.py FOLDER`.

The engine never lets other threads of its interpreter run meanwhile, so this is never done where messages are served.
Imports nothing of nearvote, to start at once.
"""

import sys

import qdrant_edge as edge


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
    sys.stdout.write(str(optimize(sys.argv[1])))
