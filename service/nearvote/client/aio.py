"""The client for asyncio."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc

from nearvote.audit.event import Event
from nearvote.audit.log import EventQuery
from nearvote.classify import Classification, Options
from nearvote.client import audit, calls, feedback, learning, shadow
from nearvote.client.access import Access
from nearvote.client.calls import DEFAULT_ADDRESS, Call, ImportProgress, ServiceInfo, StreamAnswer
from nearvote.client.errors import FailedCall, error_of_call
from nearvote.client.feedback import Promotion
from nearvote.client.learning import FitJob
from nearvote.client.reindex import AsyncReindexing
from nearvote.client.shadow import Shadow
from nearvote.client.stubs import stubs_of
from nearvote.erase import Erased
from nearvote.examples.example import Draft, Example, Saved, SearchedExample
from nearvote.explain import Explanation
from nearvote.feedback.correction import Correction, Feedback, FeedbackState, Revoked, Selection, Submitted
from nearvote.learn.finding import Finding
from nearvote.learn.goal import Goal, ValidationMessage
from nearvote.tasks.fit import Fit
from nearvote.tasks.task import Task
from nearvote.voting.policy import Policy

_T = TypeVar("_T")


class AsyncClient:
    """Talks to a nearvote service. Belongs to the event loop that is running when it is made.

    Args:
        address: Where it is: host:port, or unix:path.
        timeout_seconds: How long a unary call may take, retries included. Streams have no deadline of their own.
        api_key: A key of the service, where it asks for one.
        tls_ca: File of the authorities, in PEM, one of which vouches for the service; None for no TLS.
        tls_client_cert: File of the client's own certificate, in PEM, where the service asks for one.
        tls_client_key: File of its key, in PEM.
        allow_insecure: Send a key to another machine without TLS, where something else keeps the way private.

    Every method raises ServiceUnreachable when no service answers, and ServiceError when it refuses or fails. Calls
    that may be sent twice are repeated, up to twice, while the service is unavailable. A key that could be read on its
    way is a ValueError.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout_seconds: float = 30.0,
        api_key: str | None = None,
        tls_ca: Path | str | None = None,
        tls_client_cert: Path | str | None = None,
        tls_client_key: Path | str | None = None,
        allow_insecure: bool = False,
    ) -> None:
        access = Access(api_key, tls_ca, tls_client_cert, tls_client_key, allow_insecure)
        access.check(address)
        credentials, options = access.credentials, calls.CHANNEL_OPTIONS
        self._address = address
        self._secure = credentials is not None
        self._timeout_seconds = timeout_seconds
        self._metadata = access.metadata
        self._channel = (
            grpc.aio.secure_channel(address, credentials, options=options)
            if credentials
            else grpc.aio.insecure_channel(address, options=options)
        )
        self._stubs = stubs_of(self._channel)
        self.reindex = AsyncReindexing(self._do)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def classify(
        self,
        text: str,
        tasks: Sequence[str] = (),
        *,
        k: int | None = None,
        with_texts: bool = False,
        neighbor_limit: int | None = None,
    ) -> Classification:
        """Labels a text for tasks; for all there are when none is named.

        Args:
            text: The message.
            tasks: Names of tasks.
            k: Neighbours that vote; the policy's when None.
            with_texts: Return the neighbours' texts.
            neighbor_limit: Return so many neighbours at most; all voters when None.
        """
        return await self._do(calls.classify(text, tasks, Options(with_texts, neighbor_limit, k)))

    async def classify_batch(
        self,
        texts: Sequence[str],
        tasks: Sequence[str] = (),
        *,
        k: int | None = None,
        with_texts: bool = False,
        neighbor_limit: int | None = None,
    ) -> list[Classification]:
        """Labels many texts in one call; options as in `classify`."""
        return await self._do(calls.classify_batch(texts, tasks, Options(with_texts, neighbor_limit, k)))

    async def classify_stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        tasks: Sequence[str] = (),
        *,
        k: int | None = None,
        with_texts: bool = False,
        neighbor_limit: int | None = None,
    ) -> AsyncIterator[StreamAnswer]:
        """Labels texts as they come, and yields answers in the order of completion; options as in `classify`."""
        options = Options(with_texts, neighbor_limit, k)

        async def requests() -> AsyncIterator[Any]:
            index = 0
            async for text in _each(texts):
                yield calls.stream_request(index, text, tasks, options)
                index += 1

        async for reply in self._stream("classification", "StreamClassify", requests()):
            yield calls.stream_answer(reply)

    async def add_example(
        self,
        task: str,
        text: str,
        labels: Sequence[str],
        *,
        weight: float = 1.0,
        source: str = "",
        subject: str = "",
        expires_us: int | None = None,
    ) -> Saved:
        """Adds an example, or replaces what is given of the one with this text."""
        return await self._do(
            calls.create_example(Draft(task, text, calls.listed(labels, "labels"), weight, source, subject, expires_us))
        )

    async def add_examples(self, drafts: Sequence[Draft]) -> list[Example]:
        """Adds many examples, all or none."""
        return await self._do(calls.create_examples(drafts))

    async def import_examples(
        self,
        chunks: Iterable[Sequence[tuple[int, Draft]]] | AsyncIterable[Sequence[tuple[int, Draft]]],
        *,
        validate_only: bool = False,
    ) -> AsyncIterator[ImportProgress]:
        """Adds chunks of examples, each with its line, and yields what became of each chunk, in order."""

        async def requests() -> AsyncIterator[Any]:
            async for chunk in _each(chunks):
                yield calls.import_request(chunk, validate_only=validate_only)

        async for reply in self._stream("example", "ImportExamples", requests()):
            yield calls.import_progress(reply)

    async def export_examples(self, task: str) -> AsyncIterator[Example]:
        """Yields all examples of a task."""
        request = calls.export_request(task)
        async for reply in self._stream("example", "ExportExamples", request):
            for example in calls.exported(reply):
                yield example

    async def get_example(self, task: str, id_: str) -> Example:
        """Reads an example."""
        return await self._do(calls.get_example(task, id_))

    async def list_examples(self, task: str, *, label: str = "", source: str = "") -> AsyncIterator[Example]:
        """Yields a task's examples, those with a label or from a source, reading page after page."""
        token = ""
        while True:
            page, token = await self._do(calls.list_examples(task, label, source, token))
            for one in page:
                yield one
            if not token:
                return

    async def search_examples(self, task: str, text: str, *, label: str = "", limit: int = 10) -> list[SearchedExample]:
        """Finds the examples nearest to a text, nearest first."""
        return await self._do(calls.search_examples(task, text, label, limit))

    async def delete_example(self, task: str, id_: str) -> None:
        """Deletes an example."""
        await self._do(calls.delete_example(task, id_))

    async def delete_examples(self, *, task: str = "", source: str = "", subject: str = "") -> Erased:
        """Deletes all examples of a source or a subject, of one task or of all."""
        return await self._do(calls.delete_examples(task, source, subject))

    async def create_task(self, task: Task) -> Task:
        """Creates a task."""
        return await self._do(calls.create_task(task))

    async def get_task(self, name: str) -> Task:
        """Reads a task."""
        return await self._do(calls.get_task(name))

    async def list_tasks(self) -> AsyncIterator[Task]:
        """Yields all tasks, by name, reading page after page."""
        token = ""
        while True:
            page, token = await self._do(calls.list_tasks(token))
            for one in page:
                yield one
            if not token:
                return

    async def update_task(self, task: Task, fields: Sequence[str]) -> Task:
        """Changes the named fields of a task, such as `labels` or `policy.k`.

        It is refused when the task was changed since `task` was read.
        """
        return await self._do(calls.update_task(task, fields))

    async def delete_task(self, name: str, *, force: bool = False) -> int:
        """Deletes a task, with its examples when forced to. Returns how many examples went with it."""
        return await self._do(calls.delete_task(name, force=force))

    async def start_shadow(self, task: str, policy: Policy, share: float) -> Shadow:
        """Begins to try a policy on a share of a task's messages, above 0 and up to 1, beside the one that serves."""
        return await self._do(shadow.start_shadow(task, policy, share))

    async def start_encoder_shadow(self, task: str, share: float) -> Shadow:
        """Begins to try the encoder that a reindex has made ready, on a share of a task's messages."""
        return await self._do(shadow.start_encoder_shadow(task, share))

    async def list_shadows(self) -> list[Shadow]:
        """What is tried, by task."""
        return await self._do(shadow.list_shadows())

    async def promote_shadow(self, task: str) -> Task:
        """Lets serve what is tried; refused when the task was changed since it was begun, and for an encoder."""
        return await self._do(shadow.promote_shadow(task))

    async def stop_shadow(self, task: str) -> None:
        """Ends a trial."""
        await self._do(shadow.stop_shadow(task))

    async def start_fit(
        self,
        task: str,
        goal: Goal | None = None,
        validation: Sequence[ValidationMessage] = (),
        *,
        shadow_share: float = 0.0,
    ) -> FitJob:
        """Begins to fit a task, and returns at once; `fit_job` says how far it is.

        Args:
            task: The task.
            goal: What floors are set for; the best F1 when None.
            validation: Messages to set pool and floors on instead of the examples.
            shadow_share: On which share of the messages it is tried when it is done, up to 1; 0 to let it serve.
        """
        return await self._do(learning.start_fit(task, goal or Goal(), validation, shadow_share))

    async def fit_job(self, id_: str) -> FitJob:
        """Asks how far a fit is."""
        return await self._do(learning.get_fit_job(id_))

    async def cancel_fit(self, id_: str) -> FitJob:
        """Stops a fit; what served before still serves."""
        return await self._do(learning.cancel_fit_job(id_))

    async def roll_back_fit(self, task: str) -> int:
        """Goes back to the former fit and its policy. Returns its version; 0 for none."""
        return await self._do(learning.roll_back_fit(task))

    async def get_fit(self, task: str) -> Fit:
        """Reads the fit that serves a task: its policy and figures, not its arrays."""
        return await self._do(learning.get_fit(task))

    async def check_examples(self, task: str) -> AsyncIterator[Finding]:
        """Yields what is doubtful about a task's examples, the most doubtful of each kind first."""
        async for reply in self._stream("learning", "CheckExamples", learning.check_request(task)):
            for one in learning.checked(reply):
                yield one

    async def audit_events(self, query: EventQuery | None = None) -> AsyncIterator[Event]:
        """Yields who changed what, in the order of time, reading page after page."""
        token = ""
        while True:
            page, token = await self._do(audit.list_audit_events(query or EventQuery(), token))
            for one in page:
                yield one
            if not token:
                return

    async def explain(self, request_id: str) -> Explanation:
        """Asks what an answer was made of, where the service keeps that."""
        return await self._do(audit.explain_prediction(request_id))

    async def submit_feedback(
        self, key: str, task: str, labels: Sequence[str], *, source: str, text: str = "", example_id: str = ""
    ) -> Submitted:
        """Submits a correction of a text, or of an example by its id. It waits, and does not vote.

        Sent again under the same key it is there once.

        Args:
            key: Names the correction.
            task: The task.
            labels: The labels that it should have.
            source: Who says so.
            text: The text.
            example_id: The example, instead of a text.
        """
        return await self._do(
            feedback.submit(Correction(key, task, calls.listed(labels, "labels"), source, text, example_id))
        )

    async def get_feedback(self, id_: str) -> Feedback:
        """Reads a correction."""
        return await self._do(feedback.get(id_))

    async def list_feedback(
        self, task: str = "", *, state: FeedbackState | None = None, source: str = ""
    ) -> AsyncIterator[Feedback]:
        """Yields corrections, those of a task, a state or a source, reading page after page."""
        token = ""
        while True:
            page, token = await self._do(feedback.list_page(task, state, source, token))
            for one in page:
                yield one
            if not token:
                return

    async def preview_promotion(self, selection: Selection) -> Promotion:
        """Asks what a promotion would change on the examples that are there; it changes nothing."""
        return await self._do(feedback.preview(selection))

    async def promote_feedback(self, selection: Selection) -> Promotion:
        """Makes examples of pending corrections."""
        return await self._do(feedback.promote(selection))

    async def reject_feedback(self, selection: Selection) -> int:
        """Refuses pending corrections for good, and returns how many."""
        return await self._do(feedback.reject(selection))

    async def revoke_feedback(self, source: str, *, task: str = "", from_us: int = 0, until_us: int = 0) -> Revoked:
        """Takes back what a source has submitted, of a task and of some time: drops it or undoes it.

        Args:
            source: The source.
            task: The task; all when empty.
            from_us: Only what came at this time or later, in microseconds since 1970-01-01 UTC; 0 for any.
            until_us: Only what came before this time; 0 for any.
        """
        return await self._do(feedback.revoke(source, task, from_us, until_us))

    async def info(self) -> ServiceInfo:
        """Asks what is running."""
        return await self._do(calls.get_info())

    async def _do(self, call: Call[_T]) -> _T:
        method = getattr(self._stubs[call.service], call.method)
        try:
            return call.read(await method(call.request, timeout=self._timeout_seconds, metadata=self._metadata))
        except grpc.RpcError as error:
            raise error_of_call(cast("FailedCall", error), self._address, secure=self._secure) from error

    async def _stream(self, service: str, method: str, request: Any) -> AsyncIterator[Any]:
        try:
            async for reply in getattr(self._stubs[service], method)(request, metadata=self._metadata):
                yield reply
        except grpc.RpcError as error:
            raise error_of_call(cast("FailedCall", error), self._address, secure=self._secure) from error


async def _each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
