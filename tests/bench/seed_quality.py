"""What the shipped seeds alone make of two public sets they were not written from.

    python -m tests.bench.seed_quality

Sets are found by NEARVOTE_EVAL_DATA (default ../shared/data). An abstention counts as the benign answer; beside it
stands what the votes say when nobody abstains.
"""

import json
import tempfile
from collections.abc import Sequence

from tests.bench.sets import DATA, measure_with

from nearvote.access.caller import DEFAULT_TENANT
from nearvote.classify import Classification, Options
from nearvote.settings import read_settings
from nearvote.wiring import Parts, parts_of

CHUNK = 64


def read(name: str) -> list[tuple[str, str]]:
    """Texts and labels of a set, without duplicates: texts equal but for case and white space."""
    rows: dict[str, tuple[str, str]] = {}
    with (DATA / name / "data.jsonl").open() as lines:
        for line in lines:
            row = json.loads(line)
            rows.setdefault(" ".join(row["text"].lower().split()), (row["text"], row["label"]))
    return list(rows.values())


def f1(given: Sequence[bool], right: Sequence[bool]) -> float:
    """Harmonic mean of precision and recall."""
    hits = sum(a and b for a, b in zip(given, right, strict=True))
    return 2 * hits / max(1, sum(given) + sum(right))


async def classify(parts: Parts, texts: Sequence[str], task: str) -> list[Classification]:
    """All texts, chunk by chunk."""
    found: list[Classification] = []
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        found += await parts.now.classifier.classify(DEFAULT_TENANT, chunk, [task], Options(neighbor_limit=0))
    return found


async def main() -> None:
    """Prints both."""
    with tempfile.TemporaryDirectory() as folder:
        async with parts_of(read_settings({"data_dir": folder}), lambda _done, _total: None) as parts:
            for name, task, benign, positive in (
                ("sms_spam_collection", "spam", "ham", "spam"),
                ("hatecheck", "abuse", "none", "hateful"),
            ):
                rows = read(name)
                predictions = [c.predictions[0] for c in await classify(parts, [text for text, _ in rows], task)]
                right = [label == positive for _, label in rows]
                answered = [bool(p.labels) and benign not in p.labels for p in predictions]
                voted = [1 - p.scores[benign] >= 0.5 for p in predictions]
                coverage = sum(not p.abstained for p in predictions) / len(predictions)
                for how, given in (("as answered", answered), ("nobody abstaining", voted)):
                    other = f1([not g for g in given], [not r for r in right])
                    own = f1(given, right)
                    print(
                        f"{name}, {how}: F1 of {positive} {own:.3f}, macro-F1 {(own + other) / 2:.3f}"
                        f" ({len(rows)} texts, {coverage:.0%} answered)"
                    )


if __name__ == "__main__":
    measure_with(main)
