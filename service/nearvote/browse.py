"""Finding examples: by id, in lists, and those nearest to a text."""

from collections.abc import AsyncIterator

from nearvote.embedding.embedder import Embedder
from nearvote.errors import InvalidField
from nearvote.examples.example import Example, SearchedExample, checked_id, checked_start, not_found
from nearvote.examples.store import ExampleReader, Page, SearchQuery
from nearvote.limits import Limits, check_k, check_page_size, check_text
from nearvote.tasks.registry import TaskRegistry

_DEFAULT_SEARCH = 10


class Browser:
    """Finds a tenant's examples.

    Args:
        embedder: Turns texts into vectors.
        store: Has the examples.
        tasks: Knows the tasks.
        limits: What a call may ask.
    """

    def __init__(self, embedder: Embedder, store: ExampleReader, tasks: TaskRegistry, limits: Limits) -> None:
        self._embedder = embedder
        self._store = store
        self._tasks = tasks
        self._limits = limits

    async def get(self, tenant: str, task: str, id_: str) -> Example:
        """One example.

        Raises:
            TaskNotFound, ExampleNotFound: There is none.
        """
        await self._tasks.get(tenant, task)
        found = await self._store.get(tenant, task, [checked_id(id_)])
        if not found:
            raise not_found()
        return next(iter(found.values()))

    async def list_page(
        self,
        tenant: str,
        task: str,
        *,
        label: str = "",
        source: str = "",
        page_size: int = 0,
        from_id: str | None = None,
    ) -> Page:
        """A page of a task's examples, in the order of their ids.

        Args:
            tenant: Whose they are.
            task: Their task.
            label: Only those with this label; all when empty.
            source: Only those from this source; all when empty.
            page_size: 1 to 1000; 0 for 100.
            from_id: The id to begin with.

        Raises:
            TaskNotFound: There is no task of this name.
            InvalidInput: The size is out of range, or `from_id` no id.
        """
        await self._tasks.get(tenant, task)
        limit = check_page_size(page_size)
        start = checked_start(from_id)
        return await self._store.list_page(tenant, task, label=label, source=source, limit=limit, from_id=start)

    async def export(self, tenant: str, task: str) -> AsyncIterator[list[Example]]:
        """All examples of a task, page by page, in the order of their ids.

        Raises:
            TaskNotFound: There is no task of this name.
        """
        await self._tasks.get(tenant, task)
        from_id = None
        while True:
            page = await self._store.list_page(tenant, task, limit=self._limits.max_batch_texts, from_id=from_id)
            yield page.examples
            from_id = page.next_id
            if from_id is None:
                return

    async def search(
        self, tenant: str, task: str, text: str, *, label: str = "", limit: int = 0
    ) -> list[SearchedExample]:
        """The examples nearest to a text, nearest first.

        Args:
            tenant: Whose they are.
            task: Their task.
            text: What to search for, of any length.
            label: Only those with this label; all when empty.
            limit: 1 to `max_k`; 0 for 10.

        Raises:
            TaskNotFound: There is no task of this name.
            InvalidInput: The text is too long or has nothing to read, or the limit is out of range.
        """
        await self._tasks.get(tenant, task)
        check_text(text, self._limits, field="text")
        check_k(limit or None, self._limits, field="limit")
        limit = limit or min(_DEFAULT_SEARCH, self._limits.max_k)
        windows = (await self._embedder.embed([text])).windows[0]
        if not len(windows):
            raise InvalidField("there is nothing to read in the text", field="text")
        (found,) = await self._store.search([SearchQuery(tenant, task, windows, limit, label)])
        examples = await self._store.get(tenant, task, [neighbor.example_id for neighbor in found])
        return [
            SearchedExample(examples[neighbor.example_id], neighbor.similarity)
            for neighbor in found
            if neighbor.example_id in examples
        ]
