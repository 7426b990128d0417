"""Bringing the examples of one vector space to what those of another are, whoever changes these meanwhile.

Examples are compared by id, both ways, so that whatever an earlier run has left is gone on from, and what was deleted
goes. What is compared again is told by the versions of the tasks' examples, which rise after each change.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from nearvote.embedding.embedder import Embedder
from nearvote.examples.example import Example
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.store import EmbeddedExample
from nearvote.keep_up import projected
from nearvote.tasks.document import TASKS_KIND, task_from_document
from nearvote.tasks.fits import Fits
from nearvote.tasks.stored import VERSIONS_KIND

# Documents beside examples that are not there, since their encoder reads nothing in them: tenant, and id as the name.
LEFT_OUT_KIND = "left_out"

# Examples embedded and written at a time; messages that are to be labelled take turns with them.
_CHUNK = 64

_Key = tuple[str, str]  # tenant and task
Progress = Callable[[int], None]


class Sync:
    """Brings a target to what a source is.

    Args:
        source: Has the examples.
        target: Gets them, embedded by its own encoder.
        embedder: The target's.
        progress: Told after each chunk how many more examples of the source have been looked at.
    """

    def __init__(self, source: QdrantStore, target: QdrantStore, embedder: Embedder, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._embedder = embedder
        self._progress = progress
        self._fits = Fits(target)
        self._versions: dict[_Key, object] = {}
        self._left_out: set[str] = set()
        self._not_here: set[str] = set()  # those that the source's own encoder reads nothing in

    async def everything(self) -> int:
        """Compares all examples. Returns how many differed."""
        self._left_out = await _left_out(self._target)
        self._not_here = await _left_out(self._source)
        self._versions = await self._read_versions()  # first: what changes from here on is looked at again
        return await self._compare("", "")

    async def changed(self) -> int:
        """Compares the examples of the tasks that have changed since they were compared. Returns how many differed."""
        versions = await self._read_versions()
        keys = versions.keys() | self._versions.keys()
        differing = [key for key in sorted(keys) if versions.get(key) != self._versions.get(key)]
        self._versions = versions
        return sum([await self._compare(*key) for key in differing])

    async def _read_versions(self) -> dict[_Key, object]:
        found = await self._source.every_document(VERSIONS_KIND)
        return {(tenant, task): body for tenant, task, body in found}

    async def _compare(self, tenant: str, task: str) -> int:
        """Brings the target to what the source is: a task, or everything. Returns how many differed."""
        differing = 0
        new: list[Example] = []
        relabelled: list[Example] = []
        looked_at = 0
        both = _side_by_side(self._source.every_example(tenant, task), self._target.every_example(tenant, task))
        async for wanted, present in both:
            if wanted is None:
                if present is not None and present.id not in self._not_here:
                    await self._target.delete(present.tenant, present.task, present.id)
                    differing += 1
                continue
            if present is None:
                if wanted.id not in self._left_out:
                    new.append(wanted)
            elif present != wanted:  # labels and so on: the text is what the id is made of
                relabelled.append(wanted)
            looked_at += 1
            if len(new) + len(relabelled) >= _CHUNK or looked_at >= 10 * _CHUNK:
                differing += await self._write(new, relabelled)
                self._progress(looked_at)
                new, relabelled, looked_at = [], [], 0
        differing += await self._write(new, relabelled)
        self._progress(looked_at)
        return differing

    async def _write(self, new: Sequence[Example], relabelled: Sequence[Example]) -> int:
        if new:
            embedded = await self._embedder.embed([example.text for example in new])
            fresh = [
                EmbeddedExample(example, vectors, surface)
                for example, vectors, surface in zip(new, embedded.windows, embedded.surfaces, strict=True)
            ]
            readable = [one for one in fresh if len(one.vectors)]
            await self._target.put(await self._in_metrics(readable))
            for one in fresh:
                if not len(one.vectors):
                    await self._leave_out(one.example)
        await self._target.annotate(relabelled)
        return len(new) + len(relabelled)

    async def _leave_out(self, example: Example) -> None:
        body = {"task": example.task}
        await self._target.put_document(LEFT_OUT_KIND, example.tenant, example.id, body)
        self._left_out.add(example.id)

    async def _in_metrics(self, examples: Iterable[EmbeddedExample]) -> list[EmbeddedExample]:
        """With their vectors in the metrics of the fits that the target's tasks have, where it was served before."""
        by_task: dict[_Key, list[EmbeddedExample]] = {}
        for one in examples:
            by_task.setdefault((one.example.tenant, one.example.task), []).append(one)
        found: list[EmbeddedExample] = []
        for (tenant, name), own in by_task.items():
            body = await self._target.document(TASKS_KIND, tenant, name)
            found += own if body is None else await projected(self._fits, tenant, task_from_document(body), own)
        return found


async def _side_by_side(
    left: AsyncIterator[list[Example]], right: AsyncIterator[list[Example]]
) -> AsyncIterator[tuple[Example | None, Example | None]]:
    """Examples of two stores, each in the order of ids, in pairs of one id; None where one has not got it."""
    lefts, rights = _each(left), _each(right)
    one, other = await anext(lefts, None), await anext(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.id < other.id):
            yield one, None
            one = await anext(lefts, None)
        elif one is None or other.id < one.id:
            yield None, other
            other = await anext(rights, None)
        else:
            yield one, other
            one, other = await anext(lefts, None), await anext(rights, None)


async def _each(pages: AsyncIterator[list[Example]]) -> AsyncIterator[Example]:
    async for page in pages:
        for example in page:
            yield example


async def _left_out(store: QdrantStore) -> set[str]:
    return {name for _, name, _ in await store.every_document(LEFT_OUT_KIND)}
