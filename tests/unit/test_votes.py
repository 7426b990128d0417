"""Votes in bulk: the arithmetic of learning beside the path that a message takes."""

from dataclasses import replace

import numpy as np
import pytest

from nearvote.examples.example import Draft
from nearvote.examples.store import SearchQuery
from nearvote.learn.corpus import Corpus, Matrix, corpus_of, texts_of
from nearvote.learn.pooling import learn_pool, log_score, pooled_scores, scope_scores
from nearvote.learn.votes import (
    Candidates,
    count,
    fuse,
    meaning_candidates,
    meaning_kernel,
    seated,
    surface_candidates,
    surface_kernel,
)
from nearvote.text.surface import MAX_SEARCHED, surface_vector
from nearvote.voting.ballot import count_votes
from nearvote.voting.neighbor import View
from nearvote.voting.policy import Policy, Rules
from nearvote.voting.pool import Pool, Voter
from nearvote.voting.seats import OVERSAMPLING, is_near_duplicate
from tests.conftest import OpenDesk
from tests.unit.made_up import Made, corpus, neighbors_of, sizes_of, unit, words

LABELS = ("a", "b", "c", "unused")


def _plain(vectors: Matrix) -> Matrix:
    return vectors


def _random(rng: np.random.Generator, count_: int, *, multi_label: bool, tied: bool = False) -> list[Made]:
    """Examples of every kind: of several windows, weights, sources and campaigns, some without a word in common."""
    vocabulary = words(rng, 25)
    made: list[Made] = []
    for i in range(count_):
        size = int(rng.integers(1, 4))
        if tied:  # four elements of a half: many similarities are the same to the last digit
            windows = np.zeros((size, 16), np.float32)
            for row in windows:
                row[rng.choice(16, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
        else:
            windows = unit(rng.standard_normal((size, 12)))
        text = " ".join(rng.choice(vocabulary, 7))
        if i % 5 == 0 and i:  # one campaign: a text with another word at its end, near in meaning
            text = f"{made[0].text} {made[0].text} campaign with many words that are the same {i % 3}"
            if not tied:
                windows = unit(made[0].windows[:1] + 0.01 * rng.standard_normal((1, 12)))
        if i % 11 == 3:
            text = f"{i}"
        having = [label for label in LABELS[:3] if rng.random() < 0.4] if multi_label else []
        labels = tuple(having or [LABELS[int(rng.integers(3))]])
        weight = float(rng.choice([0.1, 1.0, 1.0, 3.0]))
        made.append(Made(text, labels, windows, weight, source=str(rng.choice(["", "", "mail", "forum"]))))
    return made


def _bulk(
    judged: Corpus, examples: Corpus, policy: Policy, *, multi_label: bool
) -> tuple[Candidates, dict[Voter, Matrix]]:
    """Neighbours in the meaning view, those without a seat left out, and what each view says."""
    width = min(len(examples), policy.k * OVERSAMPLING)
    votes, voters = {}, None
    for voter, candidates, weigh in (
        (
            Voter.MEANING,
            meaning_candidates(judged.texts, examples, width, own=None, project=_plain),
            meaning_kernel(policy.temperature),
        ),
        (
            Voter.SURFACE,
            surface_candidates(judged.texts, examples, width, own=None),
            surface_kernel(policy.surface_exponent),
        ),
    ):
        seats = seated(candidates, examples, policy.k, policy.max_group_share)
        votes[voter] = count(
            candidates,
            seats,
            examples,
            weigh,
            class_size_exponent=policy.class_size_exponent,
            multi_label=multi_label,
        )
        similarity = np.where(seats, candidates.similarity, -np.inf).astype(np.float32)
        voters = voters or Candidates(candidates.places, similarity)
    assert voters is not None
    return voters, votes


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("policy", "tied"),
    [
        (Policy(), False),
        (Policy(k=3, max_group_share=0.5, class_size_exponent=0.5), False),
        (Policy(k=8, max_group_share=0.0, surface_weight=1.0, surface_exponent=2.0), False),
        (Policy(k=200, temperature=0.5, class_size_exponent=1.0), False),
        (Policy(k=5, max_group_share=1.0, surface_weight=0.0), False),
        (Policy(k=1), False),
        (Policy(k=35, temperature=0.5, class_size_exponent=1.0), True),  # all are looked at: seats are half of them
        (Policy(k=200, surface_exponent=0.0), True),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_bulk_is_the_path_of_a_message(
    policy: Policy,
    *,
    multi_label: bool,
    tied: bool,
    seed: int,
) -> None:
    """Counted in bulk, each message has the votes, pooled scores and scope that it has when it is asked alone."""
    rng = np.random.default_rng(seed)
    made = _random(rng, 70, multi_label=multi_label, tied=tied)
    messages = _random(rng, 12, multi_label=multi_label, tied=tied)
    examples, judged = corpus(made, LABELS), corpus(messages, LABELS)
    assert judged.ids == tuple(f"{i:05}" for i in range(12))
    assert len(examples.texts.windows) > len(examples)
    prints = [int(one) for one in examples.fingerprints]
    assert any(is_near_duplicate(prints[5], prints[i]) for i in (10, 15, 20, 25)), "else there is no campaign"
    voters, votes = _bulk(judged, examples, policy, multi_label=multi_label)
    pool = Pool({Voter.MEANING: 0.8, Voter.SURFACE: 1.7}, {"b": -0.5})
    fused = fuse(votes[Voter.MEANING], votes[Voter.SURFACE], policy)
    pooled = pooled_scores(pool, votes, LABELS, multi_label=multi_label)
    nearest = -np.sort(-voters.similarity, axis=1)
    scope = scope_scores(votes, nearest)
    sizes = sizes_of(examples, LABELS)
    for i, message in enumerate(messages):
        found = neighbors_of(message.windows, message.text, examples, LABELS, policy)
        rules = Rules(LABELS, multi_label=multi_label, policy=policy)
        ballot = count_votes(found, rules, sizes)
        assert dict(zip(LABELS, fused[i].tolist(), strict=True)) == pytest.approx(dict(ballot.scores), abs=1e-4)
        seats = {examples.ids[p] for p, s in zip(voters.places[i], voters.similarity[i], strict=True) if s > -np.inf}
        assert seats == {n.example_id for n in ballot.neighbors if n.view is View.MEANING}
        assert float(scope[i]) == pytest.approx(ballot.in_scope_score, abs=1e-4)
        with_pool = count_votes(found, replace(rules, policy=replace(policy, pool=pool)), sizes)
        assert dict(zip(LABELS, pooled[i].tolist(), strict=True)) == pytest.approx(dict(with_pool.scores), abs=1e-4)
        assert ballot.top_similarity == pytest.approx(float(nearest[i, 0]), abs=1e-5)
    silent = np.isnan(votes[Voter.SURFACE]).any(axis=1)
    assert [surface_vector(m.text).indices.size > 0 for m in messages] == [True] * 12
    assert silent.any(), "else no text is without a word in common"


@pytest.mark.parametrize("own", [None, np.arange(30)])
def test_a_text_does_not_vote_on_itself(own: np.ndarray | None) -> None:
    """An example that is judged is no neighbour of itself in either view; where it is no example, it is the nearest."""
    rng = np.random.default_rng(3)
    examples = corpus(_random(rng, 30, multi_label=False)[:30], LABELS)
    for found in (
        meaning_candidates(examples.texts, examples, 5, own=own, project=_plain),
        surface_candidates(examples.texts, examples, 5, own=own),
    ):
        there = np.isfinite(found.similarity)
        itself = ((found.places == np.arange(30)[:, None]) & there).any(axis=1)
        assert not itself.any() if own is not None else itself.sum() >= 25
    whole = meaning_candidates(examples.texts, examples, 99, own=np.arange(30), project=_plain)
    assert whole.places.shape == (30, 30)
    assert (~np.isfinite(whole.similarity)).sum(axis=1).tolist() == [1] * 30


@pytest.mark.parametrize("seed", range(3))
def test_ties_at_the_end_go_by_id(seed: int) -> None:
    """Of examples that are equally near, more than there are places, the first by id are taken, as the store does."""
    rng = np.random.default_rng(seed)
    labels = [("a",) if i < 20 else ("b",) for i in range(60)]
    made = [Made("win money now", own, np.eye(8, dtype=np.float32)[:1]) for own in labels]
    made += [Made(f"else {i}", ("c",), unit(rng.standard_normal((1, 8)))) for i in range(340)]
    places = rng.permutation(400)
    examples = corpus([made[i] for i in places], LABELS)
    first = np.flatnonzero(places < 60)[:10]
    message = corpus([Made("win money", ("a",), np.eye(8, dtype=np.float32)[:1])], LABELS)
    for found in (
        meaning_candidates(message.texts, examples, 10, own=None, project=_plain),
        surface_candidates(message.texts, examples, 10, own=None),
    ):
        assert first.tolist() == found.places[0].tolist()


def test_in_a_metric() -> None:
    """Neighbours are those in the metric that is given."""
    made = [Made("x", ("a",), unit(np.array([[1, 0.0]]))), Made("y", ("b",), unit(np.array([[0.9, 1]])))]
    message = corpus([Made("z", ("a",), unit(np.array([[0.5, 1]])))], LABELS)
    examples = corpus(made, LABELS)
    plain = meaning_candidates(message.texts, examples, 2, own=None, project=_plain)
    flat = meaning_candidates(
        message.texts, examples, 2, own=None, project=lambda v: unit(v * np.array([-1, 0.3]) + np.array([0, 0.0]))
    )
    assert plain.places[0].tolist() == [1, 0]
    turned = unit(message.texts.windows * [-1, 0.3]) @ unit(examples.texts.windows * [-1, 0.3]).T
    assert flat.similarity[0] == pytest.approx(np.sort(turned[0])[::-1])


async def test_as_qdrant_edge_scores(open_desk: OpenDesk) -> None:
    """In both views similarities are those of a real store that has the examples."""
    rng = np.random.default_rng(4)
    vocabulary = words(rng, 30)
    desk = await open_desk()
    texts = [" ".join(rng.choice(vocabulary, int(rng.integers(2, 12)))) for _ in range(60)]
    texts += [" ".join(rng.choice(vocabulary, 150)) for _ in range(4)]  # of several windows
    await desk.curator.create(
        "acme", [Draft("spam", text, ("spam", "ham")[i % 2 :][:1]) for i, text in enumerate(texts)]
    )
    stored = [window async for page in desk.store.windows("acme", "spam") for window in page]
    examples = corpus_of(stored, ("spam", "ham"))
    assert len(examples.texts.windows) > len(examples) == 64
    asked = [" ".join(rng.choice(vocabulary, 5)) for _ in range(8)] + ["nothing like 12345", texts[0]]
    asked.append(" ".join([texts[-1], *words(rng, 40)]))
    assert len(surface_vector(asked[-1])) > MAX_SEARCHED
    embedded = await desk.embedder.embed(asked)
    judged = texts_of(list(embedded.windows), list(embedded.surfaces))
    surface = surface_candidates(judged, examples, 64, own=None)
    meaning = meaning_candidates(judged, examples, 64, own=None, project=_plain)
    for i, (windows, grams) in enumerate(zip(embedded.windows, embedded.surfaces, strict=True)):
        by_view = await desk.store.search(
            [
                SearchQuery("acme", "spam", grams.sample(), 64, view=View.SURFACE),
                SearchQuery("acme", "spam", windows, 64),
            ]
        )
        for found, candidates in zip(by_view, (surface, meaning), strict=True):
            there = np.isfinite(candidates.similarity[i])
            expected = {n.example_id: n.similarity for n in found}
            actual = {
                examples.ids[p]: float(s)
                for p, s in zip(candidates.places[i][there], candidates.similarity[i][there], strict=True)
            }
            assert expected == pytest.approx(actual, abs=1e-4)
    assert not np.isfinite(surface.similarity[8]).any()


def test_nobody_to_vote() -> None:
    """Where a view finds nobody its rows are no numbers, and the other view has the whole say."""
    made = [Made("abc", ("a",), unit(np.eye(3)[:1])), Made("abd", ("b",), unit(np.eye(3)[1:2]))]
    message = corpus([Made("12345", ("a",), unit(np.array([[1, 0.5, 0]])))], LABELS)
    _, votes = _bulk(message, corpus(made, LABELS), Policy(surface_weight=1.0), multi_label=False)
    assert np.isnan(votes[Voter.SURFACE]).all()
    fused = fuse(votes[Voter.MEANING], votes[Voter.SURFACE], Policy(surface_weight=1.0))
    np.testing.assert_array_equal(votes[Voter.MEANING], fused)
    assert not np.isnan(fused).any()


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_pool_learns_whom_to_believe(*, multi_label: bool) -> None:
    """The voter that is right has the weight, one who guesses next to none, and the pool beats both."""
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 3, 300)
    targets = np.eye(3, dtype=np.float32)[truth]
    knows = (0.2 / 3 + 0.8 * np.eye(3)[np.where(rng.random(300) < 0.85, truth, rng.integers(0, 3, 300))]).astype(
        np.float32
    )
    guesses = rng.dirichlet(np.ones(3), 300).astype(np.float32)
    silent = np.full((300, 3), np.nan, np.float32)
    opinions = {Voter.MEANING: knows, Voter.SURFACE: guesses, Voter.PLAIN_PROTOTYPES: silent}
    pool = learn_pool(opinions, targets, np.ones(300, np.float32), ("a", "b", "c"), multi_label=multi_label)
    assert pool.weight(Voter.MEANING) > 0.5
    assert 0 <= pool.weight(Voter.SURFACE) < 0.1
    pooled = pooled_scores(pool, opinions, ("a", "b", "c"), multi_label=multi_label)
    assert (
        log_score(pooled, targets, multi_label=multi_label) >= log_score(knows, targets, multi_label=multi_label) - 1e-3
    )
    if not multi_label:
        assert pooled.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-5)
        at = pooled.max(axis=1) > 0.7
        assert (pooled.argmax(axis=1) == truth)[at].mean() == pytest.approx(pooled.max(axis=1)[at].mean(), abs=0.05)


def test_examples_count_by_their_weight() -> None:
    """Examples without weight teach a pool nothing."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 2, 200)
    right = np.eye(2, dtype=np.float32)[truth]
    lies = np.where((np.arange(200) < 100)[:, None], right, 1 - right).astype(np.float32)
    weights = (np.arange(200) < 100).astype(np.float32)
    learned = learn_pool({Voter.MEANING: lies}, right, weights, ("a", "b"), multi_label=False)
    halved = learn_pool({Voter.MEANING: lies[:100]}, right[:100], weights[:100], ("a", "b"), multi_label=False)
    assert learned.weight(Voter.MEANING) == pytest.approx(halved.weight(Voter.MEANING), abs=1e-3)
    everyone = learn_pool({Voter.MEANING: lies}, right, np.ones(200, np.float32), ("a", "b"), multi_label=False)
    assert everyone.weight(Voter.MEANING) < 0.2
    assert learned.weight(Voter.MEANING) > 1


def test_many_labels_have_no_biases() -> None:
    """With more than ten labels there is no bias for each; with few each has one."""
    rng = np.random.default_rng(8)
    for size, expected in ((10, 10), (11, 0)):
        names = tuple(f"l{i}" for i in range(size))
        opinions = {Voter.MEANING: rng.dirichlet(np.ones(size), 50).astype(np.float32)}
        targets = np.eye(size, dtype=np.float32)[rng.integers(0, size, 50)]
        pool = learn_pool(opinions, targets, np.ones(50, np.float32), names, multi_label=False)
        assert len(pool.bias) == expected
