"""What was learned for a task, kept as documents."""

import copy
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from nearvote.errors import FitNotFound
from nearvote.tasks.document import Revision
from nearvote.tasks.fit import Fit, as_stored, fit_from_document, fit_to_document
from nearvote.tasks.fits import Fits
from nearvote.tasks.task import Label, Task
from nearvote.voting.metric import LinearMetric
from nearvote.voting.policy import Action, LabelPolicy, Policy
from nearvote.voting.pool import Pool, Voter
from nearvote.voting.prototypes import Prototypes

_CHANCE = np.random.default_rng(5)
POLICY = Policy(
    k=7,
    surface_weight=0.0,
    scope_floor=0.25,
    pool=Pool({Voter.MEANING: 0.5, Voter.SURFACE_PROTOTYPES: 1.5}, {"a": -0.5}),
    labels={"a": LabelPolicy(score_threshold=0.0, block_score=0.9)},
    abstention_action=Action.REVIEW,
)
PROTOTYPES = Prototypes(
    labels=("a", "b", "c"),
    multi_label=True,
    meaning=_CHANCE.standard_normal((3, 8)).astype(np.float32),
    meaning_bias=np.array([0.1, -0.25, 1e-7], np.float32),
    plain=_CHANCE.standard_normal((3, 8)).astype(np.float32),
    plain_bias=np.array([-0.5, 1e-7, 3.0], np.float32),
    buckets=np.array([0, 5, 2**20 - 1], np.uint32),
    rarity=np.array([1.0, 2.5, 1e-3], np.float32),
    unknown_rarity=7.25,
    surface=_CHANCE.standard_normal((3, 3)).astype(np.float32),
    surface_bias=np.array([1e-3, 0.0, -7.0], np.float32),
)
FIT = Fit(
    version=3,
    metric=LinearMetric(_CHANCE.standard_normal((8, 8)).astype(np.float32)),
    in_metric=True,
    prototypes=PROTOTYPES,
    policy=POLICY,
    replaced_version=1,
    replaced_policy=Policy(k=5),
    created_us=1_795_000_000_000_001,
    figures={"macro_f1": 0.9, "by_label": {"a": [1, None]}},
)
PLAIN = Fit(
    version=1,
    metric=None,
    in_metric=False,
    prototypes=None,
    policy=Policy(),
    replaced_version=0,
    replaced_policy=Policy(),
)
TASK = Task("spam", (Label("a"), Label("b")), fit_version=3, created_us=10)


class FakeDocuments:
    """Documents in memory, each kept as the text of its JSON. Counts how often it is asked for one."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], str] = {}
        self.read = 0

    async def documents(self, kind: str, tenant: str) -> dict[str, dict[str, Any]]:
        return {name: json.loads(body) for (k, t, name), body in self.kept.items() if (k, t) == (kind, tenant)}

    async def document(self, kind: str, tenant: str, name: str) -> dict[str, Any] | None:
        self.read += 1
        body = self.kept.get((kind, tenant, name))
        return None if body is None else json.loads(body)

    async def put_document(self, kind: str, tenant: str, name: str, body: Mapping[str, Any]) -> None:
        self.kept[kind, tenant, name] = json.dumps(body)

    async def read_document(self, kind: str, tenant: str, name: str) -> tuple[dict[str, Any], Revision] | None:
        body = self.kept.get((kind, tenant, name))
        return None if body is None else (json.loads(body), (body,))

    async def put_document_if(
        self, kind: str, tenant: str, name: str, body: Mapping[str, Any], revision: Revision | None
    ) -> bool:
        before = self.kept.get((kind, tenant, name))
        if (None if before is None else (before,)) != revision:
            return False
        await self.put_document(kind, tenant, name, body)
        return True

    async def delete_document(self, kind: str, tenant: str, name: str) -> None:
        self.kept.pop((kind, tenant, name), None)


@pytest.fixture
def store() -> FakeDocuments:
    """What all replicas share."""
    return FakeDocuments()


def told(fit: Fit) -> dict[str, Any]:
    """Everything of a fit but its arrays."""
    return {
        name: getattr(fit, name)
        for name in ("version", "in_metric", "policy", "replaced_version", "replaced_policy", "created_us", "figures")
    }


def assert_same(one: Fit, other: Fit) -> None:
    """Checks that two fits are the same to the last digit."""
    assert told(one) == told(other)
    for a, b in ((one.metric, other.metric), (one.prototypes, other.prototypes)):
        assert (a is None) == (b is None)
    if one.metric and other.metric:
        np.testing.assert_array_equal(one.metric.matrix, other.metric.matrix)
    if one.prototypes and other.prototypes:
        assert (one.prototypes.labels, one.prototypes.multi_label) == (
            other.prototypes.labels,
            other.prototypes.multi_label,
        )
        for name in (field.name for field in fields(Prototypes) if field.name not in ("labels", "multi_label")):
            np.testing.assert_array_equal(getattr(one.prototypes, name), getattr(other.prototypes, name))


def test_a_fit_survives_the_document() -> None:
    """A fit that went through JSON is the same, its arrays to the rounding of half floats, its n-grams exactly."""
    back = fit_from_document(json.loads(json.dumps(fit_to_document(FIT))))
    assert told(back) == told(FIT)
    assert back.metric is not None
    assert FIT.metric is not None
    assert back.prototypes is not None
    assert (back.prototypes.labels, back.prototypes.multi_label) == (("a", "b", "c"), True)
    np.testing.assert_array_equal(PROTOTYPES.buckets, back.prototypes.buckets)
    np.testing.assert_array_equal(PROTOTYPES.meaning_bias, back.prototypes.meaning_bias)
    np.testing.assert_array_equal(PROTOTYPES.plain_bias, back.prototypes.plain_bias)
    np.testing.assert_array_equal(PROTOTYPES.surface_bias, back.prototypes.surface_bias)
    np.testing.assert_array_equal(PROTOTYPES.rarity, back.prototypes.rarity)
    assert back.prototypes.unknown_rarity == 7.25
    for stored, given in (
        (back.metric.matrix, FIT.metric.matrix),
        (back.prototypes.meaning, PROTOTYPES.meaning),
        (back.prototypes.plain, PROTOTYPES.plain),
        (back.prototypes.surface, PROTOTYPES.surface),
    ):
        assert (stored.dtype, stored.shape) == (np.dtype(np.float32), given.shape)
        assert stored == pytest.approx(given, rel=1e-3)
    assert back.prototypes.buckets.dtype == np.uint32


def test_a_fit_of_a_policy_alone() -> None:
    """A fit without metric and prototypes comes back without them."""
    assert_same(PLAIN, fit_from_document(json.loads(json.dumps(fit_to_document(PLAIN)))))


def test_prototypes_without_n_grams() -> None:
    """Prototypes that learned the meaning alone keep the shape of what they lack."""
    bare = replace(
        FIT,
        prototypes=replace(
            PROTOTYPES,
            buckets=np.empty(0, np.uint32),
            rarity=np.empty(0, np.float32),
            surface=np.empty((0, 3), np.float32),
        ),
    )
    back = as_stored(bare).prototypes
    assert back is not None
    assert (back.buckets.shape, back.surface.shape) == ((0,), (0, 3))


def test_stored_once_is_stored_for_ever() -> None:
    """What came back from the store once does not change when it is stored again."""
    once = as_stored(FIT)
    assert_same(once, as_stored(once))


@pytest.mark.parametrize("format_", [None, 0, 2, "1"])
def test_another_format(format_: object) -> None:
    """A document of another format, or of none, is refused in words that say so."""
    with pytest.raises(ValueError, match=r"format .* can't be read"):
        fit_from_document({**fit_to_document(FIT), "format": format_})


async def test_put_and_got(store: FakeDocuments) -> None:
    """A fit is got by tenant, task and version, and not otherwise."""
    fits = Fits(store)
    await fits.put("acme", "spam", FIT)
    assert_same(as_stored(FIT), await fits.get("acme", "spam", 3))
    for tenant, task, version in (("other", "spam", 3), ("acme", "abuse", 3), ("acme", "spam", 2)):
        with pytest.raises(FitNotFound, match=rf"fit {version} of task '{task}'.*nearvote fit --task {task}") as caught:
            await fits.get(tenant, task, version)
        assert caught.value.field == "task"


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 2},
        {"version": None, "metric": {"shape": [2, 2], "dtype": "<f2", "data": "AAAA"}},
        {"metric": {"shape": [1, 1]}},
        {"policy": {"k": "many"}},
        {"prototypes": {}},
    ],
)
async def test_an_unreadable_fit_is_not_there(store: FakeDocuments, damage: dict[str, Any]) -> None:
    """A fit that can't be read is said not to be kept, with what to do."""
    await store.put_document("fit", "acme", "spam/3", {**fit_to_document(FIT), **copy.deepcopy(damage)})
    with pytest.raises(FitNotFound, match="nearvote fit"):
        await Fits(store).get("acme", "spam", 3)
    with pytest.raises(FitNotFound, match="nearvote fit"):
        await Fits(store).serving("acme", TASK)


async def test_a_document_that_lacks_a_part(store: FakeDocuments) -> None:
    """A fit whose document lacks a part is said not to be kept."""
    document = fit_to_document(FIT)
    del document["replaced_policy"]
    await store.put_document("fit", "acme", "spam/3", document)
    with pytest.raises(FitNotFound):
        await Fits(store).get("acme", "spam", 3)


async def test_a_task_without_fit(store: FakeDocuments) -> None:
    """A task that was never fitted is served by none, and the store is not asked."""
    assert await Fits(store).serving("acme", replace(TASK, fit_version=0)) is None
    assert store.read == 0


async def test_what_serves_is_read_once(store: FakeDocuments) -> None:
    """The fit that serves is read once, for each tenant and task, and again when another one serves."""
    fits = Fits(store)
    for tenant, name, version in (("acme", "spam", 3), ("acme", "abuse", 3), ("other", "spam", 3), ("acme", "spam", 4)):
        await fits.put(tenant, name, replace(FIT, version=version, figures={"of": [tenant, name, version]}))
    for reads, (tenant, name, version) in enumerate(
        (
            ("acme", "spam", 3),
            ("acme", "abuse", 3),
            ("other", "spam", 3),
            ("acme", "spam", 4),
            ("acme", "spam", 3),
        ),
        1,
    ):
        for _ in range(3):
            fit = await fits.serving(tenant, replace(TASK, name=name, fit_version=version))
            assert fit is not None
            assert fit.figures == {"of": [tenant, name, version]}
            assert store.read == reads


async def test_a_task_created_again(store: FakeDocuments) -> None:
    """A task that was deleted and created again is not served by what its namesake had learned."""
    fits = Fits(store)
    task = replace(TASK, fit_version=1)
    await fits.put("acme", "spam", replace(PLAIN, figures={"of": "the first"}))
    first = await fits.serving("acme", task)
    await fits.delete("acme", "spam", range(1, 2))
    await fits.put("acme", "spam", replace(PLAIN, figures={"of": "the second"}))
    second = await fits.serving("acme", replace(task, created_us=11))
    assert [fit.figures["of"] for fit in (first, second) if fit] == ["the first", "the second"]


async def test_deleted(store: FakeDocuments) -> None:
    """Of the versions named those there are are deleted, and no other task's or tenant's."""
    fits = Fits(store)
    kept = {("acme", "spam", 4), ("acme", "spam-2", 1), ("other", "spam", 1)}
    for tenant, name, version in {*kept, ("acme", "spam", 1), ("acme", "spam", 3)}:
        await fits.put(tenant, name, replace(PLAIN, version=version))
    await fits.delete("acme", "spam", range(1, 4))
    left = {(tenant, *name.split("/")) for _, tenant, name in store.kept}
    assert {(tenant, name, str(version)) for tenant, name, version in kept} == left


async def test_the_policy_from_before_the_first_fit(store: FakeDocuments) -> None:
    """It stands in the fit that serves; a task without a fit has its own, one whose fit is gone the default."""
    fits = Fits(store)
    task = replace(TASK, fit_version=4, policy=Policy(k=40))
    assert await fits.unfitted_policy("acme", replace(task, fit_version=0)) == Policy(k=40)
    assert await fits.unfitted_policy("acme", task) == Policy()
    await fits.put("acme", "spam", replace(PLAIN, version=4, unfitted_policy=Policy(k=3)))
    assert await fits.unfitted_policy("acme", task) == Policy(k=3)


async def test_the_last_fits_are_kept(store: FakeDocuments) -> None:
    """Of what a fit replaced, and that replaced, so many are kept; not by number, for some were gone back from."""
    fits = Fits(store)
    for version, replaced in ((1, 0), (2, 1), (8, 2), (9, 8)):
        await fits.put("acme", "spam", replace(PLAIN, version=version, replaced_version=replaced))
    await fits.keep_last("acme", "spam", replace(PLAIN, version=9, replaced_version=8), 2)
    kept = []
    for version in (1, 2, 8, 9):
        try:
            kept.append((await fits.get("acme", "spam", version)).version)
        except FitNotFound:
            continue
    assert kept == [2, 8, 9]
