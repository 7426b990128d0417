"""Documents that must stay true."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from nearvote.examples.files import ExampleFile
from nearvote.limits import Limits
from nearvote.seeding import shipped_seeds
from nearvote.settings import Settings
from nearvote.tasks.document import task_from_document
from nearvote.voting.policy import Policy
from tests.bench import scale_report

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_readme_names_every_setting() -> None:
    """The table of settings has each with its default and its description, and no other."""
    table = README[README.index("## Configuration") : README.index("## Metrics")]
    rows = {name: (default, text) for name, default, text in re.findall(r"\| `(\w+)` \| (.*?) \| (.*) \|", table)}
    assert rows.keys() == Settings.model_fields.keys()
    for name, field in Settings.model_fields.items():
        default, text = rows[name]
        assert text == field.description
        if field.default_factory is None:
            shown = str(field.default).lower() if isinstance(field.default, bool) else field.default
            expected = "" if field.default is None else f"`{shown}`"
            assert default.strip() == expected, name


def test_the_readme_names_every_setting_of_a_policy() -> None:
    """The table of policies has each field with its default."""
    table = README[README.index("| setting of a task's policy") :]
    for field in fields(Policy):
        default = getattr(Policy(), field.name)
        shown = f"{default:g}" if isinstance(default, int | float) else "none"
        assert f"| `{field.name}` | {shown} |" in table


def test_the_makefile_has_the_two_commands() -> None:
    """The README's commands are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{command}:" in makefile


TASKS = [task_from_document(document) for document in json.loads((shipped_seeds() / "tasks.json").read_text())]


@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_the_seeds_are_right(task: object) -> None:
    """Every shipped task and example passes the service's own checks, is there once, and has its label defined."""
    seeded = next(one for one in TASKS if one is task)
    limits = Limits()
    seeded.check(max_labels=limits.max_labels, max_k=limits.max_k)
    texts: set[str] = set()
    counts = dict.fromkeys(seeded.label_names, 0)
    with (shipped_seeds() / f"{seeded.name}.jsonl").open("rb") as lines:
        for number, draft in ExampleFile(lines, seeded.name):
            assert not isinstance(draft, Exception), number
            draft.check()
            seeded.check_labels(draft.labels)
            texts.add(" ".join(draft.text.lower().split()))
            for label in draft.labels:
                counts[label] += 1
            for domain in re.findall(r"(?:https?://|@)([\w.-]+\.\w+)", draft.text):
                assert domain.endswith(".example"), number
        assert number == len(texts)
    defined = (shipped_seeds() / "LABELS.md").read_text()
    assert all(f"`{label}`" in defined for label in counts)
    least = {"spam": 200, "abuse": 60, "intent": 25}[seeded.name]
    assert min(counts.values()) >= least
    assert counts.get("none", 300) >= 300
    assert counts.get("out_of_scope", 100) >= 100


def test_the_readme_counts_the_seeds() -> None:
    """The number of shipped examples in the README is the number that there is."""
    total = sum(len((shipped_seeds() / f"{task.name}.jsonl").read_text().splitlines()) for task in TASKS)
    assert f"{total:,} examples" in README


def test_the_page_on_scaling_is_what_its_figures_say() -> None:
    """What is reckoned there is of the figures that are there; `tests.bench.scale --counts` writes it anew."""
    measured = json.loads((ROOT / "docs/scaling.json").read_text())
    performance = json.loads((ROOT / "docs/performance.json").read_text())
    assert (ROOT / "docs/scaling.md").read_text() == scale_report.document(measured, performance)


def test_the_readme_has_no_gaps() -> None:
    """No figure of the README is still to be filled in."""
    assert re.findall(r"\|\s*[A-Z]{2,5}\d?\s*\||^[A-Z]+$", README, re.MULTILINE) == []
