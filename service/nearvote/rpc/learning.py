"""LearningService."""

from collections.abc import AsyncIterator, Callable

from nearvote.learn.learner import Learner
from nearvote.rpc import learning_wire as wire
from nearvote.rpc.caller import Context, caller, tenant
from nearvote.v1 import learning_service_pb2 as pb
from nearvote.v1.learning_service_pb2_grpc import LearningServiceServicer

# Half of what a gRPC client takes unless told otherwise; a pair of the longest texts fits into the rest.
_BYTES_A_MESSAGE = 2 * 2**20


class LearningServicer(LearningServiceServicer):
    """Learns from examples."""

    def __init__(self, learner: Callable[[], Learner]) -> None:
        self._learner = learner

    async def StartFit(self, request: pb.StartFitRequest, context: Context) -> pb.StartFitResponse:
        """Begins to fit a task."""
        job = await self._learner().start_fit(
            tenant(),
            request.task,
            wire.goal_from_wire(request.goal),
            [wire.validation_from_wire(message) for message in request.validation_messages],
            shadow_share=request.shadow_share,
            by=caller(context),
        )
        return pb.StartFitResponse(job=wire.job_to_wire(job))

    async def GetFitJob(self, request: pb.GetFitJobRequest, context: Context) -> pb.GetFitJobResponse:
        """Returns how far a fit is."""
        return pb.GetFitJobResponse(job=wire.job_to_wire(self._learner().job(tenant(), request.id)))

    async def CancelFitJob(self, request: pb.CancelFitJobRequest, context: Context) -> pb.CancelFitJobResponse:
        """Stops a fit."""
        return pb.CancelFitJobResponse(job=wire.job_to_wire(await self._learner().cancel(tenant(), request.id)))

    async def RollBackFit(self, request: pb.RollBackFitRequest, context: Context) -> pb.RollBackFitResponse:
        """Goes back to the former fit."""
        version = await self._learner().roll_back(tenant(), request.task, by=caller(context))
        return pb.RollBackFitResponse(fit_version=version)

    async def GetFit(self, request: pb.GetFitRequest, context: Context) -> pb.GetFitResponse:
        """Returns the fit that serves a task."""
        return pb.GetFitResponse(fit=wire.fit_to_wire(await self._learner().fit(tenant(), request.task)))

    async def CheckExamples(
        self, request: pb.CheckExamplesRequest, context: Context
    ) -> AsyncIterator[pb.CheckExamplesResponse]:
        """Finds what is doubtful about a task's examples."""
        findings = await self._learner().check(tenant(), request.task)
        response = pb.CheckExamplesResponse()
        for finding in findings:
            response.findings.append(wire.finding_to_wire(finding))
            if response.ByteSize() > _BYTES_A_MESSAGE:
                yield response
                response = pb.CheckExamplesResponse()
        if response.findings:
            yield response
