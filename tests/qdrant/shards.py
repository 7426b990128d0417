"""The collections of the stand-in: one Edge shard a collection, in a folder that can be opened again."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from qdrant_client import grpc as pb

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
        only(request.vectors_config, "params_map")
        vectors = {key: _dense(params) for key, params in request.vectors_config.params_map.map.items()}
        sparse = {key: _sparse(params) for key, params in request.sparse_vectors_config.map.items()}
        if not vectors and not sparse:  # Edge wants one at least, a server does not
            sparse["none"] = edge.EdgeSparseVectorParams()
        config = edge.EdgeConfig(vectors=vectors or None, sparse_vectors=sparse or None, max_search_threads=1)
        draft = self._folder / f"{name}.new"
        shard = edge.EdgeShard.create(str(draft), config)
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

    def index(self, request: Any) -> None:
        """Creates the index of a payload field; of one that has it already nothing happens."""
        only(request, "collection_name", "wait", "field_name", "field_type", "field_index_params", "timeout")
        only(request.field_index_params, "keyword_index_params")
        only(request.field_index_params.keyword_index_params, "is_tenant", "on_disk")
        schemas: dict[int, Any] = {
            pb.FieldType.FieldTypeKeyword: edge.PayloadSchemaType.Keyword,
            pb.FieldType.FieldTypeInteger: edge.PayloadSchemaType.Integer,
        }
        if request.field_index_params.HasField("keyword_index_params"):
            params = request.field_index_params.keyword_index_params
            schema: Any = edge.KeywordIndexParams(is_tenant=params.is_tenant)
        elif request.field_type in schemas:
            schema = schemas[request.field_type]
        else:
            raise Unknown(f"the stand-in does not know the field type {request.field_type}")
        self[request.collection_name].update(edge.UpdateOperation.create_field_index(request.field_name, schema))

    def close(self) -> None:
        """Writes everything out."""
        for shard in self._shards.values():
            shard.close()


def _dense(params: Any) -> edge.EdgeVectorParams:
    only(params, "size", "distance", "on_disk")
    if params.distance != pb.Distance.Cosine:
        raise Unknown("the stand-in knows cosines alone")
    return edge.EdgeVectorParams(params.size, edge.Distance.Cosine)


def _sparse(params: Any) -> edge.EdgeSparseVectorParams:
    only(params, "modifier")
    return edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if params.modifier == pb.Modifier.Idf else None)
