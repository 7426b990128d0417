"""From points to examples."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from nearvote.examples.engine import Engine, Hit, NearestQuery
from nearvote.examples.nearest import nearest_examples
from nearvote.examples.store import SearchQuery


class Finds:
    """An engine that finds points of these scores."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    async def nearest(self, _collection: str, queries: Sequence[NearestQuery]) -> list[list[Hit]]:
        fields: dict[str, Any] = {"labels": ["x"], "weight": 1.0, "source": "", "fingerprint": 1, "updated_us": 1}
        hits = [Hit({"example_id": str(place), **fields}, score) for place, score in enumerate(self.scores)]
        return [hits for _ in queries]


@pytest.mark.parametrize(("score", "similarity"), [(1.0000002, 1), (0.5, 0.5), (-1.0000002, -1), (math.nan, -1)])
async def test_a_cosine_is_in_its_range(score: float, similarity: float) -> None:
    """Rounding carries no cosine out of its range, and what is no number is near to nothing."""
    query = SearchQuery("tenant", "task", np.ones((1, 2), np.float32), 20)
    ((found,),) = await nearest_examples(cast("Engine", Finds(score)), "c", [query], now_us=0)
    assert found.similarity == similarity
