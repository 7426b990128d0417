"""A stand-in for a Qdrant server: Qdrant's gRPC protocol on top of Qdrant Edge, in a process of its own.

`python -m tests.qdrant.server PORT FOLDER` prints `ready`, then obeys the lines of its input, each answered by one:

    well            answers every call (the beginning)
    full            refuses writes with RESOURCE_EXHAUSTED
    broken          refuses writes with INTERNAL, as a server without room on its disk does
    shaky METHOD N  refuses the next N calls of a method with UNAVAILABLE
    key KEY         refuses calls without this API key; without KEY takes all
    calls           the calls that came, by method, and how many of them were a client's further tries, as JSON

It ends when its input does.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import qdrant_edge as edge
from qdrant_client import grpc as pb
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

from tests.qdrant.shards import CollectionExists, NoCollection, Shards
from tests.qdrant.wire import (
    Unknown,
    filter_from_wire,
    id_from_wire,
    id_to_wire,
    only,
    payload_from_wire,
    payload_selector,
    payload_to_wire,
    query_from_wire,
    vectors_from_wire,
    vectors_selector,
    vectors_to_wire,
)

_WRITES = frozenset({"Upsert", "UpdateVectors", "SetPayload", "Delete", "Create", "Update", "CreateFieldIndex"})
_FULL = "Service runtime error: No space left on device: WAL buffer size exceeds available disk space"
_REFUSALS = {
    "full": (grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests"),
    "broken": (grpc.StatusCode.INTERNAL, _FULL),
}
_UPDATE_MODES = {
    pb.UpdateMode.Upsert: edge.UpdateMode.Upsert,
    pb.UpdateMode.InsertOnly: edge.UpdateMode.InsertOnly,
    pb.UpdateMode.UpdateOnly: edge.UpdateMode.UpdateOnly,
}
_CODES: dict[type[Exception], grpc.StatusCode] = {
    NoCollection: grpc.StatusCode.NOT_FOUND,
    CollectionExists: grpc.StatusCode.ALREADY_EXISTS,
    Unknown: grpc.StatusCode.UNIMPLEMENTED,
}


class _Points(points_service_pb2_grpc.PointsServicer):
    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def Upsert(self, request: Any, context: Any) -> Any:
        # How copies on several nodes are kept in order means nothing to one shard.
        only(request, "collection_name", "wait", "points", "timeout", "ordering", "update_filter", "update_mode")
        points = [
            edge.Point(id_from_wire(point.id), vectors_from_wire(point.vectors), payload_from_wire(point.payload))
            for point in request.points
        ]
        condition = filter_from_wire(request.update_filter) if request.HasField("update_filter") else None
        mode = _UPDATE_MODES[request.update_mode]  # a field left out is the zero value, a plain upsert
        return self._update(request, edge.UpdateOperation.upsert_points(points, condition=condition, update_mode=mode))

    async def UpdateVectors(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "wait", "points", "timeout")
        points = [edge.PointVectors(id_from_wire(one.id), vectors_from_wire(one.vectors)) for one in request.points]
        return self._update(request, edge.UpdateOperation.update_vectors(points))

    async def SetPayload(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "wait", "payload", "points_selector", "timeout")
        only(request.points_selector, "filter")
        match, payload = filter_from_wire(request.points_selector.filter), payload_from_wire(request.payload)
        return self._update(request, edge.UpdateOperation.set_payload_by_filter(match, payload))

    async def Delete(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "wait", "points", "timeout")
        only(request.points, "filter")
        return self._update(
            request, edge.UpdateOperation.delete_points_by_filter(filter_from_wire(request.points.filter))
        )

    async def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        self._shards.index(request)
        return _done()

    async def QueryBatch(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "query_points", "timeout")
        queries = [query_from_wire(query) for query in request.query_points]
        results = self._shards[request.collection_name].query_batch(edge.QueryBatchRequest(queries))
        return pb.QueryBatchResponse(result=[pb.BatchResult(result=[_scored(hit) for hit in hits]) for hits in results])

    async def Get(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "ids", "with_payload", "with_vectors", "timeout")
        records = self._shards[request.collection_name].retrieve(
            [id_from_wire(id_) for id_ in request.ids],
            payload_selector(request.with_payload),
            vectors_selector(request.with_vectors),
        )
        return pb.GetResponse(result=[_retrieved(record) for record in records])

    async def Scroll(self, request: Any, context: Any) -> Any:
        only(
            request,
            "collection_name",
            "filter",
            "offset",
            "limit",
            "with_payload",
            "with_vectors",
            "order_by",
            "timeout",
        )
        if request.HasField("order_by"):
            only(request.order_by, "key")
        records, following = self._shards[request.collection_name].scroll(
            edge.ScrollRequest(
                offset=id_from_wire(request.offset) if request.HasField("offset") else None,
                limit=request.limit,
                filter=filter_from_wire(request.filter),
                with_payload=payload_selector(request.with_payload),
                with_vector=vectors_selector(request.with_vectors),
                order_by=edge.OrderBy(request.order_by.key) if request.HasField("order_by") else None,
            )
        )
        offset = None if following is None else id_to_wire(following)
        return pb.ScrollResponse(next_page_offset=offset, result=[_retrieved(record) for record in records])

    async def Count(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "filter", "exact", "timeout")
        match = edge.CountRequest(exact=request.exact, filter=filter_from_wire(request.filter))
        return pb.CountResponse(result=pb.CountResult(count=self._shards[request.collection_name].count(match)))

    async def Facet(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "key", "filter", "limit", "exact", "timeout")
        asked = edge.FacetRequest(
            request.key, limit=request.limit, exact=request.exact, filter=filter_from_wire(request.filter)
        )
        hits = self._shards[request.collection_name].facet(asked)
        return pb.FacetResponse(hits=[pb.FacetHit(value=_facet(hit.value), count=hit.count) for hit in hits])

    def _update(self, request: Any, operation: edge.UpdateOperation) -> Any:
        self._shards[request.collection_name].update(operation)
        return _done()


class _Collections(collections_service_pb2_grpc.CollectionsServicer):
    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def List(self, request: Any, context: Any) -> Any:
        return pb.ListCollectionsResponse(collections=[pb.CollectionDescription(name=name) for name in self._shards])

    async def CollectionExists(self, request: Any, context: Any) -> Any:
        exists = request.collection_name in set(self._shards)
        return pb.CollectionExistsResponse(result=pb.CollectionExists(exists=exists))

    async def Create(self, request: Any, context: Any) -> Any:
        self._shards.create(request)
        return pb.CollectionOperationResponse(result=True)

    async def Get(self, request: Any, context: Any) -> Any:
        only(request, "collection_name")
        return pb.GetCollectionInfoResponse(result=self._shards.describe(request.collection_name))

    async def Update(self, request: Any, context: Any) -> Any:
        self._shards.change(request)
        return pb.CollectionOperationResponse(result=True)

    async def Delete(self, request: Any, context: Any) -> Any:
        only(request, "collection_name", "timeout")
        return pb.CollectionOperationResponse(result=self._shards.drop(request.collection_name))


class _Root(qdrant_pb2_grpc.QdrantServicer):
    def __init__(self, gate: "_Gate") -> None:
        self._gate = gate

    async def HealthCheck(self, request: Any, context: Any) -> Any:
        return pb.HealthCheckReply(title="stand-in", version=self._gate.version)


class _Gate(grpc.aio.ServerInterceptor):
    """Counts calls, refuses those that it is told to refuse, and says loudly what the stand-in does not know."""

    def __init__(self) -> None:
        self.mode = "well"
        self.key = ""
        self.version = "1.18.0"
        self.shaky: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        method = details.method.rpartition("/")[2]
        self.calls[method] += 1
        metadata = dict(details.invocation_metadata)
        self.retries[method] += "grpc-previous-rpc-attempts" in metadata
        behavior: Any = handler.unary_unary if handler else None

        async def answer(request: Any, context: Any) -> Any:
            if self.key and metadata.get("api-key") != self.key:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
            if self.shaky[method] > 0:
                self.shaky[method] -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Service is shutting down")
            if method in _WRITES and self.mode in _REFUSALS:
                await context.abort(*_REFUSALS[self.mode])
            if behavior is None or not asyncio.iscoroutinefunction(behavior):  # a stub's own, which does nothing
                print(f"not known: {details.method}", file=sys.stderr, flush=True)
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not know {details.method}")
            try:
                return await behavior(request, context)
            except Exception as error:  # noqa: BLE001 - Edge raises plain Exception for whatever it does not take
                if isinstance(error, Unknown):
                    print(f"not known: {error}", file=sys.stderr, flush=True)
                await context.abort(_CODES.get(type(error), grpc.StatusCode.INVALID_ARGUMENT), str(error))

        return grpc.unary_unary_rpc_method_handler(
            answer,
            handler.request_deserializer if handler else None,
            handler.response_serializer if handler else None,
        )

    def obey(self, line: str) -> str:
        """Does what a line says; returns the answer."""
        command, _, argument = line.strip().partition(" ")
        match command:
            case "well" | "full" | "broken":
                self.mode = command
            case "shaky":
                refused, _, count = argument.partition(" ")
                self.shaky[refused] = int(count)
            case "key":
                self.key = argument
            case "version":
                self.version = argument
            case "calls":
                return json.dumps({"calls": self.calls, "retries": +self.retries})
            case _:
                return f"not known: {command}"
        return "done"


def _done() -> Any:
    return pb.PointsOperationResponse(result=pb.UpdateResult(status=pb.UpdateStatus.Completed))


def _scored(point: Any) -> Any:
    return pb.ScoredPoint(
        id=id_to_wire(point.id),
        payload=payload_to_wire(point.payload),
        score=point.score,
        vectors=vectors_to_wire(point.vector),
    )


def _retrieved(record: Any) -> Any:
    return pb.RetrievedPoint(
        id=id_to_wire(record.id), payload=payload_to_wire(record.payload), vectors=vectors_to_wire(record.vector)
    )


def _facet(value: object) -> Any:
    if isinstance(value, bool):
        return pb.FacetValue(bool_value=value)
    return pb.FacetValue(integer_value=value) if isinstance(value, int) else pb.FacetValue(string_value=str(value))


async def serve(port: int, folder: Path) -> None:
    """Serves on a loopback port until the standard input ends."""
    shards, gate = Shards(folder), _Gate()
    server = grpc.aio.server(
        interceptors=[gate],
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # As Qdrant's own server does, it takes as many pings as come.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    points_service_pb2_grpc.add_PointsServicer_to_server(_Points(shards), server)  # type: ignore[no-untyped-call]
    collections_service_pb2_grpc.add_CollectionsServicer_to_server(  # type: ignore[no-untyped-call]
        _Collections(shards), server
    )
    qdrant_pb2_grpc.add_QdrantServicer_to_server(_Root(gate), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(gate.obey(line), flush=True)
    await server.stop(None)
    shards.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
