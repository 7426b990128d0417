"""Work that takes longer than a call."""

import asyncio
import threading

import pytest

from nearvote.access.flow import FLOW, Flow
from nearvote.deadline import set_deadline, within_deadline
from nearvote.errors import CannotFit, FitRunning, JobNotFound
from nearvote.learn import jobs as module
from nearvote.learn.jobs import Job, Jobs, JobState
from nearvote.tasks.fit import Fit
from nearvote.voting.policy import Policy

FIT = Fit(1, None, False, None, Policy(), 0, Policy())  # noqa: FBT003


class Gate:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def work(self, job: Job) -> Fit:
        job.report(0.5, "waiting")
        await self.open.wait()
        job.report(0.75, "going on")
        return FIT


async def _ended(jobs: Jobs, job: Job) -> Job:
    while job.state is JobState.RUNNING:  # noqa: ASYNC110 - it does not wait: the job's own steps come in between
        await asyncio.sleep(0)
    return jobs.get(job.tenant, job.id)


async def test_a_job_from_its_beginning_to_its_end() -> None:
    """A job tells how far it is, and in the end what was made and when."""
    now, gate = iter((10, 20)), Gate()
    jobs = Jobs(lambda: next(now))
    job = jobs.start("acme", "spam", gate.work)
    assert (job.state, job.progress, job.started_us, job.ended_us, job.fit) == (JobState.RUNNING, 0.0, 10, 0, None)
    await asyncio.sleep(0)
    assert (jobs.get("acme", job.id).progress, job.stage) == (0.5, "waiting")
    gate.open.set()
    ended = await _ended(jobs, job)
    assert (ended.state, ended.progress, ended.stage) == (JobState.SUCCEEDED, 1.0, "done")
    assert ended.fit is not None
    assert (ended.fit.version, ended.fit.metric, ended.error, ended.ended_us) == (FIT.version, None, None, 20)


async def test_one_at_a_time() -> None:
    """A task has one job at a time; other tasks and tenants have theirs; after its end it may have another."""
    jobs, gate = Jobs(), Gate()
    job = jobs.start("acme", "spam", gate.work)
    with pytest.raises(FitRunning) as caught:
        jobs.start("acme", "spam", gate.work)
    assert caught.value.field == "task"
    others = [jobs.start("acme", "abuse", gate.work), jobs.start("other", "spam", gate.work)]
    gate.open.set()
    for one in (job, *others):
        assert (await _ended(jobs, one)).state is JobState.SUCCEEDED
    again = jobs.start("acme", "spam", gate.work)
    assert (await _ended(jobs, again)).state is JobState.SUCCEEDED


async def test_anothers_job_is_not_there() -> None:
    """A job is found by its tenant alone; an unknown one is said not to be there."""
    jobs, gate = Jobs(), Gate()
    job = jobs.start("acme", "spam", gate.work)
    for tenant, id_ in (("other", job.id), ("acme", "nope"), ("acme", "")):
        with pytest.raises(JobNotFound):
            jobs.get(tenant, id_)
        with pytest.raises(JobNotFound):
            await jobs.cancel(tenant, id_)
    gate.open.set()
    await jobs.close()


@pytest.mark.parametrize("error", [CannotFit("nothing to learn"), RuntimeError("a secret")])
async def test_a_job_that_fails(error: Exception) -> None:
    """What is the caller's to know comes with the job; what is not stays in the log. Another one may begin."""

    async def work(_job: Job) -> Fit:
        raise error

    jobs = Jobs()
    job = await _ended(jobs, jobs.start("acme", "spam", work))
    assert (job.state, job.fit) == (JobState.FAILED, None)
    assert job.error is (error if isinstance(error, CannotFit) else None)
    assert job.ended_us >= job.started_us > 0
    jobs.start("acme", "spam", work)
    await jobs.close()


async def test_a_job_is_cancelled() -> None:
    """A cancelled job stops at its next report, in whichever thread that is; to cancel it twice changes nothing."""
    jobs, began = Jobs(), threading.Event()

    def in_thread(job: Job) -> Fit:
        for _ in range(3_000_000):  # seconds, should nobody stop it
            job.report(0.1, "on and on")
            began.set()
        return FIT

    job = jobs.start("acme", "spam", lambda job: asyncio.to_thread(in_thread, job))
    await asyncio.to_thread(began.wait)
    assert (await jobs.cancel("acme", job.id)).state is JobState.CANCELLED
    assert job.ended_us > 0
    assert (await jobs.cancel("acme", job.id)).state is JobState.CANCELLED
    assert (job.fit, job.error) == (None, None)


async def test_cancelled_before_it_began_or_after_it_ended() -> None:
    """A job that has not begun never does; one that has ended stays as it is."""
    jobs, gate = Jobs(), Gate()
    gate.open.set()
    job = jobs.start("acme", "spam", gate.work)
    assert (await jobs.cancel("acme", job.id)).state is JobState.CANCELLED
    done = await _ended(jobs, jobs.start("acme", "spam", gate.work))
    assert (await jobs.cancel("acme", done.id)).state is JobState.SUCCEEDED


async def test_closing_stops_all() -> None:
    """When the service ends, all jobs do."""
    jobs = Jobs()

    async def work(job: Job) -> Fit:
        for _ in range(100_000):
            job.report(0.1, "on and on")
            await asyncio.sleep(0)
        return FIT

    running = [jobs.start("acme", f"task{i}", work) for i in range(3)]
    await asyncio.sleep(0)
    await jobs.close()
    assert [job.state for job in running] == [JobState.CANCELLED] * 3


async def test_old_jobs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of jobs that have ended the last ones are remembered; one that runs is never forgotten."""
    monkeypatch.setattr(module, "_REMEMBERED", 5)
    jobs, gate, quick = Jobs(), Gate(), Gate()
    quick.open.set()
    running = jobs.start("acme", "slow", gate.work)
    ended = [await _ended(jobs, jobs.start("acme", "spam", quick.work)) for _ in range(12)]
    assert jobs.get("acme", running.id) is running
    assert jobs.get("acme", ended[-1].id) is ended[-1]
    assert jobs.get("acme", ended[-3].id) is ended[-3]
    with pytest.raises(JobNotFound, match="forgets"):
        jobs.get("acme", ended[0].id)
    gate.open.set()
    await jobs.close()


async def test_a_job_does_not_end_with_its_call() -> None:
    """A job has all the time that it takes, however little the call that began it had."""
    allowed: list[float] = []
    waits: list[bool] = []

    async def work(job: Job) -> Fit:
        del job
        allowed.append(within_deadline(10.0))
        waits.append(FLOW.get().waits)
        return FIT

    async def call(jobs: Jobs) -> Job:
        set_deadline(0.0)
        FLOW.set(Flow("ann", waits=False))
        return jobs.start("acme", "spam", work)

    jobs = Jobs()
    await _ended(jobs, await asyncio.create_task(call(jobs)))
    assert allowed == [10.0]
    assert waits == [True], "a full queue holds it back"


async def test_a_tasks_jobs_are_stopped() -> None:
    """The job of one task can be stopped without knowing its id; those of others go on."""
    jobs, gate = Jobs(), Gate()
    job, other = jobs.start("acme", "spam", gate.work), jobs.start("acme", "abuse", gate.work)
    elsewhere = jobs.start("other", "spam", gate.work)
    await asyncio.sleep(0)
    gate.open.set()
    await jobs.stop_task("acme", "spam")
    assert job.state is JobState.CANCELLED
    await jobs.stop_task("acme", "spam")
    for one in (other, elsewhere):
        assert (await _ended(jobs, one)).state is JobState.SUCCEEDED
