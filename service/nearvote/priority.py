"""Whose turn at a core it is: threads that work for long give way to the one that takes and answers calls."""

import os
import threading

# Steps of niceness: where cores are short, five of them leave a thread a third of the share of one without.
ENCODING = 5
# Of short texts while long ones are on all cores: three steps less give a thread twice the share (DECISIONS 114).
ENCODING_SHORT = 2
LEARNING = 15
_LEAST_URGENT = 19


def give_way(steps: int) -> None:
    """Makes the calling thread, and those that it starts from then on, less urgent than the process's first thread.

    Linux alone schedules by threads. Each control group has its own reckoning, so a container's threads give way to one
    another and not to what else runs on the machine.

    Args:
        steps: Of niceness below the first thread's, 1 or more.
    """
    thread = threading.get_native_id()
    less_urgent = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + steps, _LEAST_URGENT)
    # Never more urgent than it is already: that would take a privilege.
    os.setpriority(os.PRIO_PROCESS, thread, max(less_urgent, os.getpriority(os.PRIO_PROCESS, thread)))
