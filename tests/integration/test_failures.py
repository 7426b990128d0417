"""Two of the failures of a store under load; `python -m tests.bench.failures` has them all, for longer."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import folder_in_memory
from tests.integration import failures
from tests.integration.failures import FAILURES, REFUSED, RIGHT, Outcome, Sufferer, suffering

KILLED, CUT = FAILURES[1:3]


@pytest.fixture(scope="module")
def sufferer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sufferer]:
    """A service and its store, called at a steady rate whenever the store fails."""
    folder = tmp_path_factory.mktemp("failures")
    with folder_in_memory(folder) as data, suffering(folder, data) as sufferer:
        yield sufferer


async def test_no_failure_makes_a_wrong_answer_or_loses_a_write(sufferer: Sufferer) -> None:
    """Killed, calls are refused and nothing else; cut off they are answered; what was acknowledged is there."""
    for failure in (KILLED, CUT):
        outcome = await sufferer.suffer(failure, 1.5)
        assert outcome.whats_wrong(garbled=False) == []
        assert outcome.classified[RIGHT] > 0, "it came back"
        assert outcome.classified[REFUSED] > 0 or failure is CUT


async def test_a_wrong_answer_and_a_lost_write_are_seen(sufferer: Sufferer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What watches sees a message that has another label than its example, and an addition that is not there."""
    text = next(iter(failures._KNOWN))
    monkeypatch.setattr(failures, "_KNOWN", {text: "ham"})
    monkeypatch.setitem(sufferer._acknowledged, "never added", "spam")
    outcome = await sufferer.suffer(CUT, 0.5)
    assert outcome.classified["wrong"] > 0
    assert outcome.lost == 1
    assert len(outcome.whats_wrong(garbled=False)) == 2


def test_what_may_never_be_is_named() -> None:
    """A status that nobody is told of, and a process that is gone; not what is wrong where bytes arrive as others."""
    outcome = Outcome("x", Counter({RIGHT: 1, REFUSED: 1, "wrong": 1, "INTERNAL": 2}), alive=False)
    assert outcome.whats_wrong(garbled=True) == ["x: INTERNAL 2 times", "x: the process is gone"]
