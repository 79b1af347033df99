"""CPU seconds of an update, measured, so that arms can be given the same time and not the same number of updates."""

from __future__ import annotations

import resource
from collections.abc import Callable
from statistics import median

from pipeline import Command

SHORT, LONG = 20, 60


def cost_of_update(command: Callable[[int], Command], run: Callable[[Command], None], rounds: int = 2) -> float:
    """CPU seconds of one update: what `LONG` updates take more than `SHORT` ones, the median over `rounds`.

    CPU time and not time on the clock: other programs of the machine do not count. `command` gives the training command
    of so many updates.
    """
    found = []
    for _ in range(rounds):
        seconds = {}
        for updates in (SHORT, LONG):
            before = _cpu_seconds()
            run(command(updates))
            seconds[updates] = _cpu_seconds() - before
        found.append((seconds[LONG] - seconds[SHORT]) / (LONG - SHORT))
    return max(median(found), 1e-4)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
