"""A Qdrant server or cluster, over gRPC by qdrant-client."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import grpc
import structlog
from qdrant_client import AsyncQdrantClient, models

from nearvote.deadline import within_deadline
from nearvote.errors import StoreRefused, StoreTooSlow, StoreUnavailable
from nearvote.examples.engine import (
    AnyOf,
    Found,
    Hit,
    Match,
    NearestQuery,
    NotUpTo,
    Payload,
    Point,
    Schema,
    Sparse,
    UpTo,
    Vector,
    VectorStorage,
)
from nearvote.examples.server_layout import dense_params, quantization_params, sparse_params, storage_changes

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)

# What a second time does no harm: reads, and writes that say what is to be. A deletion goes by a filter, and would take
# what another replica has added since; collections are made and dropped where somebody watches.
_TRIED_AGAIN = {
    "qdrant.Points": ("QueryBatch", "Get", "Scroll", "Count", "Facet", "Upsert", "UpdateVectors", "SetPayload"),
    "qdrant.Collections": ("List", "CollectionExists", "Get"),
    "qdrant.Qdrant": ("HealthCheck",),
}

# What gRPC says of an answer that was garbled, and with it maybe each that follows on its connection. Servers say it of
# failures of their own as well, where a new connection helps nothing and costs little.
_GARBLED = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}

_OLDEST_VERSION = (1, 17)  # the first with `update_mode`, which `put_if` needs

# Waiting does not mend these.
_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}


class ServerEngine:
    """Collections on a server.

    Args:
        client: The server's client; closed with the engine. qdrant-client's local mode does as well, for tests.
        timeout_seconds: How long a call may take, with its further tries; less where the caller waits less long.
        reconnect: Makes a client of the same server, on a connection of its own; None to stay with the first.
        storage: How vectors are kept. A collection that keeps them otherwise is told; the server makes it so meanwhile.
    """

    kind: Literal["edge", "server"] = "server"

    def __init__(
        self,
        client: AsyncQdrantClient,
        timeout_seconds: float = 10,
        reconnect: Callable[[], AsyncQdrantClient] | None = None,
        storage: VectorStorage | None = None,
    ) -> None:
        self._client = client
        self._storage = storage or VectorStorage()
        self._timeout_seconds = timeout_seconds
        self._reconnect = reconnect
        self._connected_at = time.monotonic()
        self._closing: set[asyncio.Task[None]] = set()
        self._version_checked = False

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        grpc_port: int,
        api_key: str | None,
        timeout_seconds: int,
        storage: VectorStorage | None = None,
    ) -> "ServerEngine":
        """An engine on the server at a URL; the connection is made with the first call."""

        def client() -> AsyncQdrantClient:
            return AsyncQdrantClient(
                url=url,
                prefer_grpc=True,
                grpc_port=grpc_port,
                api_key=api_key,
                timeout=timeout_seconds,
                check_compatibility=False,  # it asks by HTTP, which may not be open to us
                pool_size=1,
                grpc_options=_channel_options(timeout_seconds),
            )

        return cls(client(), timeout_seconds, client, storage)

    async def collections(self) -> set[str]:
        """Names of the collections."""
        found = await self._answer(self._client.get_collections())
        return {collection.name for collection in found.collections}

    async def create_collection(self, name: str, schema: Schema) -> None:
        """Creates a collection, if there is none of this name, and its indexes, if they are missing."""
        client = self._client
        if not await self._answer(client.collection_exists(name)):
            vectors = {name: dense_params(name, dimension, self._storage) for name, dimension in schema.dense.items()}
            sparse = {name: sparse_params(models.Modifier.IDF, self._storage) for name in schema.sparse}
            try:
                await self._answer(client.create_collection(name, vectors_config=vectors, sparse_vectors_config=sparse))
            except StoreUnavailable:
                if not await self._answer(client.collection_exists(name)):  # another replica was faster
                    raise
        elif schema.dense:
            await self._keep_as_set(name)
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        await self._answer(client.create_payload_index(name, schema.tenant, tenant))
        for field in schema.keywords:
            await self._answer(client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD))
        for field in schema.integers:
            await self._answer(client.create_payload_index(name, field, models.PayloadSchemaType.INTEGER))
        ordered = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True)
        for field in schema.times:
            await self._answer(client.create_payload_index(name, field, ordered))

    async def _keep_as_set(self, name: str) -> None:
        found = await self._answer(self._client.get_collection(name))
        changes = storage_changes(found.config.params, self._storage)
        if changes:
            await self._answer(self._client.update_collection(name, **changes))
            _log.info(
                "vector_storage_changed",
                collection=name,
                vectors_on_disk=self._storage.on_disk,
                quantization=self._storage.quantization,
                in_force="once the server has written its segments anew",
            )

    async def drop_collection(self, name: str) -> None:
        """Deletes a collection, if there is one of this name."""
        await self._answer(self._client.delete_collection(name))

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Adds points, replacing those of the same id."""
        if points:
            structs = [
                models.PointStruct(id=point.id, vector=_vectors(point.vectors), payload=point.payload)
                for point in points
            ]
            await self._answer(self._client.upsert(collection, structs, wait=True))

    async def put_if(self, collection: str, point: Point, match: Match | None) -> None:
        """Replaces the point of this id if it matches, or adds it if there is none and `match` is None."""
        struct = models.PointStruct(id=point.id, vector=_vectors(point.vectors), payload=point.payload)
        call = self._client.upsert(
            collection,
            [struct],
            wait=True,
            ordering=models.WriteOrdering.STRONG,  # one node of a cluster decides, which copies follow
            update_filter=None if match is None else _filter(match),
            update_mode=models.UpdateMode.INSERT_ONLY if match is None else models.UpdateMode.UPDATE_ONLY,
        )
        await self._answer(call)

    async def set_vectors(self, collection: str, vectors: Mapping[str, Mapping[str, Vector]]) -> None:
        """Sets named vectors of points that are there."""
        if vectors:
            points = [models.PointVectors(id=id_, vector=_vectors(named)) for id_, named in vectors.items()]
            await self._answer(self._client.update_vectors(collection, points, wait=True))

    async def set_payload(self, collection: str, match: Match, payload: Payload) -> None:
        """Sets payload fields of all points that match."""
        await self._answer(self._client.set_payload(collection, payload, points=_filter(match), wait=True))

    async def delete(self, collection: str, match: Match) -> None:
        """Deletes all points that match."""
        await self._answer(self._client.delete(collection, models.FilterSelector(filter=_filter(match)), wait=True))

    async def nearest(self, collection: str, queries: Sequence[NearestQuery]) -> list[list[Hit]]:
        """The points nearest to each query."""
        if not queries:
            return []
        requests = [
            models.QueryRequest(
                query=_vector(query.vector),
                using=query.using,
                filter=_filter(query.match),
                limit=query.limit,
                with_payload=list(query.fields),
                params=_search_params(query, self._storage),
            )
            for query in queries
        ]
        responses = await self._answer(self._client.query_batch_points(collection, requests))
        return [[Hit(point.payload or {}, point.score) for point in response.points] for response in responses]

    async def retrieve(self, collection: str, ids: Sequence[str], fields: tuple[str, ...] | None) -> list[Found]:
        """The points of these ids."""
        with_payload = True if fields is None else list(fields)
        records = await self._answer(self._client.retrieve(collection, list(ids), with_payload=with_payload))
        return [Found(str(record.id), record.payload or {}) for record in records]

    async def scroll(
        self, collection: str, match: Match, limit: int, from_id: str | None, vectors: tuple[str, ...] = ()
    ) -> tuple[list[Found], str | None]:
        """Up to `limit` points that match, by id."""
        records, following = await self._answer(
            self._client.scroll(
                collection,
                scroll_filter=_filter(match),
                limit=limit,
                offset=from_id,
                with_vectors=list(vectors) if vectors else False,
            )
        )
        found = [Found(str(record.id), record.payload or {}, vectors=_named(record.vector)) for record in records]
        return found, None if following is None else str(following)

    async def count(self, collection: str, match: Match) -> int:
        """How many points match."""
        return (await self._answer(self._client.count(collection, count_filter=_filter(match), exact=True))).count

    async def least(self, collection: str, key: str, match: Match) -> int | None:
        """The smallest value that an integer field has among the points that match."""
        records, _ = await self._answer(
            self._client.scroll(
                collection, scroll_filter=_filter(match), limit=1, with_payload=[key], order_by=models.OrderBy(key=key)
            )
        )
        return (records[0].payload or {})[key] if records else None

    async def facet(self, collection: str, key: str, match: Match, limit: int) -> dict[str, int]:
        """How many of the points that match have each value of a field."""
        response = await self._answer(
            self._client.facet(collection, key, facet_filter=_filter(match), limit=limit, exact=True)
        )
        return {str(hit.value): hit.count for hit in response.hits}

    async def flush(self, collection: str) -> None:
        """Nothing: the server does it by itself."""

    async def ping(self) -> None:
        """Returns when the server answers.

        Raises:
            StoreRefused: It is too old, or lets us in nowhere.
            StoreUnavailable: It does not answer.
        """
        await self._answer(self._client.get_collections())
        if not self._version_checked:
            await self._check_version()
            self._version_checked = True

    async def _check_version(self) -> None:
        try:
            version = (await self._answer(self._client.info())).version
        except StoreRefused:  # what stands before it lets nothing through but what is needed
            return
        numbers = re.match(r"v?(\d+)\.(\d+)", version)  # a build of one's own may have none
        if numbers and tuple(map(int, numbers.groups())) < _OLDEST_VERSION:
            oldest = ".".join(map(str, _OLDEST_VERSION))
            raise StoreRefused(f"the Qdrant server is of version {version}: {oldest} or a later one is needed")

    async def close(self) -> None:
        """Closes the connection."""
        await asyncio.gather(self._client.close(), *self._closing)

    async def _answer(self, call: Awaitable[_T]) -> _T:
        seconds = within_deadline(self._timeout_seconds)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await call
        except Exception as error:  # of an answer that can't be read the client makes an error of any type
            if isinstance(error, grpc.aio.AioRpcError) and error.code() in _REFUSALS:
                raise StoreRefused(
                    "the Qdrant server refused: check its URL, its gRPC port and its API key; its own words are in the "
                    "service's log"
                ) from error
            if isinstance(error, grpc.aio.AioRpcError) and error.code() in _GARBLED:
                self._renew()
            if limit.expired() and seconds < self._timeout_seconds:
                raise StoreTooSlow(
                    "the Qdrant server did not answer in the time that is left for the call: give it a later deadline"
                ) from error
            raise StoreUnavailable(
                "the Qdrant server did not answer, or could not do it: try again; its own words are in the service's "
                "log"
            ) from error

    def _renew(self) -> None:
        """Makes the next calls on a new connection; those under way have the old one for as long as they may take."""
        now = time.monotonic()
        if self._reconnect is None or now - self._connected_at < self._timeout_seconds:
            return
        closing = asyncio.create_task(self._client.close(grpc_grace=self._timeout_seconds))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._client, self._connected_at = self._reconnect(), now


def _channel_options(timeout_seconds: float) -> dict[str, Any]:
    """How the connection is watched and made again, and which calls are tried again (gRPC's A6, with its jitter)."""
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.2s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],  # no connection, or a broken one; a slow server is not asked twice
    }
    names = [{"service": service, "method": method} for service, methods in _TRIED_AGAIN.items() for method in methods]
    service_config = {
        "methodConfig": [{"name": names, "retryPolicy": policy}],
        # While most calls fail, each is tried once: a server that comes back is not run over.
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
    return {
        "grpc.service_config": json.dumps(service_config),
        # A connection that has gone silent is given up while a call on it still has time for another.
        "grpc.keepalive_time_ms": int(timeout_seconds * 500),
        "grpc.keepalive_timeout_ms": int(timeout_seconds * 250),
        "grpc.http2.ping_timeout_ms": int(timeout_seconds * 250),  # gRPC's own minute holds where this is not set
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,  # else it stops asking after two
        # No table of headers seen before: one that arrived wrong would spoil each later answer of its connection.
        "grpc.http2.hpack_table_size.decoder": 0,
        # gRPC's own are up to two minutes: a server that is back would be noticed as late as that.
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.min_reconnect_backoff_ms": int(timeout_seconds * 500),  # how long making a connection may take
        "grpc.use_local_subchannel_pool": 1,  # else a new channel goes on with the connection of the old one
    }


def _vector(vector: Vector) -> Any:
    if isinstance(vector, Sparse):
        return models.SparseVector(indices=vector.indices, values=vector.values)
    return vector


def _vectors(vectors: Mapping[str, Vector]) -> dict[str, Any]:
    return {name: _vector(vector) for name, vector in vectors.items()}


def _named(vectors: Any) -> dict[str, Vector]:
    if not isinstance(vectors, dict):  # none were asked for, or the point has none
        return {}
    return {
        name: Sparse(vector.indices, vector.values) if isinstance(vector, models.SparseVector) else vector
        for name, vector in vectors.items()
    }


def _search_params(query: NearestQuery, storage: VectorStorage) -> models.SearchParams:
    return models.SearchParams(
        idf=models.IdfCorpusParams(corpus=_filter(query.corpus)) if query.corpus else None,
        quantization=quantization_params(storage),
    )


def _filter(match: Match) -> models.Filter:
    return models.Filter(
        must=[_condition(key, value) for key, value in match.items() if not isinstance(value, NotUpTo)],
        must_not=[_condition(key, UpTo(value.most)) for key, value in match.items() if isinstance(value, NotUpTo)],
    )


def _condition(key: str, value: "str | int | UpTo | AnyOf | None") -> models.FieldCondition | models.IsEmptyCondition:
    if value is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
    if isinstance(value, UpTo):
        return models.FieldCondition(key=key, range=models.Range(lte=value.most))
    if isinstance(value, AnyOf):
        return models.FieldCondition(key=key, match=models.MatchAny(any=list(value.values)))
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))
