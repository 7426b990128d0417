"""What else is measured: spam in disguise, identity terms swapped, and HateCheck by functionality."""

import tempfile
from collections.abc import Sequence

import numpy as np
from tests.bench import figures, sets
from tests.bench.sets import Split
from tests.obfuscate import OBFUSCATORS

from nearvote.embedding.encoder import Encoder
from nearvote.evaluate import Bench, Expected, fit, load, outcomes_of
from nearvote.examples.example import Draft
from nearvote.examples.files import ExampleFile
from nearvote.learn.goal import Goal
from nearvote.learn.report import Outcome
from nearvote.seeding import shipped_seeds
from nearvote.settings import read_settings
from nearvote.tasks.task import Label, Task
from nearvote.wiring import parts_of

_TASK = "abuse"


async def of_task(split: Split, bench: Bench, task: Task) -> dict[str, float]:
    """Figures that need the fitted task: of spam that is found, the share that is found in disguise, too."""
    if split.name != "sms":
        return {}
    spam = [row.text for row in split.messages if row.label == "spam"]
    plain = await _found(bench, task, spam)
    return {
        f"recall under {name}, of plain": await _found(
            bench, task, [obfuscate(text, np.random.default_rng([split.draw, i])) for i, text in enumerate(spam)]
        )
        / plain
        for name, obfuscate in OBFUSCATORS.items()
    }


async def _found(bench: Bench, task: Task, texts: Sequence[str]) -> float:
    outcomes = await outcomes_of(bench, task, [Expected(text, ("spam",)) for text in texts], _quiet)
    return float(np.mean([one.prediction.label == "spam" for one in outcomes]))


async def everything(encoder: Encoder) -> dict[str, str]:
    """Sections of their own, by title."""
    rows = sets.rows_of("hatexplain")
    public = [Draft(_TASK, row.text, (row.label,)) for row in rows if row.split == "train"]
    told = {"normal": "none", "offensive": "abusive", "hatespeech": "abusive"}
    together = [Draft(_TASK, one.text, (told[one.labels[0]],)) for one in public]
    with (shipped_seeds() / "abuse.jsonl").open("rb") as lines:
        for _, draft in ExampleFile(lines, _TASK):
            if isinstance(draft, Draft):
                together.append(Draft(_TASK, draft.text, ("none" if draft.labels == ("none",) else "abusive",)))
    examples = list({draft.text: draft for draft in together}.values())
    labels = (Label("abusive"), Label("none"))
    task = Task(_TASK, labels, benign_label="none")
    hate, clean = sets.rows_of("hatecheck"), sets.rows_of("wiki_toxicity")
    swapped = sets.rows_of("wiki_toxicity", "fuzzed.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings({"data_dir": folder, "seeds": False})
        async with parts_of(settings, lambda _done, _total: None, encoder=encoder) as parts:
            bench = Bench(parts.now.curator, parts.now.tasks, parts.now.learner, parts.now.classifier)
            await load(bench, task, examples, _quiet)
            await fit(bench, _TASK, Goal(), _quiet)
            fitted = await parts.now.tasks.get("default", _TASK)
            checked = await outcomes_of(bench, fitted, [Expected(r.text, ("abusive",), r.group) for r in hate], _quiet)
            twins = [
                await outcomes_of(bench, fitted, [Expected(row.text, ("none",)) for row in some], _quiet)
                for some in (clean, swapped)
            ]
    return {
        "HateCheck, by functionality": _hatecheck(checked, [row.label for row in hate]),
        "Identity terms swapped": _swapped(*twins),
    }


def _hatecheck(outcomes: Sequence[Outcome], truth: Sequence[str]) -> str:
    given = ["hateful" if one.prediction.label == "abusive" else "non-hateful" for one in outcomes]
    lines = [
        "Examples: the training texts of hatexplain and the shipped seeds for abuse, as one fitted task of two labels.",
        f"Macro-F1 {figures.macro_f1(truth, given):.3f} (aim .70; an abstention counts as not hateful).",
        "",
        "| functionality | messages | right |",
        "|---|---|---|",
    ]
    groups = [one.group for one in outcomes]
    for group in sorted(set(groups)):
        own = [given[i] == truth[i] for i in range(len(groups)) if groups[i] == group]
        lines.append(f"| {group} | {len(own)} | {np.mean(own):.2f} |")
    return "\n".join(lines)


def _swapped(plain: Sequence[Outcome], swapped: Sequence[Outcome]) -> str:
    change = np.abs(
        [
            one.prediction.scores["abusive"] - other.prediction.scores["abusive"]
            for one, other in zip(plain, swapped, strict=True)
        ]
    )
    return (
        "The same task on comments of wiki_toxicity and on their twins, in which identity terms are swapped.\n"
        f"Change of the score of abuse, mean absolute: {change.mean():.3f} (aim: under .05); of the\n"
        f"{int((change > 0).sum())} comments of {len(change)} whose score changes at all: "
        f"{change[change > 0].mean():.3f}."
    )


def _quiet(_what: str, _done: int, _total: int) -> None:
    pass
