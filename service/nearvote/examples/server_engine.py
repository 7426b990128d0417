"""A Qdrant server or cluster, over gRPC by qdrant-client."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from nearvote.errors import StoreUnavailable
from nearvote.examples.engine import Found, Hit, Match, NearestQuery, Payload, Point, Schema, Sparse, Vector

_T = TypeVar("_T")


class ServerEngine:
    """Collections on a server.

    Args:
        client: The server's client; closed with the engine. qdrant-client's local mode does as well, for tests.
    """

    kind: Literal["edge", "server"] = "server"

    def __init__(self, client: AsyncQdrantClient) -> None:
        self._client = client

    @classmethod
    def connect(cls, url: str, *, grpc_port: int, api_key: str | None, timeout_seconds: int) -> "ServerEngine":
        """An engine on the server at a URL; the connection is made with the first call."""
        client = AsyncQdrantClient(
            url=url,
            prefer_grpc=True,
            grpc_port=grpc_port,
            api_key=api_key,
            timeout=timeout_seconds,
            check_compatibility=False,  # it asks by HTTP, which may not be open to us
        )
        return cls(client)

    async def collections(self) -> set[str]:
        """Names of the collections."""
        found = await _answer(self._client.get_collections())
        return {collection.name for collection in found.collections}

    async def create_collection(self, name: str, schema: Schema) -> None:
        """Creates a collection, if there is none of this name, and its indexes, if they are missing."""
        client = self._client
        if not await _answer(client.collection_exists(name)):
            vectors = {
                vector: models.VectorParams(size=dimension, distance=models.Distance.COSINE)
                for vector, dimension in schema.dense.items()
            }
            sparse = {vector: models.SparseVectorParams(modifier=models.Modifier.IDF) for vector in schema.sparse}
            try:
                await _answer(client.create_collection(name, vectors_config=vectors, sparse_vectors_config=sparse))
            except StoreUnavailable:
                if not await _answer(client.collection_exists(name)):  # another replica was faster
                    raise
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        await _answer(client.create_payload_index(name, schema.tenant, tenant))
        for field in schema.keywords:
            await _answer(client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD))
        for field in schema.integers:
            await _answer(client.create_payload_index(name, field, models.PayloadSchemaType.INTEGER))

    async def drop_collection(self, name: str) -> None:
        """Deletes a collection, if there is one of this name."""
        await _answer(self._client.delete_collection(name))

    async def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Adds points, replacing those of the same id."""
        if points:
            structs = [
                models.PointStruct(id=point.id, vector=_vectors(point.vectors), payload=point.payload)
                for point in points
            ]
            await _answer(self._client.upsert(collection, structs, wait=True))

    async def set_vectors(self, collection: str, vectors: Mapping[str, Mapping[str, Vector]]) -> None:
        """Sets named vectors of points that are there."""
        if vectors:
            points = [models.PointVectors(id=id_, vector=_vectors(named)) for id_, named in vectors.items()]
            await _answer(self._client.update_vectors(collection, points, wait=True))

    async def set_payload(self, collection: str, match: Match, payload: Payload) -> None:
        """Sets payload fields of all points that match."""
        await _answer(self._client.set_payload(collection, payload, points=_filter(match), wait=True))

    async def delete(self, collection: str, match: Match) -> None:
        """Deletes all points that match."""
        await _answer(self._client.delete(collection, models.FilterSelector(filter=_filter(match)), wait=True))

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
                params=_search_params(query),
            )
            for query in queries
        ]
        responses = await _answer(self._client.query_batch_points(collection, requests))
        return [[Hit(point.payload or {}, point.score) for point in response.points] for response in responses]

    async def retrieve(self, collection: str, ids: Sequence[str], fields: tuple[str, ...] | None) -> list[Found]:
        """The points of these ids."""
        with_payload = True if fields is None else list(fields)
        records = await _answer(self._client.retrieve(collection, list(ids), with_payload=with_payload))
        return [Found(str(record.id), record.payload or {}) for record in records]

    async def scroll(
        self, collection: str, match: Match, limit: int, from_id: str | None, vectors: tuple[str, ...] = ()
    ) -> tuple[list[Found], str | None]:
        """Up to `limit` points that match, by id."""
        records, following = await _answer(
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
        return (await _answer(self._client.count(collection, count_filter=_filter(match), exact=True))).count

    async def facet(self, collection: str, key: str, match: Match, limit: int) -> dict[str, int]:
        """How many of the points that match have each value of a field."""
        response = await _answer(
            self._client.facet(collection, key, facet_filter=_filter(match), limit=limit, exact=True)
        )
        return {str(hit.value): hit.count for hit in response.hits}

    async def ping(self) -> None:
        """Returns when the server answers."""
        await _answer(self._client.get_collections())

    async def close(self) -> None:
        """Closes the connection."""
        await self._client.close()


async def _answer(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except (grpc.RpcError, ApiException, QdrantException, OSError, TimeoutError) as error:
        raise StoreUnavailable(
            "the Qdrant server did not answer, or refused; its own words are in the service's log"
        ) from error


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


def _search_params(query: NearestQuery) -> models.SearchParams | None:
    if not query.corpus:
        return None
    return models.SearchParams(idf=models.IdfCorpusParams(corpus=_filter(query.corpus)))


def _filter(match: Match) -> models.Filter:
    return models.Filter(
        must=[models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in match.items()]
    )
