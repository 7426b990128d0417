"""What is doubtful about a task's examples."""

from dataclasses import replace

import numpy as np
import pytest

from nearvote.learn.check import MIN_EXAMPLES, check_examples
from nearvote.learn.corpus import corpus_of
from nearvote.learn.finding import Finding, FindingKind
from nearvote.voting.policy import Policy, Rules
from tests.unit.made_up import Made, corpus, easy, unit, words

LABELS = ("a", "b")
RULES = Rules(LABELS)


def _clean() -> list[Made]:
    """Examples about which nothing is doubtful."""
    return easy(np.random.default_rng(0), {"a": 20, "b": 20})


def _found(made: list[Made], rules: Rules = RULES, kind: FindingKind | None = None) -> list[Finding]:
    found = check_examples(corpus(made, rules.labels), rules)
    return [one for one in found if kind is None or one.kind is kind]


def test_nothing_is_doubtful() -> None:
    """Of clean examples there is nothing to say."""
    assert _found(_clean()) == []


@pytest.mark.parametrize("other", ["WIN  money\n now", "win money now "])
def test_one_text_twice(other: str) -> None:
    """Texts that differ in case and spaces alone are duplicates, whatever their labels, and not told twice."""
    made = _clean()
    direction = np.eye(24, dtype=np.float32)[-1:]
    made += [Made("Win money now", ("a",), direction), Made(other, ("b",), direction)]
    (found,) = [one for one in _found(made) if one.kind is not FindingKind.CONTRADICTED]
    assert (found.kind, found.example_id, found.other_id) == (FindingKind.DUPLICATE, "00040", "00041")
    assert (found.labels, found.other_labels, found.value) == (("a",), ("b",), 1.0)
    assert (found.text, found.other_text) == ("Win money now", other)


def test_duplicates_that_do_harm_come_first() -> None:
    """Of duplicates those with different labels are told first."""
    made = _clean()
    vectors = np.eye(24, dtype=np.float32)[-2:]
    made += [Made(text, ("a",), vectors[:1]) for text in ("Win money now", "win money now")]
    made += [Made("Lunch now", ("a",), vectors[1:]), Made("lunch now", ("b",), vectors[1:])]
    found = _found(made, kind=FindingKind.DUPLICATE)
    assert [(one.text, one.labels == one.other_labels) for one in found] == [
        ("Lunch now", False),
        ("Win money now", True),
    ]


def test_near_copies_of_different_labels() -> None:
    """Texts that are nearly the same in words or in meaning conflict where they have no label in common."""
    rng = np.random.default_rng(1)
    said = words(rng, 30)
    direction = unit(rng.standard_normal((1, 24)))
    far = unit(rng.standard_normal((1, 24)))
    for pair in (
        [Made(" ".join(said), ("a",), direction), Made(" ".join([*said, "ok"]), ("b",), far)],
        [Made("one thing", ("a",), direction), Made("another 12345", ("b",), unit(direction + 0.01))],
    ):
        (found,) = _found([*_clean(), *pair], kind=FindingKind.CONFLICTING_NEAR_DUPLICATE)
        assert (found.example_id, found.other_id) == ("00040", "00041")
        assert (found.labels, found.other_labels) == (("a",), ("b",))
        assert 0.9 <= found.value <= 1
        same = [pair[0], replace(pair[1], labels=("a",))]
        assert _found([*_clean(), *same], kind=FindingKind.CONFLICTING_NEAR_DUPLICATE) == []
        both = [pair[0], replace(pair[1], labels=("a", "b"))]
        shared = _found([*_clean(), *both], replace(RULES, multi_label=True), FindingKind.CONFLICTING_NEAR_DUPLICATE)
        assert shared == []


def test_a_label_that_the_neighbours_contradict() -> None:
    """An example among those of another label is told, with the label that they would give, the surest first."""
    made = _clean()
    wrong = next(i for i, one in enumerate(made) if one.labels == ("a",))
    made[wrong] = replace(made[wrong], labels=("b",))
    (found,) = _found(made)
    assert (found.kind, found.example_id) == (FindingKind.CONTRADICTED, f"{wrong:05}")
    assert (found.labels, found.other_labels, found.other_id) == (("b",), ("a",), "")
    assert 0.9 <= found.value <= 1
    second = next(i for i, one in enumerate(made) if one.labels == ("b",) and i != wrong)
    made[second] = replace(made[second], labels=("a",))
    values = [one.value for one in _found(made)]
    assert len(values) == 2
    assert values == sorted(values, reverse=True)


def test_labels_of_few_examples() -> None:
    """Labels of fewer than five examples are told, those of none too, the fewest first."""
    rng = np.random.default_rng(2)
    rules = Rules(("a", "b", "c", "d", "e"))
    made = easy(rng, {"a": 20, "b": 20, "c": MIN_EXAMPLES, "d": MIN_EXAMPLES - 1})
    found = _found(made, rules, FindingKind.FEW_EXAMPLES)
    assert [(one.labels, one.value, one.example_id) for one in found] == [(("e",), 0.0, ""), (("d",), 4.0, "")]


def test_the_policy_of_the_task_counts() -> None:
    """Neighbours are asked as the task's policy asks them: with all voters alike nobody is sure."""
    made = _clean()
    wrong = next(i for i, one in enumerate(made) if one.labels == ("a",))
    made[wrong] = replace(made[wrong], labels=("b",))
    even = Policy(k=200, temperature=10.0, surface_exponent=0.0, surface_weight=0.0)
    assert _found(made, replace(RULES, policy=even)) == []


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("multi_label", [False, True])
def test_next_to_no_examples(count: int, *, multi_label: bool) -> None:
    """Of few examples only the labels are told, in order."""
    made = _clean()[:count]
    rules = replace(RULES, multi_label=multi_label)
    found = check_examples(corpus_of([], LABELS) if not made else corpus(made, LABELS), rules)
    assert {one.kind for one in found if one.kind is not FindingKind.CONTRADICTED} == {FindingKind.FEW_EXAMPLES}
    assert sum(one.value for one in found if one.kind is FindingKind.FEW_EXAMPLES) == count


def test_texts_without_anything() -> None:
    """Empty texts are one text, and nothing else is said of their words."""
    made = [Made("", ("a",), one.windows) for one in easy(np.random.default_rng(3), {"a": 6})]
    kinds = [one.kind for one in _found(made, Rules(("a",)))]
    assert kinds == [FindingKind.DUPLICATE] * 5
