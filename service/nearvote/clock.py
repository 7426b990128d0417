"""The system's clock, as times are stored."""

import time


def system_us() -> int:
    """The time, in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000
