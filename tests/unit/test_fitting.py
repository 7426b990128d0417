"""Learning from a task's examples."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from nearvote.errors import CannotFit
from nearvote.learn.corpus import corpus_of
from nearvote.learn.fitting import Learned, Validation, fit_corpus
from nearvote.learn.goal import Goal, GoalKind
from nearvote.learn.jobs import JobCancelledError
from nearvote.tasks.fit import Fit, as_stored
from nearvote.voting.policy import Action, LabelPolicy, Policy, Rules
from nearvote.voting.pool import Voter
from tests.unit.made_up import Made, accuracy, corpus, easy, replace_windows, scores_of, unit, words

LABELS = ("a", "b", "c")
RULES = Rules(LABELS)


def _report(_done: float, _stage: str) -> None:
    pass


def _fit(
    made: Sequence[Made], rules: Rules = RULES, goal: Goal | None = None, validation: Validation | None = None
) -> Learned:
    return fit_corpus(corpus(made, rules.labels), rules, goal or Goal(), validation, _report, max_k=100)


def _loud(made: Sequence[Made], rng: np.random.Generator, labels: Sequence[str], noise: float = 0.7) -> list[Made]:
    """The same examples, what tells their labels apart in a few of 32 dimensions, noise in all others."""
    rows = noise * rng.standard_normal((len(made), 32))
    truth = [labels.index(one.labels[0]) for one in made]
    rows[:, : len(labels)] = np.eye(len(labels))[truth] + 0.15 * rng.standard_normal((len(made), len(labels)))
    return [replace_windows(one, unit(row[None])) for one, row in zip(made, rows, strict=True)]


def test_an_easy_task() -> None:
    """On texts that it has not seen a fit does no worse than the default policy; its figures are those of the fit."""
    rng = np.random.default_rng(0)
    made, asked = easy(rng, dict.fromkeys(LABELS, 40), windows=3), easy(rng, dict.fromkeys(LABELS, 30), windows=3)
    learned = _fit(made)
    before = accuracy(scores_of(asked, made, RULES), asked, LABELS)
    after = accuracy(scores_of(asked, made, RULES, learned), asked, LABELS)
    assert after >= before >= 0.95
    figures = learned.figures
    assert (figures["example_count"], figures["judged_count"]) == (120, 120)
    assert figures["accuracy"] >= figures["accuracy_before"] >= 0.95
    assert (figures["has_prototypes"], figures["has_metric"]) == (True, learned.in_metric)
    assert learned.policy.pool is not None
    assert sum(learned.policy.pool.weights.values()) > 0


def test_words_alone() -> None:
    """Where vectors say nothing and words all, the fit believes the words."""
    rng = np.random.default_rng(1)
    counts = dict.fromkeys(LABELS, 40)
    made, asked = (
        [replace_windows(one, unit(rng.standard_normal((1, 24)))) for one in easy(rng, counts)] for _ in range(2)
    )
    learned = _fit(made)
    after = accuracy(scores_of(asked, made, RULES, learned), asked, LABELS)
    assert after >= accuracy(scores_of(asked, made, RULES), asked, LABELS)
    assert after > 0.95
    pool = learned.policy.pool
    assert pool is not None
    of_words = pool.weight(Voter.SURFACE) + pool.weight(Voter.SURFACE_PROTOTYPES)
    assert of_words > 2 * sum(map(pool.weight, (Voter.MEANING, Voter.MEANING_PROTOTYPES, Voter.PLAIN_PROTOTYPES)))


def test_the_same_every_time() -> None:
    """The same examples give the same policy, metric, prototypes and figures, in whichever order they are stored."""
    rng = np.random.default_rng(2)
    made = _loud(easy(rng, dict.fromkeys(LABELS, 30), told=0.1), rng, LABELS)
    one, other = _fit(made), _fit(made)
    assert one.policy == other.policy
    assert one.figures == other.figures
    assert one.metric is not None
    assert other.metric is not None
    np.testing.assert_array_equal(one.metric.matrix, other.metric.matrix)
    assert one.prototypes is not None
    assert other.prototypes is not None
    np.testing.assert_array_equal(one.prototypes.surface, other.prototypes.surface)
    np.testing.assert_array_equal(one.prototypes.plain, other.prototypes.plain)


def test_the_metric_where_it_helps() -> None:
    """Where noise hides what tells many labels apart, the metric serves, and new texts gain by it."""
    rng = np.random.default_rng(0)
    labels = tuple(f"l{i:02}" for i in range(20))
    rules = Rules(labels)
    made, asked = (_loud(easy(rng, dict.fromkeys(labels, n), told=0.0), rng, labels, noise=0.5) for n in (8, 5))
    learned = _fit(made, rules)
    assert (learned.in_metric, learned.figures["has_metric"], learned.figures["notes"]) == (True, True, [])
    before = accuracy(scores_of(asked, made, rules), asked, labels)
    after = accuracy(scores_of(asked, made, rules, learned), asked, labels)
    assert after > before + 0.1
    assert learned.figures["accuracy"] == pytest.approx(after, abs=0.1)
    assert learned.figures["calibration_error"] < learned.figures["calibration_error_before"]


def test_no_metric_where_it_does_not_help() -> None:
    """Where plain vectors do as well they stay, and the notes say so."""
    learned = _fit(easy(np.random.default_rng(4), dict.fromkeys(LABELS, 40), noise=0.05))
    assert (learned.in_metric, learned.figures["has_metric"]) == (False, False)
    assert ["plain metric" in note for note in learned.figures["notes"]] == [True]


def test_probabilities_are_right_as_often_as_they_say() -> None:
    """On an uncertain task a fit's scores come nearer to how often they are right, on new texts too."""
    rng = np.random.default_rng(5)
    made, asked = (easy(rng, dict.fromkeys(LABELS, n), noise=0.45, told=0.05) for n in (80, 60))
    learned = _fit(made)
    assert learned.figures["calibration_error"] < 0.08
    assert learned.figures["calibration_error"] < learned.figures["calibration_error_before"]
    scores = scores_of(asked, made, RULES, learned)
    assert float(scores.max(axis=1).mean()) == pytest.approx(accuracy(scores, asked, LABELS), abs=0.08)


def test_one_label_is_too_few() -> None:
    """Where all examples have the same label there is nothing to learn, and that is said."""
    made = easy(np.random.default_rng(6), {"b": 40})
    with pytest.raises(CannotFit, match="same label"):
        _fit(made)
    with pytest.raises(CannotFit, match="same label"):
        _fit(made[:1])


@pytest.mark.parametrize(
    ("counts", "judged"),
    [({"a": 1, "b": 1}, 0), ({f"l{i}": 1 for i in range(77)}, 0), ({"a": 10, "b": 9}, 19)],
)
def test_too_few_to_judge_by(counts: dict[str, int], judged: int) -> None:
    """From a few examples, or one of each label, nothing is learned; the error says how many it takes."""
    with pytest.raises(CannotFit, match=f"only {judged} of {sum(counts.values())} .* 20 are the least"):
        _fit(easy(np.random.default_rng(7), counts), Rules(tuple(counts)))


def _duplicates() -> list[Made]:
    return [Made("win money now", (LABELS[i % 2],), np.eye(8, dtype=np.float32)[:1]) for i in range(40)]


def _one_text_a_label() -> list[Made]:
    return [
        Made(f"text {LABELS[i % 3]}", (LABELS[i % 3],), np.eye(8, dtype=np.float32)[i % 3][None]) for i in range(60)
    ]


def _without_words() -> list[Made]:
    made = easy(np.random.default_rng(8), dict.fromkeys(LABELS, 20))
    return [Made("", one.labels, one.windows) for one in made]


def _without_a_word_in_common() -> list[Made]:
    rng = np.random.default_rng(9)
    made = easy(rng, dict.fromkeys(LABELS, 20))
    return [Made(word, one.labels, one.windows) for word, one in zip(words(rng, 60, size=14), made, strict=True)]


def _of_many_windows() -> list[Made]:
    return easy(np.random.default_rng(10), dict.fromkeys(LABELS, 20), windows=6)


def _one_label_of_one() -> list[Made]:
    return easy(np.random.default_rng(11), {"a": 30, "b": 30, "c": 1})


def _weights_and_sources() -> list[Made]:
    made = easy(np.random.default_rng(12), dict.fromkeys(LABELS, 20))
    return [
        Made(one.text, one.labels, one.windows, weight=(0.001, 1, 100)[i % 3], source="mail")
        for i, one in enumerate(made)
    ]


def _windows_that_cancel_out() -> list[Made]:
    made = easy(np.random.default_rng(13), dict.fromkeys(LABELS, 20))
    return [
        replace_windows(one, np.concatenate([one.windows, -one.windows])) if i % 4 == 0 else one
        for i, one in enumerate(made)
    ]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("goal", [Goal(), Goal(GoalKind.MAX_FALSE_POSITIVES, 0)])
@pytest.mark.parametrize(
    "make",
    [
        _duplicates, _one_text_a_label, _without_words, _without_a_word_in_common, _of_many_windows, _one_label_of_one,
        _weights_and_sources, _windows_that_cancel_out,
    ],
)  # fmt: skip
def test_odd_examples(make: Callable[[], list[Made]], goal: Goal, *, multi_label: bool) -> None:
    """Whatever the examples, a fit is made of numbers, can be stored, and does no worse on them than it did before."""
    made = make()
    rules = Rules((*LABELS, "without"), multi_label, benign_label="b")
    learned = _fit(made, rules, goal)
    assert learned.figures["accuracy"] >= learned.figures["accuracy_before"] - 0.05
    numbers = [value for value in learned.figures.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()
    assert all(0 <= number <= 1 for number in numbers)
    policy, pool = learned.policy, learned.policy.pool
    assert pool is not None
    assert np.isfinite([*pool.weights.values(), *pool.bias.values()]).all()
    floors = [policy.margin_floor, policy.scope_floor, policy.score_threshold]
    floors += [value for own in policy.labels.values() for value in (own.margin_floor, own.score_threshold) if value]
    assert all(0 <= floor <= 1 for floor in floors)
    fit = as_stored(
        Fit(1, learned.metric, learned.in_metric, learned.prototypes, policy, 0, Policy(), 0, learned.figures)
    )
    assert fit.prototypes is not None
    assert all(
        np.isfinite(array).all()
        for array in (fit.prototypes.meaning, fit.prototypes.plain, fit.prototypes.surface, fit.prototypes.meaning_bias)
    )
    assert fit.metric is None or np.isfinite(fit.metric.matrix).all()
    scores = scores_of(made[:5], made, rules, learned)
    assert np.isfinite(scores).all()


def test_several_labels() -> None:
    """In a multi-label task each label is learned for itself; texts of two have both."""
    rng = np.random.default_rng(14)
    made = easy(rng, dict.fromkeys(LABELS, 40))
    one, other = ([m for m in made if m.labels == (label,)] for label in ("a", "b"))
    both = [
        Made(f"{x.text} {y.text}", ("a", "b"), unit(x.windows + y.windows)) for x, y in zip(one, other, strict=True)
    ]
    rules = Rules(LABELS, multi_label=True)
    learned = _fit([*made, *both], rules)
    assert learned.figures["accuracy"] > 0.9
    scores = scores_of(both[:10], [*made, *both], rules, learned)
    thresholds = [learned.policy.score_threshold_of(label) for label in LABELS]
    assert (scores >= thresholds).mean(axis=0).tolist() == pytest.approx([1, 1, 0], abs=0.11)


def test_what_was_set_by_people_stays() -> None:
    """Scores that lead to actions stay as they are, and so does the share that one group may have."""
    labels = {"a": LabelPolicy(review_score=0.4, block_score=0.0)}
    policy = Policy(labels=labels, abstention_action=Action.REVIEW, max_group_share=0.25, class_size_exponent=0.5)
    learned = _fit(easy(np.random.default_rng(15), dict.fromkeys(LABELS, 20)), Rules(LABELS, policy=policy))
    own = learned.policy.labels["a"]
    assert (own.review_score, own.block_score) == (0.4, 0.0)
    kept = (learned.policy.abstention_action, learned.policy.max_group_share, learned.policy.class_size_exponent)
    assert kept == (Action.REVIEW, 0.25, 0.5)


def test_validation_messages_set_the_floors() -> None:
    """Floors are chosen on the messages that are given: those out of scope come to be too far."""
    rng = np.random.default_rng(16)
    made = easy(rng, dict.fromkeys(LABELS, 40))
    inside = easy(rng, dict.fromkeys(LABELS, 15))
    outside = [Made(" ".join(words(rng, 8)), (), unit(rng.standard_normal((1, 24)))) for _ in range(30)]
    texts = corpus([*inside, *[Made(one.text, ("a",), one.windows) for one in outside]], LABELS)
    has = texts.has.copy()
    has[45:] = False
    learned = _fit(made, validation=Validation(texts.texts, has))
    assert learned.figures["judged_count"] == 75
    assert learned.policy.scope_floor > 0.4
    assert (learned.figures["accuracy"], learned.figures["coverage"]) == (pytest.approx(1.0, abs=0.05),) * 2


def test_validation_messages_that_say_little() -> None:
    """A handful of messages, all out of scope or of labels without examples, is taken as well."""
    rng = np.random.default_rng(17)
    made = easy(rng, {"a": 30, "b": 30})
    texts = corpus(easy(rng, {"c": 3}), LABELS)
    for has in (np.zeros((3, 3), np.bool_), texts.has):
        learned = _fit(made, validation=Validation(texts.texts, has))
        assert learned.figures["judged_count"] == 3
        assert learned.policy.pool is not None


def test_progress_grows() -> None:
    """It tells how far it is, from 0 to 1, in words."""
    told: list[tuple[float, str]] = []
    lock = threading.Lock()

    def report(done: float, stage: str) -> None:
        with lock:
            told.append((done, stage))

    made = easy(np.random.default_rng(18), dict.fromkeys(LABELS, 20))
    fit_corpus(corpus(made, LABELS), RULES, Goal(), None, report, max_k=100)
    assert all(0 <= done <= 1 and stage for done, stage in told)
    assert told[-1][0] > 0.8
    assert {"choosing floors", "judging examples"} <= {stage for _, stage in told}


@pytest.mark.parametrize("after", [1, 5, 100])
def test_it_stops_when_told(after: int) -> None:
    """What the report raises comes out, soon, and no thread goes on."""
    calls = 0
    lock = threading.Lock()

    def report(_done: float, _stage: str) -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls >= after:
                raise JobCancelledError

    made = easy(np.random.default_rng(19), dict.fromkeys(LABELS, 20))
    before = threading.active_count()
    with pytest.raises(JobCancelledError):
        fit_corpus(corpus(made, LABELS), RULES, Goal(), None, report, max_k=100)
    assert threading.active_count() <= before
    assert calls <= after + 20


def test_no_examples() -> None:
    """Of no examples nothing is learned, and that is said."""
    with pytest.raises(CannotFit):
        fit_corpus(corpus_of([], LABELS), RULES, Goal(), None, _report, max_k=100)
