"""The use of learning: examples in, a fit that serves out."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from nearvote.access.caller import Caller
from nearvote.audit.event import Action
from nearvote.audit.log import SERVICE
from nearvote.embedding.embedder import Embedder
from nearvote.errors import CannotFit, FitNotFound, InvalidField, NearvoteError, StoreUnavailable
from nearvote.examples.example import Draft, example_id
from nearvote.examples.store import ExampleStore, StoredWindow
from nearvote.learn.check import check_examples
from nearvote.learn.corpus import Corpus, corpus_of, load_scipy, texts_of
from nearvote.learn.finding import Finding
from nearvote.learn.fitting import Validation, fit_corpus
from nearvote.learn.goal import Goal, ValidationMessage
from nearvote.learn.jobs import Job, JobCancelledError, Jobs, fit_running
from nearvote.learn.preview import Preview, preview
from nearvote.learn.switching import Switcher
from nearvote.limits import Limits, check_text
from nearvote.priority import LEARNING, give_way
from nearvote.tasks.fit import Fit, as_stored
from nearvote.tasks.leases import Lease, Leases
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.task import Task
from nearvote.text.surface import fingerprint
from nearvote.voting.prototypes import labels_matrix

# Messages to validate on, at most: they are embedded while others wait.
MAX_VALIDATION_MESSAGES = 20_000
_CHUNK = 128
_LOOK_UP_SECONDS = 0.1  # how often a fit that waits looks whether it is still wanted


_T = TypeVar("_T")


def _lease_name(task: str) -> str:
    return f"fit/{task}"


class Learner:
    """Fits tasks, goes back to former fits, and checks examples.

    Args:
        embedder: Embeds validation messages.
        store: Has the examples.
        tasks: Has the tasks and their fits.
        limits: What a call may ask.
        jobs: Runs fits.
        leases: Keep other replicas from fitting the same task.
        shadows: Try fits before they serve.
        settle_seconds: How long another replica may search in a slot after it served last.
    """

    def __init__(
        self,
        embedder: Embedder,
        store: ExampleStore,
        tasks: TaskRegistry,
        limits: Limits,
        jobs: Jobs,
        leases: Leases,
        shadows: Shadows,
        *,
        settle_seconds: float = 0.0,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._tasks = tasks
        self._limits = limits
        self._jobs = jobs
        # One fit at a time, which takes all cores that messages leave it; examples can be checked meanwhile.
        self._one_fit = asyncio.Lock()
        # Messages go first, also before the threads that these start.
        self._threads = ThreadPoolExecutor(
            max_workers=2, thread_name_prefix="learn", initializer=give_way, initargs=(LEARNING,)
        )
        self._leases = leases
        self._shadows = shadows
        self._switcher = Switcher(store, tasks, settle_seconds)

    async def close(self) -> None:
        """Waits for what is being learned to stop; fits are told to by the jobs' own end, which comes first."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def start_fit(
        self,
        tenant: str,
        name: str,
        goal: Goal,
        validation: Sequence[ValidationMessage] = (),
        *,
        shadow_share: float = 0.0,
        by: Caller = SERVICE,
    ) -> Job:
        """Begins to fit a task. What served before serves until the fit is done, and stays when it fails or is tried.

        Args:
            tenant: Whose it is.
            name: The task.
            goal: What floors are set for.
            validation: Messages to set pool and floors on instead of the examples.
            shadow_share: On which share of the messages the fit is tried when it is done, up to 1; 0 to let it serve.
            by: Who asks for it.

        Raises:
            TaskNotFound: There is no task of this name.
            FitRunning: It is being fitted already.
            InvalidInput: The goal, a validation message or the share can't be right.
        """
        task = await self._tasks.get(tenant, name)
        goal.check()
        if not 0 <= shadow_share <= 1:
            raise InvalidField("the share is 0, to let the fit serve, or up to 1", field="shadow_share")
        if len(validation) > MAX_VALIDATION_MESSAGES:
            raise InvalidField(f"at most {MAX_VALIDATION_MESSAGES} messages", field="validation_messages")
        for i, message in enumerate(validation):
            check_text(message.text, self._limits, field=f"validation_messages[{i}].text")
            if message.labels:  # none for a message out of scope
                try:
                    task.check_labels(message.labels)
                except NearvoteError as error:
                    raise error.at(f"validation_messages[{i}]") from None
        lease = await self._lease(tenant, name)
        return self._jobs.start(
            tenant, name, lambda job: self._fit(job, lease, name, goal, validation, shadow_share, by)
        )

    async def stop_fits(self, tenant: str, name: str) -> None:
        """Stops the fits of a task: here by the time this returns, on other replicas before they would serve."""
        await self._jobs.stop_task(tenant, name)
        await self._leases.revoke(tenant, _lease_name(name))

    async def _lease(self, tenant: str, name: str) -> Lease:
        lease = await self._leases.take(tenant, _lease_name(name))
        if lease is None:
            raise fit_running()
        return lease

    def job(self, tenant: str, id_: str) -> Job:
        """How far a fit is."""
        return self._jobs.get(tenant, id_)

    async def cancel(self, tenant: str, id_: str) -> Job:
        """Stops a fit."""
        return await self._jobs.cancel(tenant, id_)

    async def fit(self, tenant: str, name: str) -> Fit:
        """The fit that serves a task.

        Raises:
            TaskNotFound: There is no task of this name.
            FitNotFound: It has none.
        """
        task = await self._tasks.get(tenant, name)
        fit = await self._tasks.fits.serving(tenant, task)
        if fit is None:
            raise FitNotFound(f"task '{name}' has no fit; make one with `nearvote fit --task {name}`", field="task")
        return fit

    async def roll_back(self, tenant: str, name: str, *, by: Caller = SERVICE) -> int:
        """Lets the fit serve that the present one replaced, with the policy of that time.

        Returns:
            Its version; 0 for none, the plain metric.

        Raises:
            TaskNotFound: There is no task of this name.
            FitNotFound: It has no fit, or what it replaced is no longer kept.
            FitRunning: Vectors would have to be written, and a fit under way writes its own.
            TaskChanged: Another fit serves it meanwhile.
        """
        task = await self._tasks.reread(tenant, name)
        present = await self.fit(tenant, name)
        former = None
        if present.replaced_version:
            former = await self._tasks.fits.get(tenant, name, present.replaced_version)
        metric = former.metric if former and former.in_metric else None
        policy = present.replaced_policy
        labels = {label: own for label, own in policy.labels.items() if label in task.label_names}
        version, action = present.replaced_version, Action.FIT_ROLLED_BACK
        policy = replace(policy, labels=labels)
        async with contextlib.AsyncExitStack() as stack:
            if metric is not None and task.slot_of(version) is None:  # vectors are to be written
                await stack.enter_async_context((await self._lease(tenant, name)).kept())
            await self._switcher.switch(tenant, task, metric, policy, version, action, by)
        return present.replaced_version

    async def check(self, tenant: str, name: str) -> list[Finding]:
        """What is doubtful about a task's examples, the most doubtful of each kind first.

        Raises:
            TaskNotFound: There is no task of this name.
        """
        task = await self._tasks.get(tenant, name)
        corpus = await self._corpus(tenant, task)
        return await self._aside(check_examples, corpus, task.rules)

    async def preview(self, tenant: str, name: str, drafts: Sequence[Draft]) -> Preview:
        """What a batch of examples would change on the task's examples; stores nothing.

        Args:
            tenant: Whose they are.
            name: The task.
            drafts: Checked examples of this task, each text once.

        Raises:
            TaskNotFound: There is no task of this name.
        """
        task = await self._tasks.get(tenant, name)
        windows = [window async for page in self._store.windows(tenant, name) for window in page]
        known = {window.example_id for window in windows}
        by_id = {example_id(tenant, name, draft.text): draft for draft in drafts}
        relabeled = {id_: (draft.labels, draft.source) for id_, draft in by_id.items() if id_ in known}
        new = [(id_, draft) for id_, draft in by_id.items() if id_ not in known]
        added: list[StoredWindow] = []
        for start in range(0, len(new), _CHUNK):
            added += await self._as_stored(new[start : start + _CHUNK])
        return await self._aside(preview, windows, task.rules, relabeled, added)

    async def _as_stored(self, drafts: Sequence[tuple[str, Draft]]) -> list[StoredWindow]:
        """New examples as they would be stored, by their ids."""
        embedded = await self._embedder.embed([draft.text for _, draft in drafts])
        return [
            StoredWindow(
                point_id="",
                example_id=id_,
                window=window,
                labels=draft.labels,
                example_weight=draft.weight,
                source=draft.source,
                fingerprint=fingerprint(surface),
                text=draft.text if window == 0 else "",
                vector=vector,
                surface=surface if window == 0 else None,
            )
            for (id_, draft), vectors, surface in zip(drafts, embedded.windows, embedded.surfaces, strict=True)
            for window, vector in enumerate(vectors)
        ]

    async def _fit(
        self,
        job: Job,
        lease: Lease,
        name: str,
        goal: Goal,
        messages: Sequence[ValidationMessage],
        shadow_share: float,
        by: Caller,
    ) -> Fit:
        async with lease.kept(lost=job.stop):
            task, fit = await self._learned(job, lease.tenant, name, goal, messages)
            job.report(0.9, "writing the metric")
            if not await lease.is_held():  # it was stopped, or took so long without a word that it was given up
                raise JobCancelledError
            await self._keep(lease.tenant, task, fit, shadow_share, by)
            return fit

    async def _learned(
        self, job: Job, tenant: str, name: str, goal: Goal, messages: Sequence[ValidationMessage]
    ) -> tuple[Task, Fit]:
        """A fit that is not kept yet, and the task as it was when it was made."""
        job.report(0.0, "reading examples")
        task = await self._tasks.reread(tenant, name)  # what another replica has changed would come out at the end
        corpus = await self._corpus(tenant, task)
        if not len(corpus):
            raise CannotFit(f"task '{name}' has no examples to learn from; add some first", field="task")
        validation = await self._validation(job, task, messages) if messages else None
        async with self._turn(job):
            learned = await self._aside(
                functools.partial(fit_corpus, max_k=self._limits.max_k),
                corpus,
                task.rules,
                goal,
                validation,
                lambda done, stage: job.report(0.1 + 0.8 * done, stage),
            )
        version = await self._next_version(tenant, task)
        fit = await asyncio.to_thread(
            as_stored,
            Fit(
                version=version,
                metric=learned.metric,
                in_metric=learned.in_metric,
                prototypes=learned.prototypes,
                policy=learned.policy,
                replaced_version=task.fit_version,
                replaced_policy=task.policy,
                unfitted_policy=await self._tasks.fits.unfitted_policy(tenant, task),
                created_us=job.started_us,
                figures=learned.figures,
            ),
        )
        return task, fit

    async def _keep(self, tenant: str, task: Task, fit: Fit, shadow_share: float, by: Caller) -> None:
        """Stores a fit, and lets it serve, or be tried."""
        name, version, fits = task.name, fit.version, self._tasks.fits
        await fits.put(tenant, name, fit)
        # From here on it is not to be stopped half-way for a caller's sake; what is written last decides.
        try:
            metric = fit.metric if fit.in_metric else None
            if shadow_share:
                slot = await self._switcher.fill(tenant, task, metric, version)
                await self._shadows.start_fit(tenant, task, fit, slot, shadow_share, by=by)
            else:
                await self._switcher.switch(tenant, task, metric, fit.policy, version, Action.TASK_FITTED, by)
        except NearvoteError:
            with contextlib.suppress(NearvoteError):
                stored = await self._tasks.reread(tenant, name)  # an answer may be lost of a write that was made
                if version not in (stored.fit_version, stored.tried):
                    # Emptied, not deleted: a replica may have read it for the slot that it claimed.
                    await fits.let_go(tenant, name, range(version, version + 1))
            raise
        with contextlib.suppress(StoreUnavailable):  # the new one is there; the next fit tries again
            if shadow_share:
                await fits.let_go_before(tenant, name, fit)
            else:
                await fits.tidy(tenant, name, fit)

    @contextlib.asynccontextmanager
    async def _turn(self, job: Job) -> AsyncIterator[None]:
        """Waits for other fits, and for no longer than the job is wanted."""
        while True:
            job.report(0.1, "waiting for other fits")
            try:
                async with asyncio.timeout(_LOOK_UP_SECONDS):
                    await self._one_fit.acquire()
                break
            except TimeoutError:
                continue
        try:
            yield
        finally:
            self._one_fit.release()

    async def _aside(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Runs work in a thread that learns."""
        await asyncio.to_thread(load_scipy)
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments))

    async def _corpus(self, tenant: str, task: Task) -> Corpus:
        windows = [window async for page in self._store.windows(tenant, task.name) for window in page]
        return await asyncio.to_thread(corpus_of, windows, task.label_names)

    async def _validation(self, job: Job, task: Task, messages: Sequence[ValidationMessage]) -> Validation:
        vectors, surfaces, labels = [], [], []
        for start in range(0, len(messages), _CHUNK):
            job.report(0.1 * start / len(messages), "embedding validation messages")
            chunk = messages[start : start + _CHUNK]
            embedded = await self._embedder.embed([message.text for message in chunk])
            for message, windows, surface in zip(chunk, embedded.windows, embedded.surfaces, strict=True):
                if len(windows):
                    vectors.append(windows)
                    surfaces.append(surface)
                    labels.append(message.labels)
        if not vectors:
            raise CannotFit("none of the validation messages has anything to read", field="validation_messages")
        texts = await asyncio.to_thread(texts_of, vectors, surfaces)
        return Validation(texts, labels_matrix(labels, task.label_names))

    async def _next_version(self, tenant: str, task: Task) -> int:
        """One more than any fit of the task that is kept, also of those that never came to serve."""
        version = task.fit_version + 1
        while await self._tasks.fits.is_taken(tenant, task.name, version):
            version += 1
        return version
