"""Work that one replica at a time does: a lease on it, seen by all replicas, that runs out when its holder dies."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from nearvote.clock import system_us
from nearvote.errors import StoreUnavailable
from nearvote.tasks.document import DocumentStore

# After so long a lease that is not renewed is another's to take. It is longer than a write may take, so that what its
# former holder was writing is written or lost by then; replicas' clocks are to differ by much less.
LEASE_SECONDS = 20.0
RENEW_SECONDS = LEASE_SECONDS / 4
_LOOK_SECONDS = 0.5

LEASES_KIND = "lease"
_FREE: dict[str, Any] = {"holder": "", "until_us": 0}


class Leases:
    """Takes leases.

    Args:
        store: Where they are kept.
        alone: Whether this process is the only one that has the store open: what a former one held is free then.
        now_us: The time, in microseconds since 1970-01-01 UTC.
        pause: Waits for some seconds.
    """

    def __init__(
        self,
        store: DocumentStore,
        *,
        alone: bool = False,
        now_us: Callable[[], int] = system_us,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._alone = alone
        self._now_us = now_us
        self._pause = pause
        self._process = uuid.uuid4().hex

    async def take(self, tenant: str, name: str) -> "Lease | None":
        """A lease on some work; None while another has it.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        read = await self._store.read_document(LEASES_KIND, tenant, name)
        body, revision = read or (_FREE, None)
        is_void = self._alone and body.get("process") != self._process
        if body["until_us"] > self._now_us() and not is_void:
            return None
        lease = Lease(self, tenant, name)
        taken = await self._store.put_document_if(LEASES_KIND, tenant, name, self._body(lease), revision)
        return lease if taken else None

    async def wait(self) -> None:
        """Waits a moment for another's work."""
        await self._pause(_LOOK_SECONDS)

    async def revoke(self, tenant: str, name: str) -> None:
        """Takes a lease from whoever has it, who notices when it is renewed or looked at."""
        if await self._store.document(LEASES_KIND, tenant, name) is not None:
            await self._store.put_document(LEASES_KIND, tenant, name, _FREE)

    async def is_held(self, lease: "Lease") -> bool:
        """Whether a lease is still its holder's."""
        body = await self._store.document(LEASES_KIND, lease.tenant, lease.name)
        return body is not None and body["holder"] == lease.holder

    async def release(self, lease: "Lease") -> None:
        """Lets others have it."""
        read = await self._store.read_document(LEASES_KIND, lease.tenant, lease.name)
        if read is not None and read[0]["holder"] == lease.holder:
            await self._store.put_document_if(LEASES_KIND, lease.tenant, lease.name, _FREE, read[1])

    async def renew(self, lease: "Lease", lost: Callable[[], None]) -> None:
        """Renews a lease for as long as it is let; tells when it is another's, and ends."""
        while True:
            await self._pause(RENEW_SECONDS)
            with contextlib.suppress(StoreUnavailable):  # tried again; it may run out meanwhile
                read = await self._store.read_document(LEASES_KIND, lease.tenant, lease.name)
                if read is None or read[0]["holder"] != lease.holder:
                    lost()
                    return
                await self._store.put_document_if(LEASES_KIND, lease.tenant, lease.name, self._body(lease), read[1])

    def _body(self, lease: "Lease") -> dict[str, Any]:
        until_us = self._now_us() + round(LEASE_SECONDS * 1_000_000)
        return {"holder": lease.holder, "process": self._process, "until_us": until_us}


class Lease:
    """A lease that was taken."""

    def __init__(self, leases: Leases, tenant: str, name: str) -> None:
        self._leases = leases
        self.tenant = tenant
        self.name = name
        self.holder = uuid.uuid4().hex

    async def is_held(self) -> bool:
        """Whether nobody has taken it since."""
        return await self._leases.is_held(self)

    @contextlib.asynccontextmanager
    async def kept(self, lost: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Renews it until the end, and lets it go then; `lost` is called when another has it."""
        renewing = asyncio.create_task(self._leases.renew(self, lost))
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            with contextlib.suppress(StoreUnavailable):  # then it runs out
                await self._leases.release(self)
