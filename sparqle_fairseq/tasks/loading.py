"""A trained checkpoint, ready for use outside fairseq's own commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from fairseq import checkpoint_utils

import sparqle_fairseq
from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.tasks.base import SpeechTask


class Trained(NamedTuple):
    """What a checkpoint holds: its task (dictionary, prompts, generator), its model, and the options it was made by."""

    task: SpeechTask
    model: Any
    cfg: Any
    device: torch.device


def load_trained(
    checkpoint: str | Path, *, speech_encoder: str | None = None, llm: str | None = None, cpu: bool = False
) -> Trained:
    """Build the model of a stage-1 or stage-2 checkpoint, in eval mode, on the GPU where there is one.

    Args:
        checkpoint: as `fairseq-train` wrote it.
        speech_encoder: where the encoder lies now, if not where it lay in training; it must be the same one.
        llm: the same of the LLM; a stage-1 checkpoint has none.
        cpu: stay on the CPU.

    Raises:
        SparqleError: the file is missing or no checkpoint of this plugin, or encoder or LLM is not the one it was
            trained with.
    """
    sparqle_fairseq.register()
    if not Path(checkpoint).is_file():
        raise SparqleError(f"{checkpoint}: there is no such file; give a checkpoint of fairseq-train")
    places = {"speech_encoder": speech_encoder, "llm": llm}
    overrides = {name: value for name, value in places.items() if value is not None}
    try:
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], arg_overrides=overrides)
    except Exception as error:  # torch, omegaconf and fairseq raise many kinds on a file that is not a checkpoint
        sentence = sentence_of(error)
        if sentence is not None:
            raise SparqleError(f"{checkpoint}: {sentence}") from error
        reason = " ".join(str(error).split())[:200]
        raise SparqleError(
            f"{checkpoint} cannot be read as a checkpoint ({reason}); give one of fairseq-train"
        ) from error
    if not isinstance(task, SpeechTask):
        raise SparqleError(f"{checkpoint} is a checkpoint of another fairseq task; give one of stage 1 or 2")
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    model = models[0].to(device)
    model.eval()
    return Trained(task, model, cfg, device)
