"""TaskService."""

from collections.abc import Callable
from dataclasses import replace

from nearvote.errors import InvalidField
from nearvote.limits import check_page_size
from nearvote.rpc import wire
from nearvote.rpc.caller import Context, caller, tenant
from nearvote.rpc.pages import page_start, page_token
from nearvote.rpc.shadow_wire import shadow_to_wire
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.task import Task
from nearvote.v1 import task_service_pb2 as pb
from nearvote.v1.task_service_pb2_grpc import TaskServiceServicer

_FIELDS = frozenset({"description", "labels", "benign_label", "out_of_scope_label", "policy"})
_POLICY_FIELDS = frozenset(
    {
        "k",
        "temperature",
        "class_size_exponent",
        "similarity_floor",
        "margin_floor",
        "score_threshold",
        "surface_weight",
        "surface_exponent",
        "max_group_share",
        "scope_floor",
        "pool",
        "labels",
        "abstention_action",
    }
)


class TaskServicer(TaskServiceServicer):
    """Keeps the tasks."""

    def __init__(self, tasks: Callable[[], TaskRegistry], shadows: Callable[[], Shadows]) -> None:
        self._tasks = tasks
        self._shadows = shadows

    async def CreateTask(self, request: pb.CreateTaskRequest, context: Context) -> pb.CreateTaskResponse:
        """Creates a task."""
        task = await self._tasks().create(tenant(), wire.task_from_wire(request.task), by=caller(context))
        return pb.CreateTaskResponse(task=wire.task_to_wire(task))

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.GetTaskResponse:
        """Returns one task."""
        return pb.GetTaskResponse(task=wire.task_to_wire(await self._tasks().get(tenant(), request.name, fresh=True)))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """Returns a page of tasks."""
        size = check_page_size(request.page_size)
        query = ("tasks", tenant())
        start = page_start(query, request.page_token) or ""
        tasks = [task for task in await self._tasks().list_all(tenant()) if task.name >= start]
        next_name = tasks[size].name if len(tasks) > size else None
        return pb.ListTasksResponse(
            tasks=[wire.task_to_wire(task) for task in tasks[:size]], next_page_token=page_token(query, next_name)
        )

    async def UpdateTask(self, request: pb.UpdateTaskRequest, context: Context) -> pb.UpdateTaskResponse:
        """Changes the fields of a task that the mask names."""
        given = wire.task_from_wire(request.task)
        stored = await self._tasks().get(tenant(), given.name, fresh=True)
        changed = _masked(stored, given, list(request.update_mask.paths))
        # The change is made on what was read here, so it holds only for that.
        expected = given.policy_version or stored.policy_version
        updated = await self._tasks().update(tenant(), changed, expected_version=expected, by=caller(context))
        return pb.UpdateTaskResponse(task=wire.task_to_wire(updated))

    async def DeleteTask(self, request: pb.DeleteTaskRequest, context: Context) -> pb.DeleteTaskResponse:
        """Deletes a task."""
        count = await self._tasks().delete(tenant(), request.name, force=request.force, by=caller(context))
        return pb.DeleteTaskResponse(deleted_example_count=count)

    async def StartShadow(self, request: pb.StartShadowRequest, context: Context) -> pb.StartShadowResponse:
        """Begins to try a policy, or the encoder that is ready."""
        shadows, by = self._shadows(), caller(context)
        if request.encoder:
            if request.HasField("policy"):
                raise InvalidField("name a policy, or ask for the encoder that is ready; not both", field="policy")
            shadow = await shadows.start_encoder(tenant(), request.task, request.share, by=by)
        else:
            policy = wire.policy_from_wire(request.policy)
            shadow = await shadows.start(tenant(), request.task, policy, request.share, by=by)
        return pb.StartShadowResponse(shadow=shadow_to_wire(shadow, outdated=False))

    async def ListShadows(self, request: pb.ListShadowsRequest, context: Context) -> pb.ListShadowsResponse:
        """Returns what is tried."""
        tasks = {task.name: task for task in await self._tasks().list_all(tenant())}
        shadows = self._shadows()
        tried = (await shadows.read(tenant())).values()
        return pb.ListShadowsResponse(
            shadows=[shadow_to_wire(one, outdated=shadows.is_outdated(one, tasks.get(one.task))) for one in tried]
        )

    async def PromoteShadow(self, request: pb.PromoteShadowRequest, context: Context) -> pb.PromoteShadowResponse:
        """Lets serve what is tried."""
        task = await self._shadows().promote(tenant(), request.task, by=caller(context))
        return pb.PromoteShadowResponse(task=wire.task_to_wire(task))

    async def StopShadow(self, request: pb.StopShadowRequest, context: Context) -> pb.StopShadowResponse:
        """Ends a trial."""
        await self._shadows().stop(tenant(), request.task, by=caller(context))
        return pb.StopShadowResponse()


def _masked(stored: Task, given: Task, paths: list[str]) -> Task:
    if not paths:
        raise InvalidField("name the fields that change, for example `policy.k`", field="update_mask")
    for path in paths:
        field, _, part = path.partition(".")
        if field == "policy" and part in _POLICY_FIELDS:
            value = getattr(given.policy, part)
            stored = replace(stored, policy=replace(stored.policy, **{part: value}))
        elif field in _FIELDS and not part:
            stored = replace(stored, **{field: getattr(given, field)})
        else:
            known = ", ".join([*sorted(_FIELDS), *(f"policy.{name}" for name in sorted(_POLICY_FIELDS))])
            raise InvalidField(f"this can't be changed; what can: {known}", field="update_mask")
    return stored
