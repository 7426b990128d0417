"""Another encoder: everything is embedded again beside what serves, and switched to and back by one write."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearvote.audit.event import Action, Change, Event
from nearvote.audit.log import EventQuery
from nearvote.errors import CannotReindex
from nearvote.examples import places as places_module
from nearvote.examples.audit_store import open_audit_store
from nearvote.examples.engine import Engine
from nearvote.examples.places import SPACE_DOCUMENT, Source, read_places, replace_places
from nearvote.examples.qdrant_store import QdrantStore
from nearvote.examples.spaces import open_store
from nearvote.examples.standing import Standing
from nearvote.examples.store import SearchQuery
from nearvote.limits import Limits
from nearvote.reindex import reindexer as module
from nearvote.reindex.status import Phase
from nearvote.startup_errors import EncoderMismatch, ModelNotFound, StoreTooNew
from nearvote.tasks.document import task_from_document, task_to_document
from nearvote.tasks.fit import Fit
from nearvote.tasks.fits import Fits
from nearvote.tasks.registry import TaskRegistry
from nearvote.tasks.shadow import Shadow
from nearvote.tasks.shadows import Shadows
from nearvote.tasks.task import Label, Task
from nearvote.text.surface import surface_vector
from nearvote.voting.metric import LinearMetric, Slot
from nearvote.voting.neighbor import View
from nearvote.voting.policy import Policy
from tests.contract.reindexed import (
    NEW,
    NEW_SPACE,
    OLD,
    OLD_SPACE,
    TASK,
    Counted,
    CutShortError,
    Shop,
    active,
    embedded_again,
    everything,
    example,
    nearest,
    put,
    ready,
    serving,
    stored,
    touch,
    vectors,
)


async def recorded(engine: Engine) -> list[Event]:
    """What the record of changes has of a tenant."""
    return (await (await open_audit_store(engine)).page("acme", EventQuery(), 100, None)).events


async def test_reindex(engine: Engine) -> None:
    """Embedding again keeps ids, labels, weights, times and documents, and answers by the new vectors alone."""
    examples = await stored(engine, ["money for you", "zzz qqq " * 30, "see you later"])
    status = await embedded_again(engine)
    assert (status.active, status.unfitted_tasks) == (await active(engine), ())
    store = await open_store(engine, NEW_SPACE)
    assert await everything(store) == examples
    assert await nearest(store, NEW, "uoy rof yenom") == "money for you", "an anagram is the same to this encoder"
    assert (await store.documents("task", "acme")) == {"spam": task_to_document(TASK)}
    with pytest.raises(EncoderMismatch):
        await open_store(engine, OLD_SPACE)


async def test_until_the_switch_nothing_changes(engine: Engine) -> None:
    """What was embedded serves only once it is switched to; cancelled, nothing is left of it."""
    examples = await stored(engine, ["money for you", "see you later"])
    before = await engine.collections()
    reindexer = await Shop(engine).reindexer()
    status = await ready(reindexer, "letters")
    assert (status.building or status.active).space == NEW_SPACE  # type: ignore[union-attr]
    store = await open_store(engine, OLD_SPACE)
    assert await everything(store) == examples
    assert await nearest(store, OLD, "later") == "see you later"
    assert await engine.collections() > before
    assert (await reindexer.cancel()).building is None
    assert await engine.collections() - {"nearvote_audit"} == before - {"nearvote_audit"}
    with pytest.raises(CannotReindex):
        await reindexer.switch()


async def test_it_keeps_up(engine: Engine) -> None:
    """What is added, relabelled or deleted, and tasks that come and go, until the switch itself, is so after it."""
    examples = await stored(engine, [f"text number {i} of many" for i in range(40)])
    old = await serving(engine)
    await old.put_document("task", "acme", "gone", task_to_document(replace(TASK, name="gone")))
    await put(old, OLD, [example("it goes with its task", "gone")])
    reindexer = await Shop(engine).reindexer()
    await ready(reindexer, "letters")

    first, second = (one for one in examples.values() if one.text == "text number 1 of many")
    examples[first.id] = replace(first, labels=("spam",), source="moderator", updated_us=99)
    await old.annotate([examples[first.id]])
    del examples[second.id]
    assert await old.delete("acme", second.task, second.id)
    added = example("money that came late")
    examples[added.id] = added
    await put(old, OLD, [added])
    await touch(old, {"spam", "abuse"})
    await old.delete_task("acme", "gone")
    for kind in ("task", "examples_version"):
        await old.delete_document(kind, "acme", "gone")
    await old.put_document("task", "acme", "late", task_to_document(replace(TASK, name="late")))

    await reindexer.switch()
    store = await serving(engine)
    assert await everything(store) == examples
    assert await nearest(store, NEW, "late came money that") == "money that came late"
    assert (await store.documents("task", "acme")).keys() == {"spam", "late"}
    switched = Change(Action.ENCODER_SWITCHED, "", example_count=len(examples))
    assert [event.change for event in await recorded(engine) if event.change.action is Action.ENCODER_SWITCHED] == [
        switched
    ]


async def fitted(engine: Engine) -> dict[str, Task]:
    """Two tasks with fits of the former vectors, of two tenants, and one without; as they were before."""
    await stored(engine, ["money for you", "see you later"])
    store = await open_store(engine, OLD_SPACE)
    fits, before = Fits(store), {"other": replace(TASK, name="other"), "plain": replace(TASK, name="plain")}
    metric = LinearMetric(np.eye(OLD.spec.dimension, dtype=np.float32)[::-1].copy())
    for version in (1, 2):
        replaced = TASK.policy if version == 1 else Policy(k=11)
        fit = Fit(
            version,
            metric,
            in_metric=True,
            prototypes=None,
            policy=Policy(k=10 + version),
            replaced_version=version - 1,
            replaced_policy=replaced,
            unfitted_policy=TASK.policy,
        )
        for tenant, name in (("acme", "spam"), ("other", "other")):
            await fits.put(tenant, name, fit)
    for tenant, task in (("acme", TASK), ("other", before["other"])):
        fitted = replace(task, fit_version=2, slot=Slot.B, slots={Slot.B: 2}, policy=Policy(k=12))
        await store.put_document("task", tenant, task.name, task_to_document(fitted))
    await store.put_document("task", "acme", "plain", task_to_document(before["plain"]))
    return before


async def test_fits_stay_with_their_vectors(engine: Engine) -> None:
    """Tasks have the policy from before their first fit under another encoder; going back, their fits serve again."""
    before = await fitted(engine)
    old = await serving(engine)
    stood = await old.documents("task", "acme")
    status = await embedded_again(engine)
    assert status.unfitted_tasks == (("acme", "spam"), ("other", "other"))
    unfits, switches = sorted(await recorded(engine), key=lambda event: event.change.action.value, reverse=True)
    assert (unfits.change.task, unfits.change.fit_versions) == ("spam", (2, 0))
    new = await serving(engine)
    own = [one for one in (await everything(new)).values() if one.tenant == "acme"]
    assert switches.change == Change(Action.ENCODER_SWITCHED, "", example_count=len(own))
    unfitted = {name: replace(task, policy_version=3) for name, task in (("spam", TASK), ("other", before["other"]))}
    assert await new.documents("task", "acme") == {
        "spam": task_to_document(unfitted["spam"]),
        "plain": task_to_document(before["plain"]),
    }
    assert await new.documents("task", "other") == {"other": task_to_document(unfitted["other"])}
    assert await new.documents("fit", "acme") == await new.documents("fit", "other") == {}

    labels = (Label("spam"), Label("ham"), Label("new"))
    await new.put_document("task", "acme", "spam", task_to_document(replace(unfitted["spam"], labels=labels)))
    late = example("money that came late")
    await put(new, NEW, [late])
    status = await embedded_again(engine, back=True)
    assert status.unfitted_tasks == ()
    again = await serving(engine)
    assert again.collections == old.collections
    assert await nearest(again, OLD, "came late") == "money that came late"
    there = task_from_document((await again.documents("task", "acme"))["spam"])
    assert there == replace(task_from_document(stood["spam"]), labels=labels, policy_version=4)
    fit = await Fits(again).serving("acme", there)
    assert fit
    assert fit.metric
    (vector,) = await vectors(OLD, ["came late"])
    query = SearchQuery("acme", "spam", fit.metric.project(vector), 1, slot=Slot.B)
    ((found,),) = await again.search([query])
    assert found.example_id == late.id, "it is in the fit's metric, too"


async def test_n_grams(engine: Engine) -> None:
    """Embedding again counts n-grams again: examples are found by what they look like."""
    await stored(engine, ["m0ney for you", "see you later"])
    await embedded_again(engine)
    query = SearchQuery("acme", "spam", surface_vector("m0ney"), 5, view=View.SURFACE)
    found = await (await serving(engine)).search([query], with_text=True)
    assert [[neighbor.text for neighbor in by] for by in found] == [["m0ney for you"]]


async def test_cut_short(engine: Engine) -> None:
    """Cut short in the middle, the old vectors stay in force and take changes; the next run embeds the rest."""
    examples = await stored(engine, [f"text number {i} of many" for i in range(200)])
    assert len(examples) == 300
    shop = Shop(engine, Counted(most=128))
    reindexer = await shop.reindexer()
    await reindexer.start(Source("letters"))
    assert (await reindexer.finished()).phase is Phase.FAILED
    await reindexer.close()
    assert shop.counted.embedded == 128
    old = await open_store(engine, OLD_SPACE)
    assert await everything(old) == examples
    assert await nearest(old, OLD, "text number 17") == "text number 17 of many"
    gone = examples.pop(next(iter(examples)))
    assert await old.delete("acme", gone.task, gone.id)

    shop = Shop(engine)
    again = await shop.reindexer()
    with pytest.raises(CannotReindex, match="nothing is ready"):
        await again.switch()
    await ready(again)  # what it was begun with
    await again.switch()
    assert shop.counted.embedded == 300 - 128, "what was there is not embedded again"
    assert await everything(await open_store(engine, NEW_SPACE)) == examples


async def test_cut_short_before_the_switch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short when all but the switch is done, tasks and fits are as they were; the next run does it whole."""
    await fitted(engine)
    old = await open_store(engine, OLD_SPACE)
    stood = [await old.every_document(kind) for kind in ("task", "fit")]
    assert [len(found) for found in stood] == [3, 4]
    reindexer = await Shop(engine).reindexer()
    await ready(reindexer, "letters")

    def cut(*_: object) -> None:
        raise CutShortError

    with monkeypatch.context() as patched:
        patched.setattr(module, "_switched", cut)
        with pytest.raises(CutShortError):
            await reindexer.switch()
    again = await open_store(engine, OLD_SPACE)
    assert [await again.every_document(kind) for kind in ("task", "fit")] == stood
    await Standing(engine, again).check()
    assert (await reindexer.switch()).unfitted_tasks == (("acme", "spam"), ("other", "other"))


async def test_back_and_dropped(engine: Engine) -> None:
    """Going back gives the first answers, with what changed since; dropping the former leaves one space."""
    shop, examples = Shop(engine), await stored(engine, ["money for you", "see you later", "who is there"])
    await embedded_again(engine)
    new = await serving(engine)
    late = example("later than you think")
    await put(new, NEW, [late])
    gone = next(one for one in examples.values() if one.text == "who is there")
    await new.delete("acme", gone.task, gone.id)
    await touch(new, {"spam"})

    reindexer = await shop.reindexer()
    await ready(reindexer, back=True)
    assert shop.counted.embedded == 1, "the others are there"
    await reindexer.switch()
    store = await serving(engine)
    assert await everything(store) == {**{i: e for i, e in examples.items() if i != gone.id}, late.id: late}
    assert await nearest(store, OLD, "than you think") == "later than you think"
    former = (await reindexer.status()).former
    assert former
    assert former.space == NEW_SPACE
    assert (await reindexer.drop_former()).former is None
    assert not any(NEW_SPACE.key in name for name in await engine.collections())
    assert former.state not in await engine.collections()
    assert await nearest(store, OLD, "than you think") == "later than you think"
    for refused in (reindexer.drop_former(), reindexer.start(Source(), back=True)):
        with pytest.raises(CannotReindex):
            await refused


async def test_unreadable(engine: Engine) -> None:
    """Examples in which the other encoder reads nothing are counted, and gone while it serves; going back, they are."""
    examples = await stored(engine, ["money for you", "$$$ 100 %"])
    lost = {e.id for e in examples.values() if e.text == "$$$ 100 %"}
    reindexer = await Shop(engine).reindexer()
    assert (await ready(reindexer, "letters")).left_out_count == len(lost)
    assert await recorded(engine) == []
    await reindexer.switch()
    assert {own.id for event in await recorded(engine) for own in event.change.examples} == lost
    assert (await everything(await serving(engine))).keys() == examples.keys() - lost
    await embedded_again(engine, back=True)
    assert await everything(await serving(engine)) == examples


async def test_refusals(engine: Engine) -> None:
    """The encoder in force, one that is not there, a second at a time, and another half-way are refused."""
    reindexer = await Shop(engine).reindexer()
    with pytest.raises(CannotReindex, match="nothing is stored"):
        await reindexer.start(Source("letters"))
    await stored(engine, ["money for you"])
    with pytest.raises(CannotReindex, match="already"):
        await ready(reindexer, "hashing")
    with pytest.raises(ModelNotFound):
        await ready(reindexer, "none")
    with pytest.raises(CannotReindex, match="go on with"):
        await reindexer.start(Source())
    await reindexer.start(Source("letters"))
    # The embedded store is one process's alone: what another's lease says is of one that has ended.
    for other in (reindexer, *([await Shop(engine).reindexer()] if engine.kind == "server" else [])):
        with pytest.raises(CannotReindex, match="wait for it"):
            await other.start(Source("letters"))
    assert (await reindexer.finished()).phase is Phase.READY
    read = await read_places(engine)
    assert read
    building = read[0].building
    assert building
    half = replace(building, space=replace(building.space, key="third"))
    assert await replace_places(engine, replace(read[0], building=half), read[1])
    with pytest.raises(CannotReindex, match="cancel it first"):
        await ready(reindexer, "letters")


async def test_what_was_deleted_stays_deleted(engine: Engine) -> None:
    """Going back, neither documents nor a task's examples come back that were deleted under the other encoder."""
    await stored(engine, ["money for you", "$$$ 100 %"])
    old = await serving(engine)
    await old.put_document("task", "acme", "abuse", task_to_document(replace(TASK, name="abuse")))
    for name in ("spam", "abuse"):
        await old.put_document("shadow", "acme", name, {})
    await embedded_again(engine)
    new = await serving(engine)
    await new.delete_document("shadow", "acme", "spam")
    await new.delete_document("task", "acme", "abuse")
    await new.delete_task("acme", "abuse")
    await touch(new, {"abuse"})
    await embedded_again(engine, back=True)
    back = await serving(engine)
    assert (await back.documents("shadow", "acme")).keys() == {"abuse"}
    assert {one.task for one in (await everything(back)).values()} == {"spam"}


async def test_the_trial_of_a_fit_stays_with_its_vectors(engine: Engine) -> None:
    """A policy is tried beside the other encoder too; a fit is of the former vectors: it is tried no more."""
    await stored(engine, ["money for you"])
    old = await serving(engine)
    abuse = replace(TASK, name="abuse")
    await old.put_document("task", "acme", "abuse", task_to_document(abuse))
    tried = replace(TASK, claimed=(Slot.A, 1), tried=1)
    await old.put_document("task", "acme", "spam", task_to_document(tried))
    of_policy: dict[str, Any] = {
        "task": "abuse",
        "policy": {},
        "share": 1.0,
        "policy_version": 2,
        "created_us": 1,
        "started_us": 5,
    }
    of_fit = {**of_policy, "task": "spam", "fit_version": 1, "slot": Slot.A.value}
    for body in (of_policy, of_fit):
        await old.put_document("shadow", "acme", body["task"], body)
    begun = await shadows(old)
    assert (begun["abuse"].is_of(abuse), begun["spam"].is_of(tried)) == (True, True)
    for back in (False, True):
        await embedded_again(engine, back=back)
        now = await serving(engine)
        assert (await shadows(now)).keys() == {"abuse"}
        for name, before in (("abuse", abuse), ("spam", TASK)):
            document = await now.document("task", "acme", name)
            assert document
            assert task_from_document(document) == before
    await old.put_document("shadow", "acme", "spam", of_fit)
    assert not (await shadows(old))["spam"].is_of(TASK), "and if it were there, it would be of nothing"


async def shadows(store: QdrantStore) -> Mapping[str, Shadow]:
    """What is tried."""
    return await Shadows(store, TaskRegistry(store, Limits()), Limits()).read("acme")


async def test_a_later_layout_is_refused(engine: Engine) -> None:
    """A store that a later version has laid out is not opened, and the message says what to do."""
    await stored(engine, ["money for you"])
    documents = QdrantStore(engine, "")
    body = await documents.document(*SPACE_DOCUMENT)
    assert body
    assert body.pop("schema") == 1
    await documents.put_document(*SPACE_DOCUMENT, body)
    await open_store(engine, OLD_SPACE)  # what has no version is of the first
    await documents.put_document(*SPACE_DOCUMENT, {**body, "schema": 2})
    with pytest.raises(StoreTooNew, match="start a later nearvote"):
        await open_store(engine, OLD_SPACE)


async def test_an_earlier_layout_is_migrated(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of an earlier layout serves, and is brought to the present one by a reindex with the same encoder."""
    examples = await stored(engine, ["money for you", "see you later"])
    monkeypatch.setattr(places_module, "SCHEMA_VERSION", 2)
    assert await everything(await open_store(engine, OLD_SPACE)) == examples
    old = await active(engine)
    status = await embedded_again(engine, "hashing")
    assert status.former == old
    now = await active(engine)
    assert (old.schema, now.schema, now.space) == (1, 2, OLD_SPACE)
    assert now.examples != old.examples
    assert await everything(await open_store(engine, OLD_SPACE)) == examples
