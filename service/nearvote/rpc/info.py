"""InfoService."""

from collections.abc import Callable

from nearvote.embedding.encoder import EncoderSpec
from nearvote.limits import Limits
from nearvote.rpc import wire
from nearvote.rpc.caller import CALLER, Context, tenant
from nearvote.tasks.registry import TaskRegistry
from nearvote.v1 import info_service_pb2 as pb
from nearvote.v1.info_service_pb2_grpc import InfoServiceServicer
from nearvote.version import VERSION


class InfoServicer(InfoServiceServicer):
    """Says what is running."""

    def __init__(
        self, spec: Callable[[], EncoderSpec], limits: Limits, store_kind: str, tasks: Callable[[], TaskRegistry]
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._store_kind = store_kind
        self._tasks = tasks

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.GetInfoResponse:
        """Returns version, encoder, limits and tasks."""
        summaries = []
        for task in await self._tasks().list_all(tenant()):
            sizes = await self._tasks().class_sizes(tenant(), task.name)
            summaries.append(
                pb.TaskSummary(
                    name=task.name,
                    example_count=sizes.total,
                    label_counts={label: sizes.by_label.get(label, 0) for label in task.label_names},
                    policy_version=task.policy_version,
                    examples_version=await self._tasks().examples_version(tenant(), task.name),
                )
            )
        spec, caller = self._spec(), CALLER.get()
        return pb.GetInfoResponse(
            version=VERSION,
            encoder=pb.EncoderSpec(
                model=spec.model,
                revision=spec.revision,
                dimension=spec.dimension,
                pooling=spec.pooling,
                max_tokens=spec.max_tokens,
                engine=spec.engine,
                key=spec.key,
                label_agreement=spec.label_agreement,
            ),
            limits=wire.limits_to_wire(self._limits),
            store=self._store_kind,
            tasks=summaries,
            caller=pb.CallerInfo(name=caller.name, role=caller.role.name.lower(), tenant=caller.tenant),
        )
