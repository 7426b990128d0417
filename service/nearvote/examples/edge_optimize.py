"""Builds the index of one Edge shard, which `edge_index.py` has done apart.

The engine never lets other threads of its interpreter run meanwhile, so this is never done where messages are served,
and the process ends with the one that started it, which alone holds the folder's lock.
"""

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
