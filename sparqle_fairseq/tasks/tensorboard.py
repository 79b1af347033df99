"""Samples of the validation data in tensorboard while a model learns: text, audio, and what its queries attend to.

They lie beside the scalars that fairseq writes, in the folder `samples` of --tensorboard-logdir.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from sparqle_fairseq.data.one_line import one_line
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.figures import pixels, require_matplotlib, utterance_figure
from sparqle_fairseq.generate.inspection import Look, look_into

logger = logging.getLogger(__name__)

FOLDER = "samples"


class SampleBoard:
    """Writes the first `count` utterances of a split, as the model hears them at an update.

    Nothing is kept between two calls but the open file. Raises `SparqleError` where it could not write later.
    """

    def __init__(self, logdir: str | None, count: int) -> None:
        if not logdir:
            raise SparqleError("--visualize-interval writes to tensorboard; give its folder with --tensorboard-logdir")
        if count < 1:
            raise SparqleError(f"--visualize-samples {count} shows nothing; give a number from 1")
        require_matplotlib()
        self.folder = os.path.join(logdir, FOLDER)
        self.count = count
        self._writer: Any = None

    def write(self, task: Any, model: Any, split: str, update: int) -> None:
        """Text and picture of each sample, and at the first call its audio. Only the first process writes."""
        if dist.is_available() and dist.is_initialized() and dist.get_rank() != 0:
            return
        dataset = task.dataset(split)
        with _undisturbed(model):
            looks = look_into(task, model, dataset, range(min(self.count, len(dataset))), beam=1)
        first = self._writer is None
        if first:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(self.folder)
        for look in looks:
            self._writer.add_text(f"{look.name}/text", _markdown(look), update)
            self._writer.add_image(f"{look.name}/attention", pixels(utterance_figure(look)), update, dataformats="HWC")
            if first and look.waveform is not None:
                wave = look.waveform.clip(-1, 1)
                self._writer.add_audio(f"{look.name}/audio", wave, update, sample_rate=look.sample_rate)
        self._writer.flush()


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Eval mode for a while, and afterwards the mode and the random numbers that training would have had without."""
    training = model.training
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            model.train(training)


def _markdown(look: Look) -> str:
    # Four spaces make it code: a hypothesis is shown as it is, whatever marks it holds.
    return f"    reference:  {one_line(look.reference or '(none)')}\n    hypothesis: {one_line(look.hypothesis)}"
