"""Labelling while the store does not answer."""

from pathlib import Path

import pytest

from nearvote.abstaining import AbstainingClassifier
from nearvote.classify import Options
from nearvote.errors import InvalidField, StoreUnavailable, TaskNotFound
from nearvote.examples.edge_engine import EdgeEngine
from nearvote.examples.engine import Found, Match
from nearvote.tasks.task import Label, Task
from nearvote.voting.policy import Action, Policy
from nearvote.voting.prediction import AbstentionReason
from tests.conftest import Desk, OpenDesk

REVIEWED = Task(
    "spam", (Label("spam"), Label("ham")), benign_label="ham", policy=Policy(abstention_action=Action.REVIEW)
)
OTHER = Task("abuse", (Label("hate"), Label("none")), multi_label=True, benign_label="none")


class UnreliableEngine(EdgeEngine):
    """Qdrant Edge that can't scroll when it is told so; every call for tasks that are not fresh scrolls."""

    down = False

    async def scroll(
        self, collection: str, match: Match, limit: int, from_id: str | None, vectors: tuple[str, ...] = ()
    ) -> tuple[list[Found], str | None]:
        if self.down:
            raise StoreUnavailable("down")
        return await super().scroll(collection, match, limit, from_id, vectors)


class Abstaining:
    """A desk whose classifier abstains while its store is down, and what was told of failures."""

    def __init__(self, desk: Desk, engine: UnreliableEngine) -> None:
        self.desk = desk
        self.engine = engine
        self.told: list[StoreUnavailable] = []
        self.classifier = AbstainingClassifier(desk.classifier, desk.tasks, desk.encoder.spec, self.told.append)

    def goes_down(self) -> None:
        self.engine.down = True
        self.desk.clock.advance(3_600)


@pytest.fixture
async def abstaining(open_desk: OpenDesk, data_folder: Path) -> Abstaining:
    engine = UnreliableEngine(data_folder / "data")
    desk = await open_desk(engine=engine, tasks=(REVIEWED, OTHER))
    await desk.add("win money now", "spam")
    return Abstaining(desk, engine)


async def test_while_the_store_answers_nothing_is_different(abstaining: Abstaining) -> None:
    """A store that answers is asked; what it is wrong to ask is refused as ever."""
    (one,) = await abstaining.classifier.classify("acme", ["win money now"], ["spam"], Options())
    assert one.predictions[0].labels == ("spam",)
    with pytest.raises(TaskNotFound):
        await abstaining.classifier.classify("acme", ["text"], ["nope"], Options())
    abstaining.goes_down()
    with pytest.raises(InvalidField):
        await abstaining.classifier.classify("acme", ["text"], ["spam", "spam"], Options())
    assert abstaining.told == []


async def test_it_abstains_from_tasks_as_they_were_last_read(abstaining: Abstaining) -> None:
    """However long ago its tasks were read, each message gets an abstention in each, with the policy's action."""
    await abstaining.classifier.classify("acme", ["text"], [], Options())
    abstaining.goes_down()
    for asked, expected in (([], ["abuse", "spam"]), (["spam"], ["spam"])):
        classified = await abstaining.classifier.classify("acme", ["win money now", ""], asked, Options())
        assert [[p.task for p in one.predictions] for one in classified] == [expected] * 2
        prediction = classified[0].predictions[-1]
        assert prediction.abstention_reason is AbstentionReason.STORE_UNAVAILABLE
        assert (prediction.action, prediction.labels, prediction.neighbors) == (Action.REVIEW, (), ())
        assert (prediction.policy_version, prediction.examples_version) == (1, 0)
        assert classified[0].encoder_revision == abstaining.desk.encoder.spec.revision
    assert [error.message for error in abstaining.told] == ["down"] * 2
    abstaining.engine.down = False
    (one,) = await abstaining.classifier.classify("acme", ["win money now"], ["spam"], Options())
    assert one.predictions[0].labels == ("spam",)


async def test_nothing_is_made_up(abstaining: Abstaining) -> None:
    """Of a tenant or a task that was never read nobody knows a policy: the failure stays one."""
    await abstaining.classifier.classify("acme", ["text"], [], Options())
    abstaining.goes_down()
    for tenant, asked in (("acme", ["spam", "new"]), ("other", []), ("other", ["spam"])):
        with pytest.raises(StoreUnavailable):
            await abstaining.classifier.classify(tenant, ["text"], asked, Options())
    assert abstaining.told == []
