"""What another encoder changes on the examples: each judged by the votes of all others, before and after."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nearvote.examples.qdrant_store import QdrantStore
from nearvote.learn.corpus import Corpus, corpus_of
from nearvote.learn.leave_one_out import judged_by_others, labels_of
from nearvote.reindex.status import Changed, Compared
from nearvote.tasks.document import TASKS_KIND, task_from_document
from nearvote.tasks.fits import Fits
from nearvote.voting.policy import Rules

# Examples of a task that are judged at most, evenly spread by their ids; all of them vote.
_MOST_JUDGED = 2_000
# Changes of a task that are shown at most; all are counted.
_MOST_SHOWN = 100


async def compare(before: QdrantStore, after: QdrantStore) -> tuple[Compared, ...]:
    """Compares all tasks of all tenants that have two examples or more, by tenant and name.

    Args:
        before: What serves; its tasks say which labels and policies.
        after: What is to serve.

    Raises:
        StoreUnavailable: The store did not answer.
    """
    fits, found = Fits(before), []
    for tenant, name, body in sorted(await before.every_document(TASKS_KIND), key=lambda one: one[:2]):
        task = task_from_document(body)
        rules = replace(task.rules, policy=await fits.unfitted_policy(tenant, task))
        corpora = [
            corpus_of([window async for page in store.windows(tenant, name) for window in page], task.label_names)
            for store in (before, after)
        ]
        compared = await asyncio.to_thread(_compared, tenant, name, rules, *corpora, is_fitted=task.fit_version > 0)
        if compared:
            found.append(compared)
    return tuple(found)


def _compared(tenant: str, name: str, rules: Rules, old: Corpus, new: Corpus, *, is_fitted: bool) -> Compared | None:
    common = sorted(set(old.ids) & set(new.ids))  # an example may come or go meanwhile
    if len(common) < 2:  # noqa: PLR2004 - nobody to ask
        return None
    old, new = (corpus.take(np.flatnonzero(np.isin(corpus.ids, common))) for corpus in (old, new))
    places = np.unique(np.linspace(0, len(common) - 1, min(len(common), _MOST_JUDGED)).astype(np.int64))
    said = [labels_of(judged_by_others(corpus, rules, places).scores, rules) for corpus in (old, new)]
    own = old.has[places]
    right = [(given == own).all(axis=1) for given in said]
    differing = np.flatnonzero((said[0] != said[1]).any(axis=1))
    shown = sorted(differing, key=lambda row: bool(right[1][row]))[:_MOST_SHOWN]
    changed = tuple(
        Changed(
            old.ids[places[row]],
            old.raw[places[row]],
            *(_names(labels[row], rules.labels) for labels in (own, *said)),
        )
        for row in shown
    )
    return Compared(
        tenant,
        name,
        len(places),
        float(right[0].mean()),
        float(right[1].mean()),
        len(differing),
        changed,
        is_fitted,
    )


def _names(has: Sequence[bool], labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(label for label, there in zip(labels, has, strict=True) if there)
