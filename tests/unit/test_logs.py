"""Logs that keep texts to themselves."""

import sys

import pytest
import structlog

from nearvote.observe.logs import LogFormat, configure_logs


def fail(canary: str) -> None:
    raise ValueError(canary)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_error_is_logged_without_what_it_says(
    log_format: LogFormat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error's type and the way it took are logged; neither its message nor any variable, which may hold a text."""
    before = structlog.get_config()
    try:
        configure_logs("debug", log_format)
        monkeypatch.setitem(structlog.get_config(), "logger_factory", structlog.WriteLoggerFactory(file=sys.stderr))
        log = structlog.get_logger("test")
        try:
            fail("canary text")
        except ValueError as error:
            log.exception("internal_error", exc_info=error)
            log.exception("again")
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().err
    assert written.count("ValueError") == 2
    assert "test_logs.py" in written
    assert "canary" not in written
