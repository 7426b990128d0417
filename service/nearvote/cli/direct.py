"""A change of encoder on a store that no service has open, called as a service's is."""

import asyncio
import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nearvote.client.reindex import Reindex
from nearvote.examples.places import Source
from nearvote.reindex.status import Status
from nearvote.settings import Settings

if TYPE_CHECKING:
    from nearvote.reindex.reindexer import Reindexer


class Direct:
    """Does in this process what `client.reindex` does in a service.

    Args:
        settings: Name the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Self:
        from nearvote.wiring import reindexer_of  # noqa: PLC0415 - loads the encoder's libraries

        self._runner.__enter__()
        try:
            entering = self._stack.enter_async_context(reindexer_of(self._settings))
            self._reindexer: Reindexer = self._runner.run(entering)
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    def start(self, model: str = "", revision: str = "", *, back: bool = False) -> Reindex:
        """Begins, or goes on, and returns at once."""
        return _seen(self._runner.run(self._reindexer.start(Source(model, revision or None), back=back)))

    def wait(self, seconds: float) -> None:
        """Lets it go on for so many seconds."""
        self._runner.run(asyncio.sleep(seconds))

    def status(self) -> Reindex:
        """How far it is."""
        return _seen(self._runner.run(self._reindexer.status()))

    def switch(self) -> Reindex:
        """Lets the vectors that are ready be served."""
        return _seen(self._runner.run(self._reindexer.switch()))

    def cancel(self) -> Reindex:
        """Lets go of what was embedded."""
        return _seen(self._runner.run(self._reindexer.cancel()))

    def drop_former(self) -> Reindex:
        """Lets go of what served before."""
        return _seen(self._runner.run(self._reindexer.drop_former()))


def _seen(status: Status) -> Reindex:
    """As a client sees it, of all tenants."""
    if status.error is not None:
        raise status.error
    serving, building, former = status.models
    return Reindex(
        phase=status.phase,
        serving_model=serving,
        building_model=building,
        former_model=former,
        done=status.done,
        total=status.total,
        left_out_count=status.left_out_count,
        comparisons=status.compared,
        unfitted_tasks=tuple(task for _, task in status.unfitted_tasks),
        error=None,
    )
