"""When a server that stops takes its callers to have gone."""

import asyncio
import time

from nearvote.limits import Limits
from nearvote.rpc.admission import AdmissionInterceptor
from nearvote.server import _until_quiet


async def test_a_pause_of_the_machine_is_not_taken_for_quiet() -> None:
    """Calls that come as a machine goes on after a pause are waited for."""
    admission = AdmissionInterceptor(Limits())
    admission.let_in_at = time.perf_counter()
    waiting = asyncio.create_task(_until_quiet(admission, 30.0))
    await asyncio.sleep(0.15)
    time.sleep(1.5)  # noqa: ASYNC251 - the machine stands still
    for _ in range(5):
        await asyncio.sleep(0.05)
        admission.let_in_at = time.perf_counter()
        assert not waiting.done()
    await waiting
    assert time.perf_counter() - admission.let_in_at > 0.5


async def test_who_was_quiet_before_is_hardly_waited_for() -> None:
    """Where nobody has called for a while, a stop does not wait for that again; where all do, it does not for ever."""
    admission = AdmissionInterceptor(Limits())
    began = time.perf_counter()
    await _until_quiet(admission, 30.0)
    assert time.perf_counter() - began < 0.5

    async def call() -> None:
        while True:
            admission.let_in_at = time.perf_counter()
            await asyncio.sleep(0.02)

    caller = asyncio.create_task(call())
    await asyncio.wait_for(_until_quiet(admission, 0.3), 5.0)
    assert not caller.done()
    caller.cancel()
