"""From messages to predictions."""

from dataclasses import replace

import pytest

from nearvote.classify import Classification, Options
from nearvote.embedding.hashing_encoder import HashingEncoder
from nearvote.errors import InvalidField, KOutOfRange, TaskNotFound, TextTooLong, TooManyTexts
from nearvote.examples.example import Draft
from nearvote.limits import Limits
from nearvote.tasks.task import Label, Task
from nearvote.voting.policy import Action, Policy
from nearvote.voting.prediction import AbstentionReason, Prediction
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
    """A message gets the label of what it is near to, with the neighbours that decided, nearest first, and versions."""
    await fill(desk)
    prediction = await predict(desk, "win money now")
    assert (prediction.label, prediction.labels, prediction.abstained) == ("spam", ("spam",), False)
    assert prediction.score == prediction.scores["spam"] > 0.9
    similarities = [neighbor.similarity for neighbor in prediction.neighbors]
    assert len(similarities) == 10
    assert similarities == sorted(similarities, reverse=True)
    assert prediction.top_similarity == similarities[0] == pytest.approx(1.0, abs=1e-5)
    assert sum(neighbor.share for neighbor in prediction.neighbors) == pytest.approx(1.0)
    assert (prediction.policy_version, prediction.examples_version) == (1, desk.clock.now_us())
    assert prediction.decided_by_window == 0


async def test_learns_and_unlearns_at_once(desk: Desk) -> None:
    """An added example changes the very next prediction; a relabelled and a deleted one do so too."""
    assert (await predict(desk, "free pills")).abstention_reason is AbstentionReason.NO_EXAMPLES
    id_ = await desk.add("free pills", "spam")
    learned = await predict(desk, "free pills")
    assert (learned.label, [neighbor.example_id for neighbor in learned.neighbors]) == ("spam", [id_])
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


async def test_long_example_votes_once(desk: Desk) -> None:
    """A long example is one neighbour with one vote, however many windows of a long message it is near to."""
    await desk.add(FILLER, "spam")
    await desk.add("see you at lunch", "ham")
    prediction = await predict(desk, FILLER)
    assert [neighbor.labels for neighbor in prediction.neighbors] == [("spam",), ("ham",)]


async def test_k(desk: Desk) -> None:
    """As many neighbours vote as the policy says, or the caller in its place."""
    await fill(desk)
    task = await desk.tasks.get("acme", "spam")
    await desk.tasks.update("acme", replace(task, policy=Policy(k=3)))
    assert len((await predict(desk, "win money now see you at lunch")).neighbors) == 3
    overruled = await predict(desk, "win money now see you at lunch", options=Options(k=7))
    assert (len(overruled.neighbors), overruled.policy_version) == (7, 2)
    assert len((await predict(desk, FILLER + " win money now", options=Options(k=1))).neighbors) == 1


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
    assert (await predict(desk, "win money")).neighbors[0].text == ""
    assert (await predict(desk, "win money", options=Options(with_texts=True))).neighbors[0].text == "win money"


async def test_class_sizes_correct(open_desk: OpenDesk) -> None:
    """Where the policy says so, a label with few examples is not outvoted by one with many that are as near."""
    labels = (Label("spam"), Label("ham"))
    fair = Task("fair", labels, policy=Policy(class_size_exponent=1.0))
    desk = await open_desk(tasks=[Task("plain", labels), fair])
    for name in ("plain", "fair"):
        await desk.curator.create("acme", [Draft(name, "WIN money", ("spam",))])
        # Case is nothing to the encoder: all of these are equally near.
        hams = [Draft(name, text, ("ham",)) for text in ("win money", "Win money", "win Money", "win MONEY")]
        await desk.curator.create("acme", hams)
    assert (await predict(desk, "win money", "plain")).scores == pytest.approx({"ham": 0.8, "spam": 0.2}, abs=1e-4)
    assert (await predict(desk, "win money", "fair")).scores == pytest.approx({"ham": 0.5, "spam": 0.5}, abs=1e-4)


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
