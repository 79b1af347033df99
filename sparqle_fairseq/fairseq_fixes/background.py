"""Batches are read in a thread of their own; it ends before the process does."""

from __future__ import annotations

import atexit
import logging
import time
import weakref
from contextlib import suppress
from functools import wraps
from queue import Empty
from threading import Thread
from typing import Any

from fairseq.data import iterators

from sparqle_fairseq.fairseq_fixes.marks import mark, marks

logger = logging.getLogger(__name__)

SECONDS = 30.0  # that a process waits at its end for what is being read
_readers: weakref.WeakSet[Thread] = weakref.WeakSet()


def end_reading_first() -> bool:
    """Let a process that ends wait for its threads that read batches.

    Symptom: one training in twenty that comes to `--max-update` within an epoch says `terminate called without an
    active exception` behind its last line, and exits with 134; a script of two stages ends there. Reason: fairseq's
    thread goes on reading while Python takes its interpreter down, and is thrown out where torch frees a tensor, which
    C++ does not allow. Can go when `BufferedIterator` ends its thread.

    Returns:
        True where this call changed it.
    """
    usual = iterators.BackgroundConsumer.start
    if "ends before the process" in marks(usual):
        return False

    @wraps(usual)
    def start(self: Thread) -> None:
        _readers.add(self)
        usual(self)

    mark(start, "ends before the process")
    iterators.BackgroundConsumer.start = start
    atexit.register(end_reading)
    return True


def end_reading(seconds: float = SECONDS) -> None:
    """End the threads that read batches, each after the batch that it reads; what they have read is thrown away."""
    until = time.monotonic() + seconds
    readers: list[Any] = [reader for reader in _readers if reader.is_alive()]
    for reader in readers:
        reader._max_len = 0  # fairseq's own limit, which it looks at after each batch
    for reader in readers:
        while reader.is_alive() and time.monotonic() < until:
            with suppress(Empty):  # a thread that waits for room in its queue does not look
                reader._queue.get_nowait()
            reader.join(0.01)
    if any(reader.is_alive() for reader in readers):
        logger.warning("a batch is still being read after %g seconds; the process ends without it", seconds)
