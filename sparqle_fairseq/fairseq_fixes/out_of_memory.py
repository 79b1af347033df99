"""A batch that is too large for one of several processes: left out where the others can go on, else a clear end.

fairseq goes on after an out-of-memory by itself, which is right for one process. With several, its recovery sums
statistics of different sizes and reduces gradients that one process does not have, and where the loss talks to the
other processes (stage 1) they wait for an answer that never comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from fairseq.distributed import LegacyDistributedDataParallel

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.gather import world_size

logger = logging.getLogger(__name__)

Step = tuple[Any, Any, dict[str, Any]]  # loss, sample size, what to log


class OutOfMemoryGuard:
    """Runs the training steps of one process."""

    def __init__(self) -> None:
        self._update = -1
        self._size: Any = 0  # of what this process has accumulated for this update (--update-freq)
        self._log: dict[str, Any] = {}

    def step(self, usual: Callable[[], Step], model: Any, optimizer: Any, update: int, alone: bool) -> Step:
        """Loss, sample size and log of a batch; nothing of it where memory ran out and the others can go on.

        Args:
            usual: forward and backward pass.
            model: as the trainer holds it, with its wrapper.
            optimizer: fairseq's.
            update: how many updates there were.
            alone: whether `usual` neither sends to the other processes nor waits for them.

        Raises:
            SparqleError: memory ran out in one of several processes that cannot go on without each other.
        """
        if update != self._update:
            self._update, self._size = update, 0
        try:
            loss, size, log = usual()
        except RuntimeError as error:
            if world_size() == 1 or "out of memory" not in str(error):
                raise
            if not (alone and self._log and _reduces_at_the_end(model)):
                raise SparqleError(
                    f"process {dist.get_rank()} of {world_size()} ran out of memory in update {update + 1} "
                    f"({reason(error)}), "
                    "and the others cannot go on without it; lower --max-tokens, or --max-source-positions where one "
                    "utterance is too long"
                ) from error
        else:
            self._size = self._size + size
            self._log = log
            return loss, size, log
        # Out of the handler, so that nothing holds the tensors of the pass any more.
        logger.error("update %d: out of memory (%s); this process's batch is left out", update + 1, reason)
        optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        # Gradients of zero, made the usual way: the optimizer has to know that there are some to share.
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        loss = sum(parameter.sum() for parameter in trained) * 0
        optimizer.backward(loss)
        # What was accumulated before is gone with it, and must not count.
        dropped, self._size = self._size, 0
        return loss.detach(), -dropped, {name: value * 0 for name, value in self._log.items()}


def _reduces_at_the_end(model: Any) -> bool:
    """Whether gradients are shared after the backward pass, and not while it runs."""
    return isinstance(getattr(model, "module", None), LegacyDistributedDataParallel) or isinstance(
        model, LegacyDistributedDataParallel
    )
