"""Work that takes longer than a call: begun by one call, looked at by others."""

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum

import structlog

from nearvote.access.flow import held_back
from nearvote.clock import system_us
from nearvote.deadline import no_deadline
from nearvote.errors import FitRunning, JobNotFound, NearvoteError
from nearvote.tasks.fit import Fit

# Ended jobs that are remembered.
_REMEMBERED = 100

_log = structlog.get_logger(__name__)


class JobState(Enum):
    """How far a job is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobCancelledError(Exception):
    """Raised inside a job's work when it is to stop."""


@dataclass(slots=True)
class Job:
    """A fit under way, or one that has ended.

    Attributes:
        tenant: Whose it is.
        task: The task that is fitted.
        id: Its id.
        state: How far it is.
        progress: How much is done, in [0, 1].
        stage: What is being done.
        fit: What was made, without its arrays, when it succeeded.
        error: What went wrong, when it failed; None when it is not the caller's to know.
        started_us: When it began, in microseconds since 1970-01-01 UTC.
        ended_us: When it ended, in the same; 0 while it runs.
    """

    tenant: str
    task: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: JobState = JobState.RUNNING
    progress: float = 0.0
    stage: str = ""
    fit: Fit | None = None
    error: NearvoteError | None = None
    started_us: int = 0
    ended_us: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def report(self, progress: float, stage: str) -> None:
        """Tells how far the work is. Called by the work, from any thread.

        Raises:
            JobCancelledError: It is to stop.
        """
        if self._stop.is_set():
            raise JobCancelledError
        self.progress, self.stage = progress, stage

    def stop(self) -> None:
        """Asks the work to stop at its next report."""
        self._stop.set()


def fit_running() -> FitRunning:
    """The error of whoever would fit a task that is being fitted."""
    return FitRunning("the task is being fitted already: wait for it, or cancel it", field="task")


class Jobs:
    """The jobs of this process.

    Args:
        now_us: The time, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, now_us: Callable[[], int] = system_us) -> None:
        self._jobs: dict[str, Job] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._now_us = now_us

    def start(self, tenant: str, task: str, work: Callable[[Job], Awaitable[Fit]]) -> Job:
        """Begins a job.

        Raises:
            FitRunning: The task has one under way.
        """
        if any((job.tenant, job.task) == (tenant, task) for job in map(self._jobs.__getitem__, self._running)):
            raise fit_running()
        job = Job(tenant, task, started_us=self._now_us())
        for old in [id_ for id_ in self._jobs if id_ not in self._running][: max(0, len(self._jobs) - _REMEMBERED)]:
            del self._jobs[old]
        self._jobs[job.id] = job
        with no_deadline(), held_back():  # those of the call which begins it are not its own
            self._running[job.id] = asyncio.create_task(self._run(job, work))
        return job

    def get(self, tenant: str, id_: str) -> Job:
        """A job.

        Raises:
            JobNotFound: There is none of this id, or it is forgotten.
        """
        job = self._jobs.get(id_)
        if job is None or job.tenant != tenant:
            raise JobNotFound("there is no such job; the service forgets its jobs when it is restarted", field="id")
        return job

    async def cancel(self, tenant: str, id_: str) -> Job:
        """Stops a job, and returns when it has."""
        job = self.get(tenant, id_)
        job.stop()
        running = self._running.get(id_)
        if running is not None:
            await asyncio.shield(running)
        return job

    async def stop_task(self, tenant: str, task: str) -> None:
        """Stops the jobs of a task, and returns when they have."""
        for id_ in [id_ for id_ in self._running if (self._jobs[id_].tenant, self._jobs[id_].task) == (tenant, task)]:
            await self.cancel(tenant, id_)

    async def close(self) -> None:
        """Stops all jobs, and returns when they have."""
        for id_ in list(self._running):
            self._jobs[id_].stop()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[Fit]]) -> None:
        try:
            # Its arrays, some megabytes, are kept where it serves.
            job.fit = replace(await work(job), metric=None, prototypes=None)
            job.state, job.progress, job.stage = JobState.SUCCEEDED, 1.0, "done"
        except JobCancelledError:
            job.state = JobState.CANCELLED
        except NearvoteError as error:
            job.state, job.error = JobState.FAILED, error
        except Exception:  # noqa: BLE001 - whatever it was, the job ends, and the log has it
            job.state = JobState.FAILED
            _log.exception("fit_failed", task=job.task)
        finally:
            job.ended_us = self._now_us()
            self._running.pop(job.id, None)
