"""Logs: structured, to standard error, without the text of any message or example."""

import asyncio
import logging
import sys
import threading
from traceback import extract_tb
from typing import Any, Literal

import structlog

LogFormat = Literal["auto", "json", "console"]


def _name_the_error(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """An exception as its type and the lines of code it went through: its message and variables may hold texts."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(error.__traceback__)]
    return event


class _NamingFormatter(logging.Formatter):
    """What libraries log, an exception in it by its type and the lines of code it went through."""

    def format(self, record: logging.LogRecord) -> str:
        """One line a record, and one a line of code."""
        if isinstance(record.args, tuple):
            record.args = tuple(type(arg).__name__ if isinstance(arg, BaseException) else arg for arg in record.args)
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Without the exception's message."""
        return "\n".join([ei[0].__name__, *(f"{frame.filename}:{frame.lineno}" for frame in extract_tb(ei[2]))])


def log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler: asyncio's own would write the exception's message."""
    structlog.get_logger(__name__).error("unhandled", exc_info=context.get("exception"))


def _log_crash(error: BaseException) -> None:
    structlog.get_logger(__name__).critical("crashed", exc_info=error)


def configure_logs(level: str, log_format: LogFormat) -> None:
    """Sets up logging for the process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        log_format: `json`, `console`, or `auto` for the latter at a terminal.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _name_the_error,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_NamingFormatter("%(levelname)s:%(name)s:%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    sys.excepthook = lambda _type, error, _trace: _log_crash(error)
    threading.excepthook = lambda failed: _log_crash(failed.exc_value) if failed.exc_value else None
