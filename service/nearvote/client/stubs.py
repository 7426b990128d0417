"""The generated stubs of all services, for both clients."""

from collections.abc import Mapping
from typing import Any

from nearvote.v1.audit_service_pb2_grpc import AuditServiceStub
from nearvote.v1.classification_service_pb2_grpc import ClassificationServiceStub
from nearvote.v1.example_service_pb2_grpc import ExampleServiceStub
from nearvote.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from nearvote.v1.info_service_pb2_grpc import InfoServiceStub
from nearvote.v1.learning_service_pb2_grpc import LearningServiceStub
from nearvote.v1.reindex_service_pb2_grpc import ReindexServiceStub
from nearvote.v1.task_service_pb2_grpc import TaskServiceStub


def stubs_of(channel: Any) -> Mapping[str, Any]:
    """Stubs by the names that calls have for services.

    Args:
        channel: One of either kind; the stubs' methods are of that kind, too.
    """
    return {
        "classification": ClassificationServiceStub(channel),
        "example": ExampleServiceStub(channel),
        "task": TaskServiceStub(channel),
        "learning": LearningServiceStub(channel),
        "audit": AuditServiceStub(channel),
        "feedback": FeedbackServiceStub(channel),
        "info": InfoServiceStub(channel),
        "reindex": ReindexServiceStub(channel),
    }
