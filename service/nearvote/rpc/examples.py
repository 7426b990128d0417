"""ExampleService."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

from nearvote.browse import Browser
from nearvote.curate import BegunImport, Curator
from nearvote.erase import Eraser
from nearvote.errors import NearvoteError, SpaceSwitching
from nearvote.examples.example import ImportedChunk
from nearvote.examples.store import Selection
from nearvote.rpc import wire
from nearvote.rpc.caller import Context, caller, tenant
from nearvote.rpc.pages import answers, bounded_page, page_start, page_token
from nearvote.rpc.status import error_to_wire
from nearvote.v1 import example_service_pb2 as pb
from nearvote.v1.example_service_pb2_grpc import ExampleServiceServicer

_Begun: TypeAlias = tuple[pb.ImportExamplesRequest, Curator, "asyncio.Task[BegunImport]"]

_PAUSE_SECONDS = 0.2  # while another encoder comes to serve


class ExampleServicer(ExampleServiceServicer):
    """Keeps the labelled examples."""

    def __init__(
        self, browser: Callable[[], Browser], curator: Callable[[], Curator], eraser: Callable[[], Eraser]
    ) -> None:
        self._browser = browser
        self._curator = curator
        self._eraser = eraser

    async def CreateExample(self, request: pb.CreateExampleRequest, context: Context) -> pb.CreateExampleResponse:
        """Adds or replaces one example."""
        try:
            draft = wire.draft_from_wire(request.example)
            (saved,) = await self._curator().create(tenant(), [draft], by=caller(context))
        except NearvoteError as error:
            error.field = error.field.replace("examples[0]", "example")
            raise
        return pb.CreateExampleResponse(example=wire.example_to_wire(saved.example), created=saved.created)

    async def BatchCreateExamples(
        self, request: pb.BatchCreateExamplesRequest, context: Context
    ) -> pb.BatchCreateExamplesResponse:
        """Adds or replaces many examples."""
        drafts = [wire.draft_from_wire(example) for example in request.examples]
        saved = await self._curator().create(tenant(), drafts, by=caller(context))
        return pb.BatchCreateExamplesResponse(
            examples=[wire.example_to_wire(one.example) for one in saved],
            created_count=len({one.example.id for one in saved if one.created}),
        )

    async def GetExample(self, request: pb.GetExampleRequest, context: Context) -> pb.GetExampleResponse:
        """Returns one example."""
        example = await self._browser().get(tenant(), request.task, request.id)
        return pb.GetExampleResponse(example=wire.example_to_wire(example))

    async def ListExamples(self, request: pb.ListExamplesRequest, context: Context) -> pb.ListExamplesResponse:
        """Returns a page of examples."""
        query = ("examples", tenant(), request.task, request.label, request.source)
        page = await self._browser().list_page(
            tenant(),
            request.task,
            label=request.label,
            source=request.source,
            page_size=request.page_size,
            from_id=page_start(query, request.page_token),
        )
        examples, next_id = bounded_page([wire.example_to_wire(example) for example in page.examples], page.next_id)
        return pb.ListExamplesResponse(examples=examples, next_page_token=page_token(query, next_id))

    async def SearchExamples(self, request: pb.SearchExamplesRequest, context: Context) -> pb.SearchExamplesResponse:
        """Returns the nearest examples."""
        found = await self._browser().search(
            tenant(), request.task, request.text, label=request.label, limit=request.limit
        )
        results = [
            pb.SearchResult(example=wire.example_to_wire(one.example), similarity=one.similarity) for one in found
        ]
        return pb.SearchExamplesResponse(results=next(answers(results), ()))

    async def DeleteExample(self, request: pb.DeleteExampleRequest, context: Context) -> pb.DeleteExampleResponse:
        """Deletes one example."""
        await self._curator().delete(tenant(), request.task, request.id, by=caller(context))
        return pb.DeleteExampleResponse()

    async def DeleteExamples(self, request: pb.DeleteExamplesRequest, context: Context) -> pb.DeleteExamplesResponse:
        """Deletes all examples of a source or a subject."""
        selection = Selection(request.task, request.source, request.subject)
        erased = await self._eraser().delete_selected(tenant(), selection, caller(context))
        return pb.DeleteExamplesResponse(deleted_count=erased.example_count, fitted_tasks=erased.fitted_tasks)

    async def ImportExamples(
        self, request_iterator: AsyncIterator[pb.ImportExamplesRequest], context: Context
    ) -> AsyncIterator[pb.ImportExamplesResponse]:
        """Adds the examples of a stream, chunk by chunk; while one is written the next is embedded."""
        begun: asyncio.Queue[_Begun | Exception | None] = asyncio.Queue(1)
        beginnings: set[asyncio.Task[BegunImport]] = set()

        async def read() -> None:
            try:
                async for request in request_iterator:
                    drafts = [wire.draft_from_wire(item.example) for item in request.items]
                    curator = self._curator()
                    beginning = asyncio.create_task(
                        curator.begin_import(tenant(), drafts, validate_only=request.validate_only)
                    )
                    beginnings.add(beginning)
                    await begun.put((request, curator, beginning))
                await begun.put(None)
            except Exception as error:  # noqa: BLE001 - it is raised where the answers are given, in its turn
                await begun.put(error)

        reader = asyncio.create_task(read())
        try:
            while (item := await begun.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                request, curator, beginning = item
                chunk = await self._finish(curator, await beginning, context)
                beginnings.discard(beginning)
                yield pb.ImportExamplesResponse(
                    last_line=request.items[-1].line,
                    accepted_count=len(chunk.saved),
                    created_count=len({one.example.id for one in chunk.saved if one.created}),
                    rejections=[
                        pb.ImportRejection(line=request.items[i].line, error=error_to_wire(error))
                        for i, error in sorted(chunk.rejected.items())
                    ],
                )
        finally:
            for task in (reader, *beginnings):
                task.cancel()
            await asyncio.gather(reader, *beginnings, return_exceptions=True)

    async def _finish(self, curator: Curator, begun: BegunImport, context: Context) -> ImportedChunk:
        """Writes a chunk; once more from its beginning where another encoder came to serve meanwhile."""
        while True:
            try:
                return await curator.finish_import(begun, by=caller(context))
            except SpaceSwitching:
                await asyncio.sleep(_PAUSE_SECONDS)
            curator = self._curator()
            begun = await curator.begin_import(begun.tenant, begun.drafts, validate_only=begun.validate_only)

    async def ExportExamples(
        self, request: pb.ExportExamplesRequest, context: Context
    ) -> AsyncIterator[pb.ExportExamplesResponse]:
        """Returns all examples of a task as a stream."""
        async for examples in self._browser().export(tenant(), request.task):
            for part in answers([wire.example_to_wire(example) for example in examples]):
                yield pb.ExportExamplesResponse(examples=part)
