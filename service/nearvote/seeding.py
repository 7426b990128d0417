"""Loading the shipped tasks and examples into an empty store."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from nearvote.curate import Curator
from nearvote.errors import InvalidTask, NearvoteError, TaskExists
from nearvote.examples.example import Draft
from nearvote.examples.files import ExampleFile
from nearvote.startup_errors import InvalidSetting
from nearvote.tasks.document import DocumentStore, task_from_document
from nearvote.tasks.leases import Leases
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Task

_KIND = "seeds"
_DONE = {"done": True}
_CHUNK = 128

Progress = Callable[[int, int], None]


def shipped_seeds() -> Path:
    """Where the seeds are: in the installed package, or beside it in a source tree."""
    installed = Path(__file__).parent / "seeds"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "seeds"


async def load_seeds(
    folder: Path,
    tenant: str,
    store: DocumentStore,
    tasks: TaskRegistry,
    curator: Curator,
    leases: Leases,
    progress: Progress,
) -> int:
    """Loads tasks and examples, once: a store that has seeds, or tasks of its own, is left as it is.

    Of replicas that start together one loads them, and the others return when it has. Cut short, another goes on, or
    the next start: examples that are there already are not embedded again.

    Args:
        folder: `tasks.json`, a list of tasks, and for each an optional file of examples, `NAME.jsonl`.
        tenant: Whose they become.
        store: Knows whether it was done.
        tasks: Where tasks go.
        curator: Where examples go.
        leases: Tell who loads them.
        progress: Told how many examples are done, and how many there are.

    Returns:
        How many examples were loaded; 0 when there was nothing to do.

    Raises:
        InvalidSetting: The folder's files can't be read.
        NearvoteError: A task or an example in them can't be right.
    """
    while await store.document(_KIND, tenant, "state") != _DONE:
        lease = await leases.take(tenant, _KIND)
        if lease is not None:
            async with lease.kept():
                return await _load(folder, tenant, store, tasks, curator, progress)
        await leases.wait()
    return 0


async def _load(
    folder: Path, tenant: str, store: DocumentStore, tasks: TaskRegistry, curator: Curator, progress: Progress
) -> int:
    state = await store.document(_KIND, tenant, "state")
    if state == _DONE or (state is None and await tasks.list_all(tenant)):
        return 0
    seeds = _read_tasks(folder)
    files = [(task.name, path) for task in seeds if (path := folder / f"{task.name}.jsonl").is_file()]
    examples = [example for name, path in files for example in _read_examples(path, name)]
    await store.put_document(_KIND, tenant, "state", {"done": False})
    for task in seeds:
        with contextlib.suppress(TaskExists):  # from a former start, or by another replica that starts just now
            try:
                await tasks.create(tenant, task)
            except InvalidTask as error:
                raise error.at(f"tasks.json, task '{task.name}'") from None
    size = min(_CHUNK, curator.limits.max_batch_texts)
    for start in range(0, len(examples), size):
        chunk = examples[start : start + size]
        imported = await curator.import_chunk(tenant, [draft for _, draft in chunk], validate_only=False)
        if imported.rejected:
            first = min(imported.rejected)
            raise imported.rejected[first].at(chunk[first][0])
        progress(start + len(chunk), len(examples))
    await store.put_document(_KIND, tenant, "state", _DONE)
    return len(examples)


def seed_examples(folder: Path) -> list[Draft]:
    """The examples of a folder of seeds.

    Raises:
        InvalidSetting: The folder's files can't be read.
        NearvoteError: An example in them can't be right.
    """
    files = [(task.name, folder / f"{task.name}.jsonl") for task in _read_tasks(folder)]
    return [draft for name, path in files if path.is_file() for _, draft in _read_examples(path, name)]


def _read_tasks(folder: Path) -> list[Task]:
    path = folder / "tasks.json"
    try:
        return [task_from_document(document) for document in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise InvalidSetting(f"{path} can't be read as a list of tasks: {error}", field="seeds_dir") from error


def _read_examples(path: Path, task: str) -> Iterator[tuple[str, Draft]]:
    """Each example with its file and line."""
    with path.open("rb") as lines:
        for number, draft in ExampleFile(lines, task):
            place = f"{path.name}, line {number}"
            if isinstance(draft, NearvoteError):
                raise draft.at(place)
            yield place, draft
