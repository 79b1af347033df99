"""A signal ends training with its work saved: SIGTERM and SIGUSR1, which schedulers send before they take a machine.

The update that runs is finished, all processes agree on it, a checkpoint is written, and every process exits with the
status `STOPPED`. The same command goes on from there.
"""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import signal
import sys
import threading
from functools import wraps
from typing import Any

from sparqle_fairseq.data.signals import SIGNALS, STOPPED
from sparqle_fairseq.fairseq_fixes.early_stopping import training_modules
from sparqle_fairseq.fairseq_fixes.marks import mark, marks

logger = logging.getLogger(__name__)

_received: list[int] = []


def listen() -> None:
    """From now on the signals ask for a stop after the running update. Before, they end the process as usual.

    Called in training, when fairseq's own modules for it are there.
    """
    for module in training_modules():
        if "heeds signals" not in marks(module.validate_and_save):
            module.validate_and_save = _heeding(module.validate_and_save)
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        return  # Python takes signals in the main thread only
    for number in SIGNALS:
        # Nothing but a note: a handler may run in the middle of anything, a log line too.
        signal.signal(number, lambda got, _: _received.append(got))


def pass_signals_on() -> None:
    """Let a fairseq command that starts a process for each GPU pass the signals on.

    A command that ends leaves the signals as it found them.
    """
    from fairseq.distributed import utils as distributed

    usual = distributed.call_main
    if "passes signals on" in marks(usual):
        return

    @wraps(usual)
    def call_main(cfg: Any, main: Any, **named: Any) -> Any:
        from torch.multiprocessing import ProcessExitedException

        place = cfg.distributed_training
        if threading.current_thread() is not threading.main_thread():
            return usual(cfg, main, **named)
        before = {number: signal.getsignal(number) for number in SIGNALS}
        if place.distributed_world_size > 1 and not place.distributed_no_spawn:
            for number in SIGNALS:
                signal.signal(number, _to_children)
        try:
            return usual(cfg, main, **named)
        except ProcessExitedException as error:
            if error.exit_code == STOPPED:
                sys.exit(STOPPED)
            raise
        finally:
            # On the way out with its work saved, a second signal changes nothing.
            if not isinstance(sys.exc_info()[1], SystemExit):
                for number, handler in before.items():
                    signal.signal(number, handler)

    mark(call_main, "passes signals on")
    distributed.call_main = call_main


def _to_children(number: int, _: Any) -> None:
    children = multiprocessing.active_children()
    for child in children:
        if child.pid is not None:
            os.kill(child.pid, number)
    if not children:
        sys.exit(128 + number)


def _heeding(usual: Any) -> Any:
    @wraps(usual)
    def validate_and_save(
        cfg: Any, trainer: Any, task: Any, epoch_itr: Any, valid_subsets: Any, end_of_epoch: bool
    ) -> Any:
        stop = _agreed(trainer)
        if stop:
            # Saved before anything else: the machine may be gone before a validation that is due now ends.
            _save(cfg, trainer, epoch_itr)
        validated, done = usual(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)
        if not stop and not done and validated != [None] and _agreed(trainer):
            # It came during a long validation. What that found is saved already where a checkpoint was due.
            stop = True
            _save(cfg, trainer, epoch_itr)
        if stop and not done:
            _leave(cfg, trainer)
        return validated, done

    mark(validate_and_save, "heeds signals")
    return validate_and_save


def _agreed(trainer: Any) -> bool:
    """Whether any process was asked to stop; all processes get the same answer."""
    asked = bool(_received)
    if trainer.data_parallel_world_size == 1:
        return asked
    import torch
    from fairseq.distributed import utils as distributed

    flag = torch.tensor([float(asked)], device=trainer.device)
    distributed.all_reduce(flag, group=trainer.data_parallel_process_group, op="max")
    return bool(flag.item())


def _save(cfg: Any, trainer: Any, epoch_itr: Any) -> None:
    from fairseq import checkpoint_utils

    options = cfg.checkpoint
    if options.no_last_checkpoints:
        options = copy.deepcopy(options)
        options.no_last_checkpoints = False
    checkpoint_utils.save_checkpoint(options, trainer, epoch_itr, None)


def _leave(cfg: Any, trainer: Any) -> None:
    if trainer.data_parallel_world_size > 1:
        import torch

        # Together: a launcher that sees one process go ends the others, and the first may still be writing.
        torch.distributed.barrier()
    name = signal.Signals(_received[0]).name if _received else "a signal to another process"
    saved = "nothing is saved (--no-save)" if cfg.checkpoint.no_save else f"saved in {cfg.checkpoint.save_dir}"
    logger.warning("stopped by %s after update %d, %s; exit status %d", name, trainer.get_num_updates(), saved, STOPPED)
    sys.exit(STOPPED)
