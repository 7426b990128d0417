"""What the service takes, and the checks that hold it to that."""

from collections.abc import Sequence
from dataclasses import dataclass

from nearvote.errors import InvalidField, KOutOfRange, TextTooLong, TooManyTexts

_MAX_PAGE = 1_000
_DEFAULT_PAGE = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on requests and state, each above 0.

    Attributes:
        max_text_bytes: Longest text, in bytes of UTF-8.
        max_batch_texts: Most texts or examples in one batch.
        max_k: Most neighbours that may vote or be searched.
        max_labels: Most labels of a task.
        max_tasks: Most tasks.
        max_request_bytes: Largest request, in bytes.
        max_stream_concurrency: Most items of one stream that are worked on at a time.
        max_stream_requests: Most requests in one stream.
        max_streams: Most streams at a time.
        max_concurrent_calls: Most other calls at a time.
        max_queued_tokens: Most tokens of texts that are not embedded yet.
        max_task_examples: Most examples of a task.
        max_pending_feedback: Most corrections of one source that may be pending.
        max_feedback_per_hour: Most corrections that one source may submit in an hour by the clock.
        max_connections: Most connections at a time.
        max_connection_calls: Most calls and streams at a time over one connection.
        max_watches: Most streams of other services at a time: watches of health, and reflection.
    """

    max_text_bytes: int = 65_536
    max_batch_texts: int = 256
    max_k: int = 200
    max_labels: int = 1_000
    max_tasks: int = 100
    max_request_bytes: int = 8_388_608
    max_stream_concurrency: int = 64
    max_stream_requests: int = 10_000_000
    max_streams: int = 128
    max_concurrent_calls: int = 192
    max_queued_tokens: int = 262_144
    max_task_examples: int = 10_000_000
    max_pending_feedback: int = 1_000
    max_feedback_per_hour: int = 500
    max_connections: int = 512  # 1,024 open files are what a process often may have, and the store has some
    max_connection_calls: int = 512  # more than are let in of all, so that who is too many is told so and does not wait
    max_watches: int = 1_024  # of one host half of them: one for each connection


def check_batch(items: Sequence[object], limits: Limits, *, field: str) -> None:
    """Checks the number of texts or examples in a batch.

    Raises:
        TooManyTexts: There are none, or more than the service takes.
    """
    if not 1 <= len(items) <= limits.max_batch_texts:
        raise TooManyTexts(
            f"a batch has 1 to {limits.max_batch_texts} items, not {len(items)}: send several, or a stream", field=field
        )


def check_text(text: str, limits: Limits, *, field: str) -> None:
    """Checks the length of a text.

    Raises:
        TextTooLong: It is longer than the service takes.
    """
    # A character has four bytes at most, so most texts need no encoding to be known as short enough.
    if len(text) * 4 > limits.max_text_bytes:
        size = len(text.encode(errors="replace"))
        if size > limits.max_text_bytes:
            raise TextTooLong(
                f"a text has at most {limits.max_text_bytes} bytes, not {size}: cut it, or raise max_text_bytes",
                field=field,
            )


def check_page_size(page_size: int) -> int:
    """How many items a page has; 0 stands for the default.

    Raises:
        InvalidField: It is not 0 to 1000.
    """
    if not 0 <= page_size <= _MAX_PAGE:
        raise InvalidField(f"page_size is 1 to {_MAX_PAGE}, or 0 for {_DEFAULT_PAGE}", field="page_size")
    return page_size or _DEFAULT_PAGE


def check_k(k: int | None, limits: Limits, *, field: str) -> None:
    """Checks a number of neighbours; None stands for a default.

    Raises:
        KOutOfRange: It is not 1 to `max_k`.
    """
    if k is not None and not 1 <= k <= limits.max_k:
        raise KOutOfRange(f"the number of neighbours is 1 to {limits.max_k}, not {k}", field=field)
