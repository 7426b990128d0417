"""Loading the shipped tasks and examples into an empty store."""

import asyncio
import json
from pathlib import Path

import pytest

from nearvote.curate import Curator
from nearvote.errors import InvalidExample, NearvoteError, UnknownLabel
from nearvote.limits import Limits
from nearvote.seeding import load_seeds, shipped_seeds
from nearvote.startup_errors import InvalidSetting
from nearvote.tasks.leases import LEASE_SECONDS, Leases
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.task import Label, Task
from tests.conftest import Desk, OpenDesk

COUNT = 300


class CutShortError(Exception):
    """Stands for a kill in the middle."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks with labels, one of them with 300 examples."""
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    labels = [{"name": "spam"}, {"name": "ham", "description": "What is not spam: Grüße."}]
    tasks = [{"name": name, "labels": labels, "policy": {"k": 7}} for name in ("spam", "empty")]
    (seeds / "tasks.json").write_text(json.dumps(tasks))
    write(seeds, [f"offer number {i}" for i in range(COUNT)])
    return seeds


def write(folder: Path, texts: list[str], label: str = "spam") -> None:
    """Writes the examples of the task `spam`."""
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text in texts]
    (folder / "spam.jsonl").write_text("".join(lines))


@pytest.fixture
async def bare(open_desk: OpenDesk) -> Desk:
    """A desk without tasks."""
    return await open_desk(tasks=[])


async def load(desk: Desk, folder: Path, cut_short_at: int | None = None) -> tuple[int, list[tuple[int, int]]]:
    """Loads seeds, whole or until so many are done; gives how many there were and what was told of the progress."""
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done == cut_short_at:
            raise CutShortError

    leases = Leases(desk.store, now_us=desk.clock.now_us)
    return await load_seeds(folder, desk.tenant, desk.store, desk.tasks, desk.curator, leases, progress), told


async def task_names(desk: Desk) -> list[str]:
    """The tenant's tasks."""
    return [task.name for task in await desk.tasks.list_all(desk.tenant)]


async def test_loads(bare: Desk, folder: Path) -> None:
    """An empty store gets the tasks, with their policies, and all examples; its progress is told up to the end."""
    count, told = await load(bare, folder)
    assert count == COUNT
    assert told == [(128, COUNT), (256, COUNT), (COUNT, COUNT)]
    assert await task_names(bare) == ["empty", "spam"]
    assert (await bare.tasks.get("acme", "spam")).policy.k == 7
    assert (await bare.tasks.get("acme", "spam")).labels[1].description == "What is not spam: Grüße."
    assert (await bare.tasks.class_sizes("acme", "spam")).by_label == {"spam": COUNT}
    assert (await bare.tasks.class_sizes("acme", "empty")).total == 0


async def test_loads_once(bare: Desk, folder: Path) -> None:
    """What was loaded is not loaded again: neither new lines nor what was changed or deleted since."""
    await load(bare, folder)
    await bare.tasks.delete("acme", "empty", force=True)
    (example, *_) = (await bare.browser.list_page("acme", "spam", page_size=1)).examples
    await bare.curator.delete("acme", "spam", example.id)
    write(folder, [f"another {i}" for i in range(5)])
    embedded = bare.encoder.encoded_count
    assert await load(bare, folder) == (0, [])
    assert await task_names(bare) == ["spam"]
    assert (await bare.store.example_count(), bare.encoder.encoded_count) == (COUNT - 1, embedded)


async def test_all_tasks_deleted(bare: Desk, folder: Path) -> None:
    """A store whose tasks were all deleted stays empty."""
    await load(bare, folder)
    for name in ("empty", "spam"):
        await bare.tasks.delete("acme", name, force=True)
    assert await load(bare, folder) == (0, [])
    assert await task_names(bare) == []


async def test_tasks_of_its_own(bare: Desk, folder: Path) -> None:
    """A store with tasks of its own is left as it is, now and when they are gone from the folder's point of view."""
    await bare.tasks.create("acme", Task("own", (Label("a"),)))
    assert await load(bare, folder) == (0, [])
    assert await task_names(bare) == ["own"]
    assert await bare.store.example_count() == 0


async def test_each_tenant(bare: Desk, folder: Path) -> None:
    """Another tenant's tasks are nobody's reason not to load."""
    await bare.tasks.create("other", Task("own", (Label("a"),)))
    assert (await load(bare, folder))[0] == COUNT


async def test_goes_on(bare: Desk, folder: Path) -> None:
    """Cut short in the middle, the next start embeds the rest only, and has them all."""
    with pytest.raises(CutShortError):
        await load(bare, folder, cut_short_at=256)
    assert bare.encoder.encoded_count == 256
    count, told = await load(bare, folder)
    assert (count, told[-1]) == (COUNT, (COUNT, COUNT))
    assert bare.encoder.encoded_count == COUNT
    assert await bare.store.example_count() == COUNT
    assert await load(bare, folder) == (0, [])


@pytest.mark.parametrize("tasks", ["{", '{"name": "spam"}', "[1]", "null", '[{"labels": []}]', None])
async def test_unreadable_tasks(bare: Desk, folder: Path, tasks: str | None) -> None:
    """A folder without a readable list of tasks is refused by its setting's name."""
    (folder / "tasks.json").unlink()
    if tasks is not None:
        (folder / "tasks.json").write_text(tasks)
    with pytest.raises(InvalidSetting, match=r"tasks\.json") as caught:
        await load(bare, folder)
    assert caught.value.field == "seeds_dir"


async def test_nothing_begun(bare: Desk, folder: Path, tmp_path: Path) -> None:
    """A folder that could not be read has begun nothing: tasks made since then are the store's own."""
    with pytest.raises(InvalidSetting):
        await load(bare, tmp_path / "nowhere")
    await bare.tasks.create("acme", Task("own", (Label("a"),)))
    assert await load(bare, folder) == (0, [])
    assert await task_names(bare) == ["own"]


async def test_bad_line(bare: Desk, folder: Path) -> None:
    """A line that is no example is refused by file and line before anything is stored, and loads once it is mended."""
    lines = (folder / "spam.jsonl").read_text().splitlines()
    (folder / "spam.jsonl").write_text("\n".join([*lines[:200], '{"label": "spam"}', *lines[200:]]))
    with pytest.raises(InvalidExample) as caught:
        await load(bare, folder)
    assert "spam.jsonl, line 201" in where(caught.value)
    assert (await bare.store.example_count(), await task_names(bare)) == (0, [])
    write(folder, ["mended"])
    assert (await load(bare, folder))[0] == 1


async def test_bad_example(bare: Desk, folder: Path) -> None:
    """An example that its task can't have is refused by file and line."""
    with (folder / "spam.jsonl").open("a") as file:
        file.write('{"text": "a", "label": "spma"}\n')
    with pytest.raises(UnknownLabel) as caught:
        await load(bare, folder)
    assert f"spam.jsonl, line {COUNT + 1}" in where(caught.value)


def where(error: NearvoteError) -> str:
    """All that an error tells of its place."""
    return f"{error.field} {error.message}"


async def test_small_batches(open_desk: OpenDesk, folder: Path) -> None:
    """A service that takes small batches only loads its seeds nevertheless."""
    desk = await open_desk(tasks=[], limits=Limits(max_batch_texts=50))
    assert (await load(desk, folder))[0] == COUNT
    assert await desk.store.example_count() == COUNT


def test_shipped() -> None:
    """The seeds that ship are found from a source tree."""
    assert (shipped_seeds() / "tasks.json").is_file()


async def start(desk: Desk, folder: Path) -> int:
    """Loads seeds as one of several replicas, which waits for the others when it must. Gives how many it loaded."""
    tasks = TaskRegistry(desk.store, Limits(), now_us=desk.clock.now_us, monotonic=desk.clock.monotonic)
    curator = Curator(desk.embedder, desk.store, tasks, Limits(), desk.clock.now_us)

    async def pause(_: float) -> None:
        desk.clock.advance(0.1)
        await asyncio.sleep(0)

    leases = Leases(desk.store, now_us=desk.clock.now_us, pause=pause)
    return await load_seeds(folder, "acme", desk.store, tasks, curator, leases, lambda _done, _total: None)


async def test_replicas_that_start_together(bare: Desk, folder: Path) -> None:
    """Of ten replicas that start at once one loads the seeds, each embedded once; all have them when they go on."""
    loaded = await asyncio.gather(*(start(bare, folder) for _ in range(10)))
    assert sorted(loaded) == [0] * 9 + [COUNT]
    assert bare.encoder.encoded_count == COUNT


async def test_a_replica_that_dies_as_it_loads(bare: Desk, folder: Path) -> None:
    """When the replica that loads the seeds dies, another goes on when its lease has run out."""
    with pytest.raises(CutShortError):
        await load(bare, folder, cut_short_at=128)
    assert await Leases(bare.store, now_us=bare.clock.now_us).take("acme", "seeds") is not None  # and was killed
    began = bare.clock.seconds
    loaded = await asyncio.gather(*(start(bare, folder) for _ in range(3)))
    assert sorted(loaded) == [0, 0, COUNT]
    assert bare.clock.seconds - began >= LEASE_SECONDS
    assert bare.encoder.encoded_count == COUNT
