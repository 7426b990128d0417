"""What another encoder changes on the examples."""

from dataclasses import replace
from pathlib import Path

from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.example import Example, example_id
from nearvote.examples.spaces import create_space, open_store
from nearvote.reindex.comparison import compare
from nearvote.reindex.status import Changed, Compared, Phase, Status
from nearvote.rpc.reindex_wire import status_to_wire
from nearvote.tasks.document import task_to_document
from nearvote.tasks.task import Label, Task
from nearvote.voting.policy import Policy
from tests.contract.reindexed import NEW, NEW_SPACE, OLD, OLD_SPACE, put

# To an encoder that counts letters an anagram is the same; to one that looks at words it is another text.
TEXTS = {"stone rats": "a", "stone rats go": "a", "notes star": "b", "notes star go": "b"}
TASK = Task("words", (Label("a"), Label("b")), policy=Policy(k=1, surface_weight=0.0, max_group_share=1.0))


def _example(text: str, label: str, task: str) -> Example:
    return Example(example_id("acme", task, text), "acme", task, text, (label,), 1.0, "", 1, 1)


async def test_accuracy_and_changes(data_folder: Path) -> None:
    """Both accuracies are those of each example by the others, and what changes is shown with both answers."""
    engine = EdgeEngine(data_folder / "data")
    try:
        old = await open_store(engine, OLD_SPACE)
        new = await create_space(engine, NEW_SPACE, state="nearvote_state_new")
        examples = [_example(text, label, "words") for text, label in TEXTS.items()]
        alone = _example("nobody else", "a", "alone")
        fitted = [_example(text, label, "fitted") for text, label in TEXTS.items()]
        for store, encoder in ((old, OLD), (new, NEW)):
            await put(store, encoder, [*examples, alone, *fitted])
        late = _example("it came a moment ago", "a", "words")
        await put(old, OLD, [late])
        tasks = [TASK, replace(TASK, name="alone"), replace(TASK, name="fitted", fit_version=3)]
        for task in tasks:
            await old.put_document("task", "acme", task.name, task_to_document(task))
        one_fitted, one = await compare(old, new)
    finally:
        await engine.close()
    assert (one.tenant, one.task, one.judged_count, one.is_fitted) == ("acme", "words", 4, False)
    assert (one.accuracy_before, one.accuracy_after, one.changed_count) == (1.0, 0.0, 4)
    assert min(one.changed, key=lambda changed: changed.text) == Changed(
        example_id("acme", "words", "notes star"), "notes star", ("b",), ("b",), ("a",)
    )
    assert (one_fitted.task, one_fitted.is_fitted) == ("fitted", True)


def test_changes_fit_into_an_answer() -> None:
    """Of long texts fewer changes are shown, so that any gRPC client takes the answer; all are still counted."""
    changed = tuple(Changed(str(i), "a" * 60_000, ("a",), ("b",), ("a",)) for i in range(100))
    compared = tuple(
        Compared("acme", name, 200, 0.5, 0.5, 150, changed[:shown], is_fitted=False)
        for name, shown in (("long", 100), ("few", 1))
    )
    long, few = status_to_wire(Status(Phase.READY, compared=compared), "acme").comparisons
    assert long.ByteSize() + few.ByteSize() < 3 * 2**20
    assert (long.changed_count, long.changed[0].example_id, len(few.changed)) == (150, "0", 1)
    assert len(long.changed) > 10
