"""What several unit tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exports are kept: for the session, or from one session to the next in NEARVOTE_TEST_CACHE_DIR."""
    given = os.environ.get("NEARVOTE_TEST_CACHE_DIR")
    return Path(given) if given else tmp_path_factory.mktemp("cache")
