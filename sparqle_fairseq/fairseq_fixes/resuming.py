"""From which checkpoint training goes on: the newest one that is whole, never from nothing without a word."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils

from sparqle_fairseq.data.checkpoint_files import Found, check_bytes, look_at, whole
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.fairseq_fixes import early_stopping, stopping
from sparqle_fairseq.fairseq_fixes.marks import mark, marks

logger = logging.getLogger(__name__)

LAST = "checkpoint_last"
# fairseq's names: of the last update, of the best, of an epoch, of an epoch's update, of one of several best.
_NAMES = r"checkpoint(?:_last|_best|\d+|_\d+_\d+|\.best_.+)"
# What `files.written_whole` begins with, and what it was called before.
_LEFTOVERS = (".checkpoint*.pt.*.part", "checkpoint*.pt.tmp")


def newest_whole(folder: str | Path, suffix: str = "") -> Found | None:
    """The checkpoint of `folder` to go on from: checkpoint_last, or the newest whole one where that is no good.

    None where there is none at all. Warns where it is not checkpoint_last.

    Raises:
        SparqleError: there are checkpoints, and none of them is whole.
    """
    last = os.path.join(folder, f"{LAST}{suffix}.pt")
    trouble = f"{last} is missing"
    if os.path.lexists(last):
        try:
            return whole(last)
        except SparqleError as error:
            trouble = str(error)
    pattern = re.compile(f"{_NAMES}{re.escape(suffix)}\\.pt")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    others = [os.path.join(folder, name) for name in names if pattern.fullmatch(name)]
    others = [path for path in others if path != last]
    if not others and not os.path.lexists(last):
        return None
    candidates = []
    for path in others:
        with suppress(SparqleError):
            candidates.append(look_at(path))
    for found in sorted(candidates, key=lambda found: (found.has_optimizer, found.updates), reverse=True):
        with suppress(SparqleError):
            check_bytes(found.path)
            logger.warning("%s: training goes on from %s, update %d", trouble, found.path, found.updates)
            return found
    rest = f"none of the other {len(others)} there is whole" if others else "there is no other one"
    raise SparqleError(
        f"{trouble}, and {rest}; give a whole checkpoint with --restore-file, or another --save-dir to start from "
        "nothing"
    )


def remove_leftovers(folder: str | Path) -> None:
    """Remove what a killed run had begun to write."""
    for path in (found for pattern in _LEFTOVERS for found in Path(folder).glob(pattern)):
        with suppress(OSError):
            path.unlink()
            logger.info("removed %s, which was not finished", path)


def resume_from_the_newest_whole() -> None:
    """Let fairseq's training go on from the newest whole checkpoint.

    Symptoms: a damaged ``checkpoint_last.pt`` stops the run though older checkpoints are whole; a missing one, or a
    missing ``--restore-file``, starts from nothing without a word; ``--store-ema`` on a checkpoint without an average
    ends in ``KeyError: 'model'``. Reason: fairseq looks at one name only. Can go when it looks further.
    """
    usual, read = checkpoint_utils.load_checkpoint, checkpoint_utils.load_checkpoint_to_cpu
    if "takes the newest whole" in marks(usual):
        return
    wants_average = False

    @wraps(usual)
    def load_checkpoint(cfg: Any, trainer: Any, **more: Any) -> Any:
        nonlocal wants_average
        stopping.listen()
        early_stopping.forget()
        cfg = _settled(cfg, trainer)
        wants_average = bool(trainer.cfg.ema.store_ema)
        try:
            loaded = usual(cfg, trainer, **more)
        finally:
            wants_average = False
        if trainer.cfg.ema.store_ema and trainer.cfg.ema.ema_update_freq > 1:
            # fairseq counts from 0 again, so that an average kept every few updates would shift.
            trainer.ema.update_freq_counter = trainer.get_num_updates() % trainer.cfg.ema.ema_update_freq
        return loaded

    @wraps(read)
    def load_checkpoint_to_cpu(*given: Any, **named: Any) -> Any:
        state = read(*given, **named)
        if wants_average:
            # fairseq means to start the average from the model, but has deleted it from the state by then.
            state["extra_state"].setdefault("ema", dict(state["model"]))
        return state

    mark(load_checkpoint, "takes the newest whole")
    checkpoint_utils.load_checkpoint = load_checkpoint
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu


def _settled(cfg: Any, trainer: Any) -> Any:
    """The checkpoint options, with the file to go on from; all processes get the same one."""
    if trainer.is_fsdp and trainer.cfg.distributed_training.use_sharded_state:
        return cfg  # each process has a file of its own
    suffix, by_default = trainer.checkpoint_suffix, cfg.restore_file == f"{LAST}.pt"

    def choose() -> Found | None:
        remove_leftovers(cfg.save_dir)
        if by_default:
            found = newest_whole(cfg.save_dir, suffix)
            start = cfg.finetune_from_model
            if found is None and start is not None and "://" not in start and not os.path.isfile(start):
                raise SparqleError(f"--finetune-from-model {start}: there is no such file; give a checkpoint")
            return found
        path = cfg.restore_file.replace(".pt", suffix + ".pt") if suffix else cfg.restore_file
        if "://" in path:
            return None
        if not os.path.isfile(path):
            raise SparqleError(f"--restore-file {path}: there is no such file; leave it out to start from nothing")
        return None if cfg.reset_optimizer else _readable(path)

    found = _agree(trainer, choose)
    if found is None:
        return cfg
    if not found.has_optimizer and not cfg.reset_optimizer:
        raise SparqleError(
            f"{found.path} has no optimizer state (--no-save-optimizer-state), so training cannot go on from it as it "
            "was; start anew from its weights with --finetune-from-model and another --save-dir"
        )
    if not by_default or Path(found.path).name == f"{LAST}{suffix}.pt":
        return cfg
    cfg = copy.deepcopy(cfg)
    cfg.restore_file = found.path.removesuffix(".pt").removesuffix(suffix) + ".pt"  # fairseq adds the suffix
    cfg.finetune_from_model = None  # the run has begun, and goes on
    return cfg


def _readable(path: str) -> Found | None:
    """What a given file says of itself; whether it can be used is for the reader to say."""
    try:
        return look_at(path)
    except SparqleError:
        return None


def _agree(trainer: Any, choose: Callable[[], Found | None]) -> Found | None:
    """What the first process finds, or its error, in all processes."""
    if trainer.data_parallel_world_size == 1:
        return choose()
    from fairseq.distributed import utils as distributed

    answer: tuple[Any, str | None] = (None, None)
    if trainer.data_parallel_rank == 0:
        try:
            found = choose()
            answer = (None if found is None else tuple(found), None)
        except SparqleError as error:
            answer = (None, str(error))
    answer = distributed.broadcast_object(
        answer, src_rank=0, group=trainer.data_parallel_process_group, dist_device=trainer.device
    )
    found_there, sentence = answer
    if sentence is not None:
        raise SparqleError(sentence)
    return None if found_there is None else Found(*found_there)
