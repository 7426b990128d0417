"""A server as most people would write it, to be measured beside: one `encode` and one search a request.

    python -m tests.bench.plain_server ADDRESS EXAMPLES [--local]

It answers nearvote's own Classify: sentence-transformers' `encode` of the one text, and the nearest examples in
Qdrant Edge, or in qdrant-client's local mode with `--local`, in a pool of threads behind grpc.aio. EXAMPLES is an .npz
with `vectors` (examples, dimension) and `labels`.
"""

import argparse
import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import qdrant_edge as edge
from sentence_transformers import SentenceTransformer

from nearvote.embedding.models import find_model
from nearvote.settings import read_settings
from nearvote.v1 import classification_service_pb2 as pb
from nearvote.v1 import prediction_pb2
from nearvote.v1.classification_service_pb2_grpc import (
    ClassificationServiceServicer,
    add_ClassificationServiceServicer_to_server,
)

_NEIGHBORS = 20
_THREADS = 8

Search = Callable[[list[float]], list[str]]


def edge_search(vectors: np.ndarray, labels: Sequence[str], folder: str) -> Search:
    """The labels of the nearest examples, in Qdrant Edge."""
    config = edge.EdgeConfig(vectors={"meaning": edge.EdgeVectorParams(vectors.shape[1], edge.Distance.Cosine)})
    shard = edge.EdgeShard.create(folder, config)
    points = [
        edge.Point(i, {"meaning": vector.tolist()}, {"label": label})
        for i, (vector, label) in enumerate(zip(vectors, labels, strict=True))
    ]
    for start in range(0, len(points), 1000):
        shard.update(edge.UpdateOperation.upsert_points(points[start : start + 1000]))
    lock = threading.Lock()

    def search(vector: list[float]) -> list[str]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(vector, using="meaning"), limit=_NEIGHBORS, with_payload=["label"]
        )
        with lock:
            return [(point.payload or {})["label"] for point in shard.query_batch(edge.QueryBatchRequest([request]))[0]]

    return search


def local_search(vectors: np.ndarray, labels: Sequence[str]) -> Search:
    """The same in qdrant-client's local mode."""
    from qdrant_client import QdrantClient, models  # noqa: PLC0415

    client = QdrantClient(":memory:")
    client.create_collection("c", models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE))
    client.upload_collection("c", vectors, [{"label": label} for label in labels])

    def search(vector: list[float]) -> list[str]:
        return [(point.payload or {})["label"] for point in client.query_points("c", vector, limit=_NEIGHBORS).points]

    return search


class PlainServicer(ClassificationServiceServicer):
    """One text at a time."""

    def __init__(self, search: Search) -> None:
        self._model = SentenceTransformer(str(find_model(read_settings({}).model, None).folder), device="cpu")
        self._search = search
        self._threads = ThreadPoolExecutor(_THREADS)

    async def Classify(self, request: pb.ClassifyRequest, context: Any) -> pb.ClassifyResponse:  # noqa: N802, ARG002 - gRPC's
        """Labels one message."""
        label = await asyncio.get_running_loop().run_in_executor(self._threads, self._classify, request.text)
        prediction = prediction_pb2.Prediction(task="intent", labels=[label])
        return pb.ClassifyResponse(classification=prediction_pb2.Classification(predictions=[prediction]))

    def _classify(self, text: str) -> str:
        vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return Counter(self._search(vector.tolist())).most_common(1)[0][0]


async def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("examples", type=Path)
    parser.add_argument("--local", action="store_true")
    asked = parser.parse_args()
    stored = np.load(asked.examples, allow_pickle=False)
    vectors, labels = stored["vectors"], stored["labels"].tolist()
    with tempfile.TemporaryDirectory() as folder:
        search = local_search(vectors, labels) if asked.local else edge_search(vectors, labels, f"{folder}/shard")
        server = grpc.aio.server()
        servicer = PlainServicer(search)  # type: ignore[abstract] # unary alone is measured
        add_ClassificationServiceServicer_to_server(servicer, server)
        server.add_insecure_port(asked.address)
        await server.start()
        print("serving", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
