"""Sources that contradict the rest."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import fisher_exact

from nearvote.learn.check import check_examples
from nearvote.learn.finding import Finding, FindingKind
from nearvote.learn.leave_one_out import OwnSource, judged_by_others, labels_of
from nearvote.learn.sources import MIN_JUDGED, contradicting_sources, fisher_greater
from nearvote.voting.policy import LabelPolicy, Policy, Rules
from tests.unit.made_up import Made, corpus, easy, unit, words

LABELS = ("a", "b")
RULES = Rules(LABELS)


def _other(made: Made) -> Made:
    return replace(made, labels=("b",) if made.labels == ("a",) else ("a",))


def _made(counts: dict[str, int], seed: int = 0) -> list[Made]:
    """Clean examples of sources, so many of each."""
    total = sum(counts.values())
    every = easy(np.random.default_rng(seed), {"a": total, "b": total})
    names = [name for name, count in counts.items() for _ in range(count)]
    return [replace(one, source=name) for one, name in zip(every, names, strict=False)]


def _found(made: list[Made], rules: Rules = RULES) -> list[Finding]:
    examples = corpus(made, rules.labels)
    return contradicting_sources(examples, rules, judged_by_others(examples, rules))


def test_clean_sources() -> None:
    """Sources that agree are not told."""
    assert _found(_made({"x": 30, "y": 30, "z": 30, "": 30})) == []


def test_a_source_with_wrong_labels() -> None:
    """A source whose labels the rest contradicts is told, with its share and that of all others; the others are not."""
    made = [_other(one) if one.source == "bad" else one for one in _made({"seed": 100, "bad": 30, "good": 30})]
    (found,) = _found(made)
    assert (found.kind, found.source, found.judged_count) == (FindingKind.CONTRADICTING_SOURCE, "bad", 30)
    assert found.value == 1.0
    assert found.rest_value < 0.2
    assert (found.example_id, found.labels, found.text) == ("", (), "")
    told = [one for one in check_examples(corpus(made, LABELS), RULES) if one.kind is FindingKind.CONTRADICTING_SOURCE]
    assert told == [found]


def test_the_most_contradicted_first() -> None:
    """Of several such sources the worst comes first."""
    made = _made({"seed": 120, "worse": 20, "bad": 30})
    third = [i for i, one in enumerate(made) if one.source == "bad"][::3]
    made = [
        _other(one) if one.source == "worse" or (one.source == "bad" and i not in third) else one
        for i, one in enumerate(made)
    ]
    found = _found(made)
    assert [one.source for one in found] == ["worse", "bad"]
    assert found[0].value > found[1].value


def test_a_source_can_not_speak_for_itself() -> None:
    """Near-copies of its own do not make a source right: others alone judge it."""
    made = _made({"seed": 100})
    campaign = [replace(_other(one), source="bad") for one in made[:12] for _ in range(3)]
    rng = np.random.default_rng(1)
    campaign = [replace(one, windows=unit(one.windows + 0.001 * rng.standard_normal((1, 24)))) for one in campaign]
    found = _found([*made, *campaign])
    assert [one.source for one in found] == ["bad"]


def test_a_source_at_odds_with_itself() -> None:
    """What a source says as the rest does is no contradiction of the rest, though its own other examples outvote it."""
    rng = np.random.default_rng(5)
    place = np.zeros((1, 24))
    place[0, 0] = place[0, 22] = 1

    def here(label: str, source: str, weight: float, count: int) -> list[Made]:
        return [
            Made(" ".join(words(rng, 8)), (label,), unit(place + 0.001 * rng.standard_normal((1, 24))), weight, source)
            for _ in range(count)
        ]

    made = [*_made({"seed": 60}), *here("a", "", 1.0, 5), *here("a", "x", 1.0, 12), *here("b", "x", 3.0, 10)]
    assert _found(made, replace(RULES, policy=Policy(k=40, max_group_share=1.0, surface_weight=0.0))) == []


def test_few_examples_say_nothing() -> None:
    """A source of fewer than ten examples is not told, however wrong; one of ten is."""
    for count, names in ((MIN_JUDGED - 1, []), (MIN_JUDGED, ["bad"])):
        made = [_other(one) if one.source == "bad" else one for one in _made({"seed": 100, "bad": count})]
        assert [one.source for one in _found(made)] == names


def test_the_many_are_not_blamed() -> None:
    """A source of most examples is not told for what others say against it; these are."""
    made = [_other(one) if one.source == "bad" else one for one in _made({"seed": 60, "bad": 40})]
    assert [one.source for one in _found(made)] == ["bad"]


def test_examples_without_a_source_are_nobodys() -> None:
    """Wrong labels without a source are not laid at anybody's door."""
    made = [_other(one) if one.source == "" else one for one in _made({"seed": 100, "": 30})]
    assert _found(made) == []


def test_what_may_be_chance_is_not_told() -> None:
    """Twice as often contradicted as the rest is no finding where a few examples more or less make it so."""
    made = _made({"seed": 100, "few": 12})
    wrong = {"seed": 5, "few": 3}
    for i, one in enumerate(made):
        if wrong[one.source]:
            wrong[one.source] -= 1
            made[i] = _other(one)
    examples = corpus(made, LABELS)
    judged = judged_by_others(examples, RULES)
    assert contradicting_sources(examples, RULES, judged) == []


def test_chance_is_not_told() -> None:
    """In a task where labels mean nothing, no source is told, although about half of all examples are contradicted."""
    rng = np.random.default_rng(3)
    told = 0
    for seed in range(6):
        made = _made({"u": 40, "v": 40, "w": 40, "x": 40}, seed)
        made = [replace(one, labels=(LABELS[int(rng.integers(2))],)) for one in made]
        told += len(_found(made))
    assert told == 0


def test_what_the_rest_knows_nothing_about_is_not_judged() -> None:
    """Examples far from all others are no contradiction, nor those that a source has much of its own to say about."""
    made = _made({"seed": 60})
    away = np.zeros((1, 24), np.float32)
    away[0, 20], away[0, 0] = 1, 0.3  # what little they resemble is label a
    rng = np.random.default_rng(4)
    new = [
        Made("xq zzk", ("b",), unit(away + 0.01 * np.abs(rng.standard_normal((1, 24)))), source="new")
        for i in range(30)
    ]
    assert _found([*made, *new], replace(RULES, policy=Policy(similarity_floor=0.5))) == []
    strict = replace(RULES, policy=Policy(similarity_floor=-1.0))
    assert [one.source for one in _found([*made, *new], strict)] == ["new"]
    # What it says in many words and alike it knows; the same words again and again are no more than once.
    many = [replace(one, text=" ".join(words(rng, 8))) for one in new]
    assert _found([*made, *many], strict) == []


@pytest.mark.parametrize(
    ("k", "n", "c", "m"), [(9, 10, 2, 90), (3, 10, 30, 100), (0, 5, 3, 9), (5, 5, 0, 40), (40, 60, 300, 2000)]
)
def test_fishers_exact_test(k: int, n: int, c: int, m: int) -> None:
    """The chance is that of SciPy's one-sided test."""
    expected = fisher_exact([[k, n - k], [c, m - c]], alternative="greater").pvalue
    assert fisher_greater(k, n, c, m) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_judged_by_other_sources_only() -> None:
    """Examples of one source have no vote on one another; those without a source do."""
    vectors = unit(np.array([[1, 0.01], [1, 0.02], [1, 0.5], [1, 0.6]]))
    made = [
        Made("one", ("a",), vectors[:1], source="x"),
        Made("two", ("a",), vectors[1:2], source="x"),
        Made("three", ("b",), vectors[2:3]),
        Made("four", ("b",), vectors[3:]),
    ]
    rules = replace(RULES, policy=Policy(surface_weight=0.0, max_group_share=1.0))
    examples = corpus(made, LABELS)
    places = np.array([0, 2], np.int64)
    apart = judged_by_others(examples, rules, places, own_source=OwnSource.SILENT)
    assert apart.scores[0].tolist() == [0.0, 1.0]
    assert 0 < apart.scores[1][0] < 1
    assert apart.nearest[0] == pytest.approx(float(vectors[0] @ vectors[2]), abs=1e-5)
    together = judged_by_others(examples, rules, places)
    assert together.scores[0][0] > 0.5
    alone = judged_by_others(corpus(made[:2], LABELS), rules, own_source=OwnSource.SILENT)
    assert alone.scores.tolist() == [[0.0, 0.0]] * 2


def test_the_labels_that_scores_give() -> None:
    """The best label; in a multi-label task those that reach their thresholds, else the benign one; no vote, none."""
    scores = np.array([[0.6, 0.4], [0.2, 0.3], [0.0, 0.0]], np.float32)
    assert labels_of(scores, RULES).tolist() == [[True, False], [False, True], [False, False]]
    policy = Policy(score_threshold=0.5, labels={"c": LabelPolicy(score_threshold=0.2)})
    rules = Rules(("a", "b", "c"), multi_label=True, benign_label="b", policy=policy)
    scores = np.array([[0.6, 0.9, 0.3], [0.4, 0.1, 0.1], [0.0, 0.0, 0.0]], np.float32)
    assert labels_of(scores, rules).tolist() == [[True, False, True], [False, True, False], [False, False, False]]
    without = replace(rules, benign_label="")
    assert labels_of(scores, without)[1].tolist() == [False, False, False]
