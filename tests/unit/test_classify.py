"""From messages to predictions."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from nearvote.classify import Classification, Options
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.errors import InvalidField, KOutOfRange, TaskNotFound, TextTooLong, TooManyTexts
from nearvote.examples.example import Draft
from nearvote.examples.store import SearchQuery
from nearvote.limits import Limits
from nearvote.tasks.fit import Fit
from nearvote.tasks.task import Label, Task
from nearvote.text.surface import MAX_SEARCHED, SparseVector, fingerprint, surface_vector
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.neighbor import Neighbor, View
from nearvote.voting.policy import Action, Policy
from nearvote.voting.pool import Pool, Voter, in_scope_score
from nearvote.voting.prediction import AbstentionReason, Prediction, ScoreKind
from nearvote.voting.prototypes import Prototypes
from nearvote.voting.seats import is_near_duplicate
from tests.conftest import Desk, OpenDesk

NO_TEXTS = ["", " \t\r\n", "\u0301\u0302", "\x00\x01\x1f", "\u200b\u200d\u2060", "\ud800"]

# Sixty-four tokens to a window: three of filler around one that is like an example.
FILLER = " ".join(f"filler{i}" for i in range(400))


async def ask(desk: Desk, text: str, *tasks: str, options: Options | None = None) -> Classification:
    """What is said of one message."""
    (classification,) = await desk.classifier.classify(desk.tenant, [text], tasks, options or Options())
    return classification


async def predict(desk: Desk, text: str, task: str = "spam", options: Options | None = None) -> Prediction:
    """What is said of one message for one task."""
    (prediction,) = (await ask(desk, text, task, options=options)).predictions
    return prediction


async def fill(desk: Desk, *, spam: int = 5, ham: int = 5) -> None:
    """Adds examples, each a little farther from "win money now" or "see you at lunch" than the one before."""
    beyond = [f"and{i}" for i in range(10)]
    drafts = [Draft("spam", " ".join(["win money now", *beyond[:i]]), ("spam",)) for i in range(spam)]
    drafts += [Draft("spam", " ".join(["see you at lunch", *beyond[:i]]), ("ham",)) for i in range(ham)]
    await desk.curator.create(desk.tenant, drafts)


async def test_label_with_its_reasons(desk: Desk) -> None:
    """A message gets the label of what it is near to, with those that decided, weightiest first, and versions."""
    await fill(desk)
    prediction = await predict(desk, "now win money")
    assert (prediction.label, prediction.labels, prediction.abstained) == ("spam", ("spam",), False)
    assert prediction.score == prediction.scores["spam"] > 0.9
    shares = [neighbor.share for neighbor in prediction.neighbors]
    assert shares == sorted(shares, reverse=True)
    by_view = {view: [n for n in prediction.neighbors if n.view is view] for view in View}
    assert [len(by_view[view]) for view in View] == [10, 5], "those without an n-gram of the message have no say"
    for neighbors in by_view.values():
        assert neighbors == sorted(neighbors, key=lambda n: -n.similarity), "they all weigh the same"
    assert sum(n.share for n in by_view[View.SURFACE]) == pytest.approx(Policy().surface_weight)
    assert prediction.top_similarity == by_view[View.MEANING][0].similarity == pytest.approx(1.0, abs=1e-5)
    assert sum(neighbor.share for neighbor in prediction.neighbors) == pytest.approx(1.0)
    assert (prediction.policy_version, prediction.examples_version) == (1, desk.clock.now_us())
    assert prediction.decided_by_window == 0


async def test_learns_and_unlearns_at_once(desk: Desk) -> None:
    """An added example changes the very next prediction; a relabelled and a deleted one do so too."""
    assert (await predict(desk, "free pills")).abstention_reason is AbstentionReason.NO_EXAMPLES
    id_ = await desk.add("free pills", "spam")
    learned = await predict(desk, "free pills")
    assert (learned.label, [neighbor.example_id for neighbor in learned.neighbors]) == ("spam", [id_])
    assert [neighbor.view for neighbor in learned.neighbors] == [View.MEANING]
    await desk.add("free pills", "ham")
    relabelled = await predict(desk, "free pills")
    assert relabelled.label == "ham"
    assert relabelled.examples_version > learned.examples_version
    await desk.curator.delete("acme", "spam", id_)
    assert (await predict(desk, "free pills")).abstention_reason is AbstentionReason.NO_EXAMPLES


async def test_embedded_once(desk: Desk) -> None:
    """A message is embedded once, however many tasks are asked, and answered for each in the order asked."""
    await desk.add("win money", "spam")
    await desk.add("you will regret this", "hate", "threat", task="abuse")
    for tasks in (["spam", "abuse"], ["abuse", "spam"], ["spam"], []):
        before = desk.encoder.encoded_count
        classification = await ask(desk, "win money or you will regret this", *tasks)
        assert desk.encoder.encoded_count == before + 1
        assert [prediction.task for prediction in classification.predictions] == (tasks or ["abuse", "spam"])
    abuse, spam = classification.predictions
    assert (set(abuse.labels), spam.labels) == ({"hate", "threat"}, ("spam",))
    assert classification.encoder_revision == desk.encoder.spec.revision


async def test_batch_in_order(desk: Desk) -> None:
    """Messages of a batch are answered in their order, each as if it were alone, whether readable, long or neither."""
    await fill(desk)
    texts = ["win money now", "", FILLER, "see you at lunch", "win money now"]
    together = await desk.classifier.classify("acme", texts, ["spam", "abuse"], Options())
    for text, classification in zip(texts, together, strict=True):
        alone = await ask(desk, text, "spam", "abuse")
        assert classification.window_count == alone.window_count
        for one, other in zip(classification.predictions, alone.predictions, strict=True):
            assert (one.labels, one.abstention_reason) == (other.labels, other.abstention_reason)
            assert [n.example_id for n in one.neighbors] == [n.example_id for n in other.neighbors]
            assert one.scores == pytest.approx(other.scores, abs=1e-5)
    labels = [classification.predictions[0].label for classification in together]
    assert (labels[0], labels[1], labels[3], labels[4]) == ("spam", None, "ham", "spam")


@pytest.mark.parametrize("text", NO_TEXTS)
async def test_nothing_to_read(desk: Desk, text: str) -> None:
    """A text with nothing to read in it abstains so for every task, with or without examples; nothing is embedded."""
    await desk.add("win money", "spam")
    before = desk.encoder.encoded_count
    classification = await ask(desk, text)
    assert [p.abstention_reason for p in classification.predictions] == [AbstentionReason.NO_TEXT] * 2
    assert (classification.window_count, desk.encoder.encoded_count) == (0, before)
    assert not any(p.labels or p.neighbors or p.top_similarity for p in classification.predictions)
    assert all(p.policy_version == 1 for p in classification.predictions)


async def test_no_examples(desk: Desk) -> None:
    """A task without examples abstains so, also when another task has some."""
    await desk.add("win money", "spam")
    spam, abuse = (await ask(desk, "win money", "spam", "abuse")).predictions
    assert spam.label == "spam"
    assert abuse.abstention_reason is AbstentionReason.NO_EXAMPLES
    assert (abuse.scores, abuse.neighbors) == ({"hate": 0.0, "none": 0.0, "threat": 0.0}, ())


async def test_too_far(desk: Desk) -> None:
    """A message that is near to no example is too far for a label."""
    await fill(desk)
    prediction = await predict(desk, "an unladen swallow flies")
    assert prediction.abstention_reason is AbstentionReason.TOO_FAR
    assert prediction.neighbors


@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_window_that_decided(desk: Desk, place: int) -> None:
    """Of a long message every window is looked at, and the one that decided is named."""
    size = HashingEncoder().window_tokens
    words = FILLER.split()
    bait = [f"bait{i}" for i in range(size)]
    # Four windows over 4 * 64 - 3 * 8 tokens: the first begins at 0, each next one 56 later.
    message = words[:232]
    message[place * 56 : place * 56 + size] = bait
    await desk.add(" ".join(bait), "spam")
    await desk.add("see you at lunch", "ham")
    classification = await ask(desk, " ".join(message), "spam")
    (prediction,) = classification.predictions
    assert classification.window_count == 4
    assert prediction.label == "spam"
    assert prediction.decided_by_window == place
    assert prediction.top_similarity == pytest.approx(1.0, abs=1e-5)
    assert prediction.neighbors[0].window == place
    assert prediction.neighbors[0].view is View.MEANING


async def test_long_example_votes_once(desk: Desk) -> None:
    """A long example is one neighbour with one vote, however many windows of a long message it is near to."""
    await desk.add(FILLER, "spam")
    await desk.add("see you at lunch", "ham")
    prediction = await predict(desk, f"{FILLER} beyond")  # not the same text, or it would be asked alone
    found = [(neighbor.labels, neighbor.view) for neighbor in prediction.neighbors]
    assert found == [(("spam",), View.MEANING), (("spam",), View.SURFACE), (("ham",), View.MEANING)]


async def test_long_message_is_searched_for_by_a_sample(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long message's n-grams a sample is searched for."""
    await fill(desk)
    asked: list[SearchQuery] = []
    search = desk.store.search

    async def watched(queries: Sequence[SearchQuery], *, with_text: bool = False) -> list[list[Neighbor]]:
        asked.extend(queries)
        return await search(queries, with_text=with_text)

    monkeypatch.setattr(desk.store, "search", watched)
    await predict(desk, f"{FILLER} win money now")
    vectors = [query.vector for query in asked if isinstance(query.vector, SparseVector)]
    assert len(surface_vector(FILLER)) > MAX_SEARCHED
    assert [len(vector) for vector in vectors] == [MAX_SEARCHED]


async def test_k(desk: Desk) -> None:
    """As many neighbours vote in each view as the policy says, or the caller in its place."""
    await fill(desk, spam=8, ham=8)

    async def voters(text: str, k: int | None = None) -> list[int]:
        prediction = await predict(desk, text, options=Options(k=k))
        return [sum(n.view is view for n in prediction.neighbors) for view in View]

    task = await desk.tasks.get("acme", "spam")
    await desk.tasks.update("acme", replace(task, policy=Policy(k=3)))
    assert await voters("win money now see you at lunch") == [3, 3]
    assert await voters("win money now see you at lunch", k=7) == [7, 7]
    assert await voters(FILLER + " win money now", k=1) == [1, 1]


async def test_fewer_neighbors_shown(desk: Desk) -> None:
    """Showing fewer neighbours changes neither scores nor what is said of the nearest one."""
    await fill(desk)
    whole = await predict(desk, "win money at lunch")
    for shown in (0, 1, 4, 200):
        cut = await predict(desk, "win money at lunch", options=Options(neighbor_limit=shown))
        assert cut == replace(whole, neighbors=whole.neighbors[:shown])


async def test_texts_of_neighbors(desk: Desk) -> None:
    """Neighbours come with their texts only when these are asked for."""
    await desk.add("win money", "spam")
    for text in ("win money", "money, win"):  # an example itself, and one that is like it
        assert {n.text for n in (await predict(desk, text)).neighbors} == {""}
        asked = await predict(desk, text, options=Options(with_texts=True))
        assert {n.text for n in asked.neighbors} == {"win money"}


async def test_class_sizes_correct(open_desk: OpenDesk) -> None:
    """Where the policy says so, a label with few examples is not outvoted by one with many that are as near."""
    labels = (Label("spam"), Label("ham"))
    fair = Task("fair", labels, policy=Policy(class_size_exponent=1.0))
    desk = await open_desk(tasks=[Task("plain", labels), fair])
    for name in ("plain", "fair"):
        await desk.curator.create("acme", [Draft(name, "WIN money", ("spam",))])
        # Case is nothing to the encoder, nor to n-grams: all of these are equally near.
        hams = [Draft(name, text, ("ham",)) for text in ("win money", "Win money", "win Money", "win MONEY")]
        await desk.curator.create("acme", hams)
    assert (await predict(desk, "wiN money", "plain")).scores == pytest.approx({"ham": 0.8, "spam": 0.2}, abs=1e-4)
    assert (await predict(desk, "wiN money", "fair")).scores == pytest.approx({"ham": 0.5, "spam": 0.5}, abs=1e-4)


async def test_action(open_desk: OpenDesk) -> None:
    """The policy's action comes with the prediction, also with an abstention."""
    careful = Task("careful", (Label("a"),), policy=Policy(abstention_action=Action.REVIEW))
    desk = await open_desk(tasks=[careful])
    assert (await predict(desk, "", "careful")).action is Action.REVIEW
    await desk.add("win", "a", task="careful")
    assert (await predict(desk, "win", "careful")).action is Action.ALLOW


async def test_tenants_apart(desk: Desk) -> None:
    """One tenant's tasks and examples are not another's."""
    await desk.add("win money", "spam")
    with pytest.raises(TaskNotFound):
        await desk.classifier.classify("other", ["win money"], ["spam"], Options())
    (nothing,) = await desk.classifier.classify("other", ["win money"], [], Options())
    assert nothing.predictions == ()


@pytest.mark.parametrize(
    ("texts", "tasks", "options", "error", "field"),
    [
        ([], [], Options(), TooManyTexts, "texts"),
        (["a"] * 257, [], Options(), TooManyTexts, "texts"),
        (["a", "b" * 65_537], [], Options(), TextTooLong, "texts[1]"),
        (["é" * 32_769], [], Options(), TextTooLong, "texts[0]"),
        (["a"], ["spam", "intent"], Options(), TaskNotFound, "tasks[1]"),
        (["a"], ["spam", "abuse", "spam"], Options(), InvalidField, "tasks"),
        (["a"], [], Options(k=0), KOutOfRange, "options.k"),
        (["a"], [], Options(k=201), KOutOfRange, "options.k"),
        (["a"], [], Options(neighbor_limit=-1), KOutOfRange, "options.neighbor_limit"),
        (["a"], [], Options(neighbor_limit=201), KOutOfRange, "options.neighbor_limit"),
    ],
)
async def test_refused(
    desk: Desk, texts: list[str], tasks: list[str], options: Options, error: type[Exception], field: str
) -> None:
    """What can't be right is refused by its field's name, before anything is embedded."""
    with pytest.raises(error) as caught:
        await desk.classifier.classify("acme", texts, tasks, options)
    assert getattr(caught.value, "field", None) == field
    assert desk.encoder.encoded_count == 0


async def test_just_within_bounds(desk: Desk) -> None:
    """The largest batch, the longest text and the most neighbours that are allowed are taken."""
    await fill(desk)
    longest = ("é" * 63 + " ") * 516 + "last"
    assert len(longest.encode()) == Limits().max_text_bytes
    options = Options(k=200, neighbor_limit=200)
    found = await desk.classifier.classify("acme", ["a"] * 255 + [longest], ["spam"], options)
    assert len(found) == 256
    assert found[-1].window_count == 10


async def with_policy(desk: Desk, **changes: object) -> None:
    """Changes the policy of the task `spam`."""
    task = await desk.tasks.get(desk.tenant, "spam")
    await desk.tasks.update(desk.tenant, replace(task, policy=replace(task.policy, **changes)))  # type: ignore[arg-type]


def in_view(prediction: Prediction, view: View) -> list[Neighbor]:
    """A prediction's neighbours that were found in a view, weightiest first."""
    return [neighbor for neighbor in prediction.neighbors if neighbor.view is view]


async def test_what_words_hide_letters_tell(desk: Desk) -> None:
    """A message that has no word with any example in common is known by its n-grams."""
    await fill(desk)
    await with_policy(desk, similarity_floor=-1.0)
    prediction = await predict(desk, "w1n m0ney n\u043ew")
    assert prediction.label == "spam"
    nearest, *_ = in_view(prediction, View.SURFACE)
    assert (nearest.labels, nearest.similarity > 0, nearest.fingerprint != 0) == (("spam",), True, True)
    assert prediction.top_similarity == max(n.similarity for n in in_view(prediction, View.MEANING)) < 0.3
    await with_policy(desk, surface_weight=0.0)
    without = await predict(desk, "w1n m0ney n\u043ew")
    assert in_view(without, View.SURFACE) == []
    assert without.scores["spam"] < prediction.scores["spam"]


async def test_one_view_alone(desk: Desk) -> None:
    """A view without weight decides nothing; the surface view is not even searched then."""
    await fill(desk)
    by_weight = {}
    for weight in (0.0, 0.5, 1.0):
        await with_policy(desk, surface_weight=weight)
        prediction = await predict(desk, "money at lunchtime")
        by_weight[weight] = prediction.scores
        assert bool(in_view(prediction, View.SURFACE)) == (weight > 0)
        assert sum(n.share for n in in_view(prediction, View.SURFACE)) == pytest.approx(weight)
        assert in_view(prediction, View.MEANING), "they tell how near anything is"
    mean = {label: (by_weight[0.0][label] + by_weight[1.0][label]) / 2 for label in ("spam", "ham")}
    assert by_weight[0.5] == pytest.approx(mean)
    assert by_weight[0.0] != pytest.approx(by_weight[1.0], abs=0.01)


CAMPAIGN = "limited offer for our dearest customers only today and only here win a brand new phone call {} now"


async def test_a_campaign_does_not_take_all_seats(desk: Desk) -> None:
    """Twenty near-duplicates of one text have their share of the seats, however near they are; others have the rest."""
    texts = [CAMPAIGN.format(number) for number in range(20)]
    prints = [fingerprint(surface_vector(text)) for text in texts]
    assert all(is_near_duplicate(prints[0], other) for other in prints), "else they are no campaign"
    await desk.curator.create("acme", [Draft("spam", text, ("spam",)) for text in texts])
    others = [f"we meet our dearest customer{i} at {i} today and call you" for i in range(20)]
    await desk.curator.create("acme", [Draft("spam", text, ("ham",)) for text in others])
    prediction = await predict(desk, CAMPAIGN.format("me"))
    for view in View:
        labels = [n.labels for n in in_view(prediction, view)]
        assert (labels.count(("spam",)), labels.count(("ham",))) == (10, 10)
    await with_policy(desk, max_group_share=1.0)
    crowded = await predict(desk, CAMPAIGN.format("me"))
    assert {n.labels for n in crowded.neighbors} == {("spam",)}


async def test_a_campaign_that_fills_all_candidates(desk: Desk) -> None:
    """Where near-duplicates take every place that is looked at first, those behind them are looked for."""
    await with_policy(desk, k=10, similarity_floor=-1.0)
    await desk.curator.create("acme", [Draft("spam", CAMPAIGN.format(number), ("spam",)) for number in range(60)])
    words = ("call", "phone", "offer", "today", "limited", "customers", "brand", "dearest")
    others = [f"my {word} about something else entirely, since nobody came {i}" for i, word in enumerate(words)]
    await desk.curator.create("acme", [Draft("spam", text, ("ham",)) for text in others])
    for options in (Options(), Options(k=12)):
        prediction = await predict(desk, CAMPAIGN.format("me"), options=options)
        for view in View:
            labels = [n.labels for n in in_view(prediction, view)]
            k = options.k or 10
            expected = (k - min(k // 2, len(others)), min(k // 2, len(others)))
            assert expected == (labels.count(("spam",)), labels.count(("ham",)))


async def test_one_source_does_not_take_all_seats(desk: Desk) -> None:
    """Examples of one source have their share of the seats, whatever they say."""
    numbers = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    bought = [Draft("spam", f"win money {number}", ("spam",), source="bought") for number in numbers[:6]]
    await desk.curator.create("acme", bought)
    others = [f"money for lunch, {number} and {number}" for number in numbers]
    await desk.curator.create("acme", [Draft("spam", text, ("ham",)) for text in others])
    await with_policy(desk, k=6)
    prediction = await predict(desk, "win money")
    for view in View:
        sources = [n.source for n in in_view(prediction, view)]
        assert (sources.count("bought"), sources.count("")) == (3, 3)


async def test_a_text_that_is_an_example(desk: Desk) -> None:
    """A text that is an example has that example's label, whoever else is near."""
    await fill(desk, spam=10)
    id_ = await desk.add("Win money now", "ham")
    prediction = await predict(desk, "Win money now")
    assert (prediction.label, prediction.score) == ("ham", 1.0)
    assert [n.example_id for n in prediction.neighbors] == [id_]
    assert (await predict(desk, "wIn money now")).label == "spam"


async def test_a_text_that_is_an_example_among_many(desk: Desk) -> None:
    """It has that label also where more examples are as near as there are seats for their kind."""
    texts = sorted({"".join(c) for c in product(*((x, x.upper()) for x in "money"))})
    drafts = [Draft("spam", f"win {text} now", ("spam",)) for text in texts]
    drafts += [Draft("spam", f"see you at lunch {i}", ("ham",)) for i in range(20)]
    saved = await desk.curator.create("acme", drafts)
    last = max((one.example for one in saved[: len(texts)]), key=lambda example: example.id)
    await desk.curator.create("acme", [Draft("spam", last.text, ("ham",))])
    assert (await predict(desk, last.text)).label == "ham"


async def fitted(desk: Desk, fit: Fit, *, slot: Slot | None) -> None:
    """Lets a fit serve the task `spam`, its metric's vectors in the slot."""
    task = await desk.tasks.get(desk.tenant, "spam")
    await desk.tasks.fits.put(desk.tenant, "spam", fit)
    if slot and fit.metric:
        async for page in desk.store.windows(desk.tenant, "spam"):
            vectors = {w.point_id: fit.metric.project(w.vector[None])[0] for w in page}
            await desk.store.project(slot, vectors)
    async with desk.tasks.changing(desk.tenant):
        await desk.tasks.switch(desk.tenant, task, policy=fit.policy, fit_version=fit.version, slot=slot)


def fit_of(metric: LinearMetric | None, policy: Policy, prototypes: Prototypes | None = None) -> Fit:
    """A first fit."""
    return Fit(
        1,
        metric,
        in_metric=metric is not None,
        prototypes=prototypes,
        policy=policy,
        replaced_version=0,
        replaced_policy=Policy(),
        created_us=2**60,  # after any example
    )


async def blind_to(desk: Desk, word: str) -> LinearMetric:
    """A metric that does not see one word."""
    ((direction,),) = (await desk.embedder.embed([word])).windows
    return LinearMetric((np.eye(len(direction)) - np.outer(direction, direction)).astype(np.float32))


@pytest.mark.parametrize("slot", Slot)
async def test_the_learned_metric_serves(desk: Desk, slot: Slot) -> None:
    """With a fit the message is mapped as the examples are, and searched where they are kept, new ones too."""
    await desk.add("meet me for lunch", "ham")
    await desk.add("please win", "spam")
    policy = Policy(surface_weight=0.0)
    await with_policy(desk, surface_weight=0.0)
    plain = await predict(desk, "please meet")
    await fitted(desk, fit_of(await blind_to(desk, "please"), policy), slot=slot)
    learned = await predict(desk, "please meet")
    assert (plain.label, learned.label) == ("spam", "ham")
    assert learned.policy_version == plain.policy_version + 1
    id_ = await desk.add("please meeting", "spam")
    found = {n.example_id: n.similarity for n in (await predict(desk, "meeting please")).neighbors}
    assert len(found) == 3, "one that was added since is in the slot as well"
    assert found[id_] == pytest.approx(1.0, abs=1e-3)
    added = await predict(desk, "meeting")
    assert added.neighbors[0].example_id == id_
    assert added.top_similarity == pytest.approx(1.0, abs=1e-3), "nothing is left of `please`"


async def test_another_tasks_fit_changes_nothing(desk: Desk) -> None:
    """A task without fit is searched by its plain vectors beside one that has one."""
    await desk.add("meet me for lunch", "ham")
    await desk.add("please go", "hate", task="abuse")
    before, *_ = (await ask(desk, "please meet", "abuse")).predictions
    await fitted(desk, fit_of(await blind_to(desk, "please"), Policy()), slot=Slot.A)
    spam, abuse = (await ask(desk, "please meet", "spam", "abuse")).predictions
    assert abuse.scores == before.scores
    assert abuse.top_similarity == before.top_similarity
    assert spam.label == "ham"


async def prototypes_of(desk: Desk, text: str, metric: LinearMetric | None = None) -> Prototypes:
    """Prototypes by which spam is what is like one text, in either view."""
    embedded = await desk.embedder.embed([text])
    windows, grams = embedded.windows[0], embedded.surfaces[0]
    (plain,) = windows
    (direction,) = metric.project(windows) if metric else windows
    return Prototypes(
        labels=("spam", "ham"),
        multi_label=False,
        meaning=np.stack([4 * direction, -4 * direction]),
        meaning_bias=np.zeros(2, np.float32),
        plain=np.stack([3 * plain, -3 * plain]),
        plain_bias=np.zeros(2, np.float32),
        buckets=grams.indices,
        rarity=np.ones(len(grams), np.float32),
        unknown_rarity=1.0,
        surface=np.stack([2 * grams.values, -2 * grams.values], axis=1),
        surface_bias=np.zeros(2, np.float32),
    )


async def test_prototypes_are_asked(desk: Desk) -> None:
    """The prototypes of a task's fit have their say, of every message's own windows and n-grams."""
    await fill(desk, spam=1, ham=1)
    pool = Pool({Voter.MEANING_PROTOTYPES: 1.0, Voter.PLAIN_PROTOTYPES: 0.5, Voter.SURFACE_PROTOTYPES: 1.0})
    policy = Policy(pool=pool, similarity_floor=-1.0)
    await fitted(desk, fit_of(None, policy, await prototypes_of(desk, "prize")), slot=None)
    texts = ["win money now or later", "\u0301", "prize"]
    found = await desk.classifier.classify("acme", texts, ["spam"], Options())
    other, unreadable, prize = (one.predictions[0] for one in found)
    assert unreadable.abstention_reason is AbstentionReason.NO_TEXT
    assert (unreadable.prototype_share, prize.prototype_share) == (0.0, 1.0)
    assert (prize.label, prize.score_kind) == ("spam", ScoreKind.PROBABILITY)
    opinions = {
        Voter.MEANING_PROTOTYPES: {"spam": 1 / (1 + math.exp(-8)), "ham": 1 / (1 + math.exp(8))},
        Voter.PLAIN_PROTOTYPES: {"spam": 1 / (1 + math.exp(-6)), "ham": 1 / (1 + math.exp(6))},
        Voter.SURFACE_PROTOTYPES: {"spam": 1 / (1 + math.exp(-4)), "ham": 1 / (1 + math.exp(4))},
    }
    assert prize.scores == pytest.approx(pool.scores(opinions, ("spam", "ham"), multi_label=False), abs=1e-4)
    assert other.scores["spam"] < 0.9, "each message is asked for itself"
    known = await predict(desk, "see you at lunch")
    assert (known.label, known.score, known.prototype_share) == ("ham", 1.0, 0.0), "it is an example"


async def test_prototypes_look_through_the_metric(desk: Desk) -> None:
    """Prototypes in the metric are asked of the message as the metric maps it, plain ones of the message itself."""
    await fill(desk, spam=1, ham=1)
    metric = await blind_to(desk, "please")
    policy = Policy(pool=Pool({Voter.MEANING_PROTOTYPES: 1.0}), similarity_floor=-1.0)
    await fitted(desk, fit_of(metric, policy, await prototypes_of(desk, "prize", metric)), slot=Slot.B)
    prize, polite = (await predict(desk, "prize"), await predict(desk, "prize please"))
    assert polite.scores == pytest.approx(prize.scores, abs=0.002)
    await with_policy(desk, pool=Pool({Voter.PLAIN_PROTOTYPES: 1.0}))
    prize, polite = (await predict(desk, "prize"), await predict(desk, "prize please"))
    assert polite.scores["spam"] < prize.scores["spam"] - 0.002


async def test_probabilities(desk: Desk) -> None:
    """With a pool the views' votes are pooled: scores are probabilities, and say so."""
    await fill(desk)
    shares = await predict(desk, "win money at lunch")
    await with_policy(desk, surface_weight=0.0)
    meaning = (await predict(desk, "win money at lunch")).scores
    await with_policy(desk, surface_weight=1.0)
    surface = (await predict(desk, "win money at lunch")).scores
    pool = Pool({Voter.MEANING: 2.0, Voter.SURFACE: 1.0}, {"ham": 0.25})
    await with_policy(desk, surface_weight=0.4, pool=pool)
    pooled = await predict(desk, "win money at lunch")
    assert [shares.score_kind, pooled.score_kind] == [ScoreKind.VOTE_SHARE, ScoreKind.PROBABILITY]
    opinions = {Voter.MEANING: meaning, Voter.SURFACE: surface}
    assert pooled.scores == pytest.approx(pool.scores(opinions, ("spam", "ham"), multi_label=False))
    assert sum(n.share for n in in_view(pooled, View.SURFACE)) == pytest.approx(1 / 3)
    expected = in_scope_score(opinions, 2, in_view(shares, View.MEANING))
    assert pooled.in_scope_score == pytest.approx(expected)
    assert shares.in_scope_score == pytest.approx(expected)


async def test_a_pool_has_weights_of_its_own(desk: Desk) -> None:
    """A pool hears the surface view where the pool gives it weight, whatever the policy's weight without a pool is."""
    await fill(desk)
    await with_policy(desk, surface_weight=0.0, pool=Pool({Voter.MEANING: 1.0, Voter.SURFACE: 1.0}))
    found = in_view(await predict(desk, "win money at lunch"), View.SURFACE)
    assert sum(n.share for n in found) == pytest.approx(0.5)


async def test_out_of_sight_is_too_far(desk: Desk) -> None:
    """A message whose neighbours are far and of every label is not what the task is about, where there is a floor."""
    await fill(desk)
    text = "money at lunch"
    plain = await predict(desk, text)
    assert not plain.abstained
    assert 0 < plain.in_scope_score < 0.9
    await with_policy(desk, scope_floor=plain.in_scope_score)
    assert (await predict(desk, text)).labels == plain.labels
    await with_policy(desk, scope_floor=plain.in_scope_score + 0.01)
    assert (await predict(desk, text)).abstention_reason is AbstentionReason.TOO_FAR
    assert (await predict(desk, "win money now")).in_scope_score == pytest.approx(1.0), "it is an example"
