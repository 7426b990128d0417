"""FeedbackService."""

from collections.abc import Callable

from nearvote.feedback.inbox import Inbox
from nearvote.rpc import feedback_wire as wire
from nearvote.rpc.caller import Context, caller, tenant
from nearvote.rpc.pages import bounded_page, page_start, page_token
from nearvote.rpc.wire import time_from_wire
from nearvote.v1 import feedback_service_pb2 as pb
from nearvote.v1.feedback_service_pb2_grpc import FeedbackServiceServicer


class FeedbackServicer(FeedbackServiceServicer):
    """Takes corrections, and promotes them or not."""

    def __init__(self, inbox: Callable[[], Inbox]) -> None:
        self._inbox = inbox

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: Context) -> pb.SubmitFeedbackResponse:
        """Takes a correction."""
        submitted = await self._inbox().submit(tenant(), wire.correction_from_wire(request), by=caller(context))
        return pb.SubmitFeedbackResponse(
            feedback=wire.feedback_to_wire(submitted.feedback, with_text=False), created=submitted.created
        )

    async def GetFeedback(self, request: pb.GetFeedbackRequest, context: Context) -> pb.GetFeedbackResponse:
        """Returns one correction."""
        return pb.GetFeedbackResponse(feedback=wire.feedback_to_wire(await self._inbox().get(tenant(), request.id)))

    async def ListFeedback(self, request: pb.ListFeedbackRequest, context: Context) -> pb.ListFeedbackResponse:
        """Returns a page of corrections."""
        query = ("feedback", tenant(), request.task, str(request.state), request.source)
        page = await self._inbox().list_page(
            tenant(),
            task=request.task,
            state=wire.state_from_wire(request.state),
            source=request.source,
            page_size=request.page_size,
            from_id=page_start(query, request.page_token),
        )
        feedback, next_id = bounded_page([wire.feedback_to_wire(one) for one in page.feedback], page.next_id)
        return pb.ListFeedbackResponse(feedback=feedback, next_page_token=page_token(query, next_id))

    async def PreviewPromotion(
        self, request: pb.PreviewPromotionRequest, context: Context
    ) -> pb.PreviewPromotionResponse:
        """Shows what a promotion would change."""
        found = await self._inbox().preview(tenant(), wire.selection_from_wire(request.selection))
        preview = found.preview
        return pb.PreviewPromotionResponse(
            feedback_count=found.count,
            new_example_count=found.new_count,
            relabeled_example_count=found.relabeled_count,
            judged_count=preview.judged_count,
            agreeing_before_count=preview.agreeing_before_count,
            agreeing_after_count=preview.agreeing_after_count,
            flip_count=preview.flip_count,
            flips=[wire.flip_to_wire(flip) for flip in preview.flips],
            refusals=wire.refusals_to_wire(found.refused),
        )

    async def PromoteFeedback(self, request: pb.PromoteFeedbackRequest, context: Context) -> pb.PromoteFeedbackResponse:
        """Makes examples of corrections."""
        promoted = await self._inbox().promote(
            tenant(), wire.selection_from_wire(request.selection), by=caller(context)
        )
        return pb.PromoteFeedbackResponse(
            promoted_count=promoted.count,
            new_example_count=promoted.new_count,
            relabeled_example_count=promoted.relabeled_count,
            refusals=wire.refusals_to_wire(promoted.refused),
        )

    async def RejectFeedback(self, request: pb.RejectFeedbackRequest, context: Context) -> pb.RejectFeedbackResponse:
        """Refuses corrections."""
        count = await self._inbox().reject(tenant(), wire.selection_from_wire(request.selection))
        return pb.RejectFeedbackResponse(rejected_count=count)

    async def RevokeFeedback(self, request: pb.RevokeFeedbackRequest, context: Context) -> pb.RevokeFeedbackResponse:
        """Takes back the corrections of a source."""
        revoked = await self._inbox().revoke(
            tenant(),
            request.source,
            task=request.task,
            from_us=time_from_wire(request.from_time),
            until_us=time_from_wire(request.until_time),
            by=caller(context),
        )
        return pb.RevokeFeedbackResponse(
            dropped_count=revoked.dropped_count,
            undone_count=revoked.undone_count,
            deleted_example_count=revoked.deleted_count,
            restored_example_count=revoked.restored_count,
            kept_example_count=revoked.kept_count,
        )
