"""Who may call what: the rule of every RPC, and the interceptor that holds calls to it."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc

from nearvote.access.caller import Role
from nearvote.access.gate import Credentials, Gate
from nearvote.errors import PermissionDenied
from nearvote.rpc.caller import CALLER, Context
from nearvote.rpc.interceptors import Continuation, Handler, is_stream, with_behavior

# Anybody may ask how the service is: who balances its load has no key.
OPEN = frozenset(f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))

_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

# The least role that may call each RPC. What is neither here nor open is refused.
# CLASSIFY labels messages, sees which tasks there are, and submits corrections; CURATE reads and writes examples;
# ADMIN changes what serves.
RULES: Mapping[str, Role] = {
    _REFLECTION: Role.CLASSIFY,
    **{
        f"/nearvote.v1.{service}/{name}": role
        for service, names in {
            "ClassificationService": {
                "Classify": Role.CLASSIFY,
                "BatchClassify": Role.CLASSIFY,
                "StreamClassify": Role.CLASSIFY,
            },
            "ExampleService": {
                "CreateExample": Role.CURATE,
                "BatchCreateExamples": Role.CURATE,
                "GetExample": Role.CURATE,
                "ListExamples": Role.CURATE,
                "SearchExamples": Role.CURATE,
                "DeleteExample": Role.CURATE,
                "DeleteExamples": Role.CURATE,
                "ImportExamples": Role.CURATE,
                "ExportExamples": Role.CURATE,
            },
            "TaskService": {
                "CreateTask": Role.ADMIN,
                "GetTask": Role.CLASSIFY,
                "ListTasks": Role.CLASSIFY,
                "UpdateTask": Role.ADMIN,
                "DeleteTask": Role.ADMIN,
                "StartShadow": Role.ADMIN,
                "ListShadows": Role.CURATE,
                "PromoteShadow": Role.ADMIN,
                "StopShadow": Role.ADMIN,
            },
            "LearningService": {
                "StartFit": Role.ADMIN,
                "GetFitJob": Role.CURATE,
                "CancelFitJob": Role.ADMIN,
                "RollBackFit": Role.ADMIN,
                "GetFit": Role.CURATE,
                "CheckExamples": Role.CURATE,
            },
            "AuditService": {"ListAuditEvents": Role.ADMIN, "ExplainPrediction": Role.CURATE},
            "FeedbackService": {
                # Its answer never has the text: who may only submit reads nothing of what others have submitted.
                "SubmitFeedback": Role.CLASSIFY,
                "GetFeedback": Role.CURATE,
                "ListFeedback": Role.CURATE,
                "PreviewPromotion": Role.CURATE,
                "PromoteFeedback": Role.CURATE,
                "RejectFeedback": Role.CURATE,
                "RevokeFeedback": Role.CURATE,
            },
            "ReindexService": {
                "StartReindex": Role.ADMIN,
                "GetReindex": Role.CURATE,
                "SwitchReindex": Role.ADMIN,
                "CancelReindex": Role.ADMIN,
                "DropFormer": Role.ADMIN,
            },
            "InfoService": {"GetInfo": Role.CLASSIFY},
        }.items()
        for name, role in names.items()
    },
}


def require(role: Role, what: str) -> None:
    """Holds a part of a call to a role above that of the call.

    Args:
        role: The least role that may.
        what: What it is for, such as "neighbours' texts".

    Raises:
        PermissionDenied: The caller's role does not do.
    """
    if CALLER.get().role < role:
        raise PermissionDenied(f"{what} take the role {role.name.lower()}: leave them out, or use another key")


class AuthorizationInterceptor(grpc.aio.ServerInterceptor):
    """Finds out who calls, and refuses who may not. What it lets through runs with the caller set.

    It stands behind the interceptor that makes statuses of errors. A stream is looked at with each of its requests,
    so that a key that is revoked is of no use to one that is open either.

    Args:
        gate: Tells who calls.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> "Handler | None":
        """Wraps the handler of a call; None for a method that there is not."""
        handler = await continuation(details)
        if handler is None or details.method in OPEN:
            return handler
        entry = _Entrance(self._gate, details.method)
        return with_behavior(handler, entry.stream if is_stream(handler) else entry.unary)


class _Entrance:
    def __init__(self, gate: Gate, method: str) -> None:
        self._gate = gate
        self._method = method

    def unary(self, behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(request: Any, context: Context) -> Any:
            shown = _shown(context)
            self._admit(shown)
            return await behavior(self._watched(request, shown), context)

        return wrapped

    def stream(self, behavior: Callable[..., AsyncGenerator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def wrapped(request: Any, context: Context) -> AsyncIterator[Any]:
            shown = _shown(context)
            self._admit(shown)
            async with contextlib.aclosing(behavior(self._watched(request, shown), context)) as responses:
                async for response in responses:
                    yield response

        return wrapped

    def _watched(self, request: Any, shown: Credentials) -> Any:
        return self._each(request, shown) if hasattr(request, "__aiter__") else request

    async def _each(self, requests: AsyncIterator[Any], shown: Credentials) -> AsyncIterator[Any]:
        async for request in requests:
            self._admit(shown)
            yield request

    def _admit(self, shown: Credentials) -> None:
        CALLER.set(self._gate.admit(shown, RULES.get(self._method), self._method.rpartition("/")[2]))


def _shown(context: Context) -> Credentials:
    """What the caller shows; the same for all of a call."""
    metadata = context.invocation_metadata() or ()
    names = context.auth_context().get("x509_common_name", ())
    return Credentials(
        tuple(str(value) for key, value in metadata if key == "authorization"), _common_name([*names]), context.peer()
    )


def _common_name(names: list[bytes]) -> str:
    """The one common name of a certificate; empty when it has none, or several, of which any could be meant."""
    try:
        return names[0].decode() if len(names) == 1 else ""
    except UnicodeDecodeError:
        return ""
