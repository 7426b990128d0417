"""Servers for the tests to talk to."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.server import Server

Start = Callable[..., Server]


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the exported model is kept: from run to run where NEARVOTE_TEST_CACHE_DIR is set."""
    return os.environ.get("NEARVOTE_TEST_CACHE_DIR") or str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory, model_cache: str) -> Iterator[Server]:
    """A server with the real encoder and the seeds, for tests that only read."""
    server = Server(tmp_path_factory.mktemp("seeded") / "data", NEARVOTE_CACHE_DIR=model_cache).start()
    yield server
    server.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers with the encoder without a model and nothing in the store; stops them at the end."""
    with ExitStack() as stack:

        def starter(*flags: str, folder: str = "data", **environment: str) -> Server:
            server = Server(tmp_path / folder, "--model", "hashing", "--no-seeds", *flags, **environment)
            stack.callback(server.stop)
            return server.start()

        yield starter


@pytest.fixture
def plain(start: Start) -> Server:
    """A server with the encoder without a model, and a task of two labels."""
    server = start()
    assert server.cli("tasks", "create", "spam", "-l", "spam", "-l", "ham", "--benign", "ham").returncode == 0
    return server
