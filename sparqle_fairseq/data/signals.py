"""Signals that ask a process to stop, the exit status of one that did, and loader processes that outlast them."""

from __future__ import annotations

import os
import signal
import threading
from functools import cache

# EX_TEMPFAIL of sysexits.h: "a temporary failure; try again". 0 is for training that is done.
STOPPED = 75
# Schedulers send them before they take a machine.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@cache
def guard_loader() -> None:
    """In a loader process, once: let only the trainer end it.

    A scheduler sends its signal to every process of a job, and a loader process that ends takes the trainer with it
    before that has saved.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Blocked, and waited for where its sender can be seen.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == parent:
            os._exit(0)
