"""Answers that can be explained later."""

import asyncio
from collections.abc import Sequence

import pytest

from nearvote import explain as module
from nearvote.classify import Options
from nearvote.errors import ExplanationNotFound, KOutOfRange, StoreUnavailable
from nearvote.examples.example import Draft
from nearvote.examples.explanation_store import QdrantExplanationStore, StoredExplanation, open_explanation_store
from nearvote.explain import Explainer
from nearvote.limits import Limits
from tests.conftest import Desk


class Slow(QdrantExplanationStore):
    """A store that waits to be let go on, and fails where it is told to."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.engine)
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.written: list[str] = []

    async def put(self, explanations: Sequence[StoredExplanation]) -> None:
        await self.gate.wait()
        if self.fails:
            raise StoreUnavailable("it is away")
        self.written += [one.body for one in explanations]
        await super().put(explanations)


class Office:
    """A desk whose answers are kept for an hour."""

    def __init__(self, desk: Desk, hours: float = 1) -> None:
        self.desk = desk
        self.dropped = 0
        self.store = Slow(desk)
        self.explainer = Explainer(desk.classifier, self.store, hours, Limits(), self._drop, desk.clock.now_us)

    def _drop(self, count: int) -> None:
        self.dropped += count

    async def ask(self, *ids: str, limit: int | None = None, tenant: str = "acme") -> list[object]:
        """Asks about as many texts as there are ids."""
        options = Options(with_texts=True, neighbor_limit=limit, request_ids=ids)
        return list(await self.explainer.classify(tenant, ["win a prize"] * len(ids), ["spam"], options))


@pytest.fixture
async def office(desk: Desk) -> Office:
    """An office with three examples."""
    await open_explanation_store(desk.engine, create=True)
    drafts = [Draft("spam", f"a canary wins {i} prizes", ("spam",), source="mine") for i in range(3)]
    await desk.curator.create("acme", drafts)
    return Office(desk)


async def test_explained(office: Office) -> None:
    """What an answer was made of is known by its id: scores, versions and all voters, without texts and sources."""
    ((given,), (whole,)) = (
        await office.ask("r", limit=1),
        await office.desk.classifier.classify("acme", ["win a prize"], ["spam"], Options()),
    )
    assert len(given.predictions[0].neighbors) == 1  # type: ignore[attr-defined]
    await office.explainer.settle()
    explanation = await office.explainer.get("acme", "r")
    (kept,), (expected,) = explanation.classification.predictions, whole.predictions
    assert (kept.scores, kept.margin, kept.labels) == (expected.scores, expected.margin, expected.labels)
    assert (kept.policy_version, kept.examples_version) == (1, expected.examples_version)
    assert [(one.example_id, one.share) for one in kept.neighbors] == [
        (one.example_id, one.share) for one in expected.neighbors
    ]
    assert len(kept.neighbors) > 1
    assert {(one.text, one.source) for one in kept.neighbors} == {("", "")}
    assert "canary" not in str(office.store.written)
    now = office.desk.clock.now_us()
    assert (explanation.time_us, explanation.expires_us) == (now, now + 3_600_000_000)
    assert explanation.classification.request_id == "r"


async def test_forgotten(office: Office) -> None:
    """An explanation is known for its hours, after a restart as well, and to its tenant alone."""
    await office.ask("r/0", "r/1")
    await office.explainer.settle()
    again = Office(office.desk, hours=0)
    assert (await again.explainer.get("acme", "r/1")).classification.request_id == "r/1"
    with pytest.raises(ExplanationNotFound):
        await again.explainer.get("other", "r/1")
    office.desk.clock.advance(3_600)
    with pytest.raises(ExplanationNotFound):
        await office.explainer.get("acme", "r/0")
    await office.explainer.prune()
    assert await office.store.get("acme", "r/0") is None


async def test_answers_do_not_wait(office: Office) -> None:
    """An answer is given before it is kept, and what is on its way can be explained already."""
    office.store.gate.clear()
    await office.ask("r")
    await office.ask("s")
    assert (await office.explainer.get("acme", "r")).classification.request_id == "r"
    assert (await office.explainer.get("acme", "s")).classification.request_id == "s"
    assert office.store.written == []
    office.store.gate.set()
    await office.explainer.settle()
    assert len(office.store.written) == 2


async def test_bounded(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more answers wait than there is room for; those that can't be kept are counted."""
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    office.store.gate.clear()
    for i in range(5):
        await office.ask(f"a{i}")
    assert office.dropped == 2
    office.store.gate.set()
    await office.explainer.settle()
    assert len(office.store.written) == 3
    office.store.fails = True
    await office.ask("b")
    await office.explainer.settle()
    assert office.dropped == 3
    office.store.fails = False
    await office.ask("c")
    await office.explainer.settle()
    assert (await office.explainer.get("acme", "c")).classification.predictions


async def test_off(office: Office) -> None:
    """For 0 hours nothing is kept."""
    off = Office(office.desk, hours=0)
    await off.ask("r")
    await off.explainer.settle()
    assert off.store.written == []
    with pytest.raises(ExplanationNotFound, match="explain_hours"):
        await off.explainer.get("acme", "r")


async def test_checked(office: Office) -> None:
    """What a call asks for is checked as ever."""
    with pytest.raises(KOutOfRange):
        await office.ask("r", limit=201)
