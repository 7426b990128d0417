"""The collections of the stand-in: one Edge shard a collection, in a folder that can be opened again."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client import grpc as pb

from tests.qdrant.layout import changed_config, new_config, params_of
from tests.qdrant.wire import Unknown, only


class NoCollection(Exception):
    """There is no collection of this name."""


class CollectionExists(Exception):
    """There is a collection of this name already."""


class Shards:
    """Collections as folders.

    Args:
        folder: Where they are; those that are there are opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._shards: dict[str, edge.EdgeShard] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix == ".new":  # a creation that was cut short
                shutil.rmtree(path)
            else:
                self._shards[path.name] = edge.EdgeShard.load(str(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def __getitem__(self, name: str) -> edge.EdgeShard:
        if name not in self._shards:
            raise NoCollection(f"Not found: Collection `{name}` doesn't exist!")
        return self._shards[name]

    def create(self, request: Any) -> None:
        """Creates a collection, whole or not at all."""
        # How it is spread over machines and disks means nothing to one shard.
        spread = ("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload", "timeout")
        only(request, "collection_name", "vectors_config", "sparse_vectors_config", *spread)
        name = request.collection_name
        if name in self._shards:
            raise CollectionExists(f"Wrong input: Collection `{name}` already exists!")
        draft = self._folder / f"{name}.new"
        shard = edge.EdgeShard.create(str(draft), new_config(request))
        shard.flush()
        shard.close()
        draft.rename(self._folder / name)
        self._shards[name] = edge.EdgeShard.load(str(self._folder / name))

    def drop(self, name: str) -> bool:
        """Deletes a collection. Returns whether there was one."""
        shard = self._shards.pop(name, None)
        if shard is not None:
            shard.close()
            shutil.rmtree((self._folder / name).rename(self._folder / f"{name}.new"))
        return shard is not None

    def change(self, request: Any) -> None:
        """Keeps a collection's vectors otherwise: at once, where a server takes its time."""
        only(request, "collection_name", "vectors_config", "sparse_vectors_config", "timeout")
        path = self._folder / request.collection_name
        self[request.collection_name].close()
        shard = edge.EdgeShard.load(str(path), changed_config(path, request))
        shard.optimize()
        shard.close()  # which clears away the segments that were replaced
        self._shards[request.collection_name] = edge.EdgeShard.load(str(path))

    def describe(self, name: str) -> Any:
        """What a collection says of itself."""
        shard = self[name]
        return pb.CollectionInfo(
            status=pb.CollectionStatus.Green,
            optimizer_status=pb.OptimizerStatus(ok=True),
            segments_count=shard.info().segments_count,
            config=pb.CollectionConfig(
                params=params_of(self._folder / name),
                hnsw_config=pb.HnswConfigDiff(m=16, ef_construct=100, full_scan_threshold=10_000),
                optimizer_config=pb.OptimizersConfigDiff(
                    deleted_threshold=0.2, vacuum_min_vector_number=1_000, default_segment_number=0
                ),
                wal_config=pb.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0),
            ),
        )

    def index(self, request: Any) -> None:
        """Creates the index of a payload field; one of the same parameters stays as it is."""
        only(request, "collection_name", "wait", "field_name", "field_type", "field_index_params", "timeout")
        only(request.field_index_params, "keyword_index_params", "integer_index_params")
        only(request.field_index_params.keyword_index_params, "is_tenant", "on_disk")
        only(request.field_index_params.integer_index_params, "lookup", "range")
        schemas: dict[int, Any] = {
            pb.FieldType.FieldTypeKeyword: edge.PayloadSchemaType.Keyword,
            pb.FieldType.FieldTypeInteger: edge.PayloadSchemaType.Integer,
        }
        if request.field_index_params.HasField("keyword_index_params"):
            params = request.field_index_params.keyword_index_params
            schema: Any = edge.KeywordIndexParams(is_tenant=params.is_tenant)
        elif request.field_index_params.HasField("integer_index_params"):
            params = request.field_index_params.integer_index_params
            schema = edge.IntegerIndexParams(lookup=params.lookup, range=params.range)
        elif request.field_type in schemas:
            schema = schemas[request.field_type]
        else:
            raise Unknown(f"the stand-in does not know the field type {request.field_type}")
        self[request.collection_name].update(edge.UpdateOperation.create_field_index(request.field_name, schema))

    def close(self) -> None:
        """Writes everything out."""
        for shard in self._shards.values():
            shard.close()
