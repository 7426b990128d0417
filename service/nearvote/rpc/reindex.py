"""ReindexService."""

from nearvote.access.caller import DEFAULT_TENANT
from nearvote.errors import InvalidField, PermissionDenied
from nearvote.examples.places import Source
from nearvote.reindex.reindexer import Reindexer
from nearvote.rpc.caller import Context, caller, tenant
from nearvote.rpc.reindex_wire import status_to_wire
from nearvote.v1 import reindex_service_pb2 as pb
from nearvote.v1.reindex_service_pb2_grpc import ReindexServiceServicer


class ReindexServicer(ReindexServiceServicer):
    """Changes the encoder."""

    def __init__(self, reindexer: Reindexer) -> None:
        self._reindexer = reindexer

    async def StartReindex(self, request: pb.StartReindexRequest, context: Context) -> pb.StartReindexResponse:
        """Begins to embed all examples with another encoder."""
        _check_tenant()
        if request.model and request.back:
            raise InvalidField("name a model, or ask to go back to the former one; not both", field="model")
        source = Source(request.model, request.model_revision or None)
        status = await self._reindexer.start(source, back=request.back)
        return pb.StartReindexResponse(reindex=status_to_wire(status, tenant()))

    async def GetReindex(self, request: pb.GetReindexRequest, context: Context) -> pb.GetReindexResponse:
        """Returns how far it is."""
        return pb.GetReindexResponse(reindex=status_to_wire(await self._reindexer.status(), tenant()))

    async def SwitchReindex(self, request: pb.SwitchReindexRequest, context: Context) -> pb.SwitchReindexResponse:
        """Lets the vectors that are ready serve."""
        _check_tenant()
        status = await self._reindexer.switch(by=caller(context))
        return pb.SwitchReindexResponse(reindex=status_to_wire(status, tenant()))

    async def CancelReindex(self, request: pb.CancelReindexRequest, context: Context) -> pb.CancelReindexResponse:
        """Stops it."""
        _check_tenant()
        return pb.CancelReindexResponse(reindex=status_to_wire(await self._reindexer.cancel(), tenant()))

    async def DropFormer(self, request: pb.DropFormerRequest, context: Context) -> pb.DropFormerResponse:
        """Lets go of what served before."""
        _check_tenant()
        return pb.DropFormerResponse(reindex=status_to_wire(await self._reindexer.drop_former(), tenant()))


def _check_tenant() -> None:
    """All tenants' examples are in one store, and whose that is, is the default tenant.

    Raises:
        PermissionDenied: The caller is another.
    """
    if tenant() != DEFAULT_TENANT:
        raise PermissionDenied(f"the encoder is all tenants': an admin of the tenant '{DEFAULT_TENANT}' may change it")
