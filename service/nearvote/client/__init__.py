"""Clients for Python, in both colours; what they return are the service's own types."""

from nearvote.audit.event import Action as AuditAction
from nearvote.audit.event import Change, Event, ExampleChange, ExampleState
from nearvote.audit.log import EventQuery
from nearvote.classify import Classification, StageTimings
from nearvote.client.aio import AsyncClient
from nearvote.client.calls import CallerInfo, EncoderInfo, ImportProgress, ServiceInfo, StreamAnswer, TaskSummary
from nearvote.client.errors import ClientError, ServiceError, ServiceUnreachable
from nearvote.client.feedback import Promotion
from nearvote.client.shadow import Shadow
from nearvote.client.sync import Client
from nearvote.erase import Erased
from nearvote.examples.example import Draft, Example, Saved, SearchedExample
from nearvote.explain import Explanation
from nearvote.feedback.correction import Feedback, FeedbackState, Revoked, Selection, Submitted
from nearvote.tasks.task import Label, Task
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.policy import Action, LabelPolicy, Policy
from nearvote.voting.prediction import AbstentionReason, Prediction

__all__ = [
    "AbstentionReason",
    "Action",
    "AsyncClient",
    "AuditAction",
    "CallerInfo",
    "Change",
    "Classification",
    "Client",
    "ClientError",
    "Draft",
    "EncoderInfo",
    "Erased",
    "Event",
    "EventQuery",
    "Example",
    "ExampleChange",
    "ExampleState",
    "Explanation",
    "Feedback",
    "FeedbackState",
    "ImportProgress",
    "Label",
    "LabelPolicy",
    "Neighbor",
    "Policy",
    "Prediction",
    "Promotion",
    "Revoked",
    "Saved",
    "SearchedExample",
    "Selection",
    "ServiceError",
    "ServiceInfo",
    "ServiceUnreachable",
    "Shadow",
    "StageTimings",
    "StreamAnswer",
    "Submitted",
    "Task",
    "TaskSummary",
    "View",
]
