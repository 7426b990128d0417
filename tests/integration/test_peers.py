"""Clients that are not ours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.conftest import Start
from tests.integration.server import ROOT, Server

BUF = shutil.which("buf") or str(ROOT / "build/buf/node_modules/.bin/buf")
SERVICES = {f"nearvote.v1.{name}Service" for name in ("Classification", "Example", "Task", "Info")}


def buf_curl(server: Server, method: str, body: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Calls a method with a client that knows nothing of the contract but what reflection tells."""
    if not Path(BUF).exists():
        pytest.skip("buf is not installed: `make lint` installs it")
    url = f"http://{server.address}/{method}"
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data", json.dumps(body), url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("text", "task_name", "labels"),
    [
        ("URGENT: your parcel is held, pay the 1.99 fee at http://parcel-fee.example now", "spam", [["spam"]]),
        ("You people are vermin and should not exist", "abuse", [["hate"], ["harassment"], ["hate", "harassment"]]),
        ("I still have not received my refund", "intent", [["refund_status"]]),
    ],
)
def test_an_independent_client_labels_by_reflection(
    seeded: Server, text: str, task_name: str, labels: list[list[str]]
) -> None:
    """A client without our stubs gets the same labels."""
    done = buf_curl(seeded, "nearvote.v1.ClassificationService/Classify", {"text": text, "tasks": [task_name]})
    assert done.returncode == 0, done.stderr
    (prediction,) = json.loads(done.stdout)["classification"]["predictions"]
    assert prediction["labels"] in labels
    assert prediction["neighbors"][0]["exampleId"]


def test_an_independent_client_adds_an_example(start: Start) -> None:
    """A client without our stubs creates a task and an example, and the next prediction has it."""
    server = start()
    new_task = {"task": {"name": "color", "labels": [{"name": "red"}, {"name": "blue"}]}}
    assert buf_curl(server, "nearvote.v1.TaskService/CreateTask", new_task).returncode == 0
    new_example = {"example": {"task": "color", "text": "like a ripe tomato", "labels": ["red"]}}
    assert buf_curl(server, "nearvote.v1.ExampleService/CreateExample", new_example).returncode == 0
    asked = {"text": "like a ripe tomato", "tasks": ["color"]}
    done = buf_curl(server, "nearvote.v1.ClassificationService/Classify", asked)
    assert json.loads(done.stdout)["classification"]["predictions"][0]["labels"] == ["red"]


def test_health_is_told_for_each_service(plain: Server) -> None:
    """Each service has a health of its own; one that there is not is unknown."""
    with plain.channel() as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "liveness", *SERVICES):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            stub.Check(health_pb2.HealthCheckRequest(service="nope"))
