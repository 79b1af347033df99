"""The record of a run in its output folder, by which a resumed run is known to be the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_json, write_text
from sparqle_fairseq.huggingface.training.arguments import Run

RECORD = "run.json"
# Of the trainer, what changes its steps.
_OF_STEPS = (
    "seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate",
    "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "optim", "adam_beta1", "adam_beta2",
    "adam_epsilon", "adam_epsilon_before_correction", "max_grad_norm", "train_sampling_strategy", "bf16", "fp16",
)  # fmt: skip
# Of data and model, what a resumed run may change: where things lie, and how it is validated.
_FREE = {
    "data", "audio_root", "speech_encoder", "llm", "text_tokenizer", "bert", "pretrained_adapter", "valid_subset",
    "eval_generate", "eval_generate_beam", "eval_max_new_tokens", "bleu_tokenizer", "llm_gradient_checkpointing",
    "qformer_gradient_checkpointing",
}  # fmt: skip


def options_of_steps(run: Run) -> dict[str, Any]:
    """What decides the steps of a run."""
    every = run.as_dict()
    trainer = set(json.loads(run.training.to_json_string()))
    return {
        name: value for name, value in every.items() if (name in _OF_STEPS if name in trainer else name not in _FREE)
    }


def checkpoint_to_resume(run: Run) -> str | None:
    """The checkpoint that a run goes on from, None where it begins; the folder is looked at and not changed.

    Raises:
        SparqleError: there is none, or the folder holds another run.
    """
    folder = Path(str(run.training.output_dir))
    asked = run.training.resume_from_checkpoint
    if asked in (None, False, "", "false", "False"):
        if folder.is_dir() and any((folder / name).exists() for name in (RECORD, "model.safetensors")):
            raise SparqleError(
                f"{folder} holds a run already; go on with it by --resume_from_checkpoint true, or give another "
                "output_dir"
            )
        return None
    path = str(asked)
    if path.lower() == "true":
        path = get_last_checkpoint(str(folder)) or "" if folder.is_dir() else ""
        if not path:
            raise SparqleError(f"{folder} holds no checkpoint to go on from; leave resume_from_checkpoint out")
    if not (Path(path) / "trainer_state.json").is_file():
        raise SparqleError(f"{path} is no checkpoint of a run; give a folder checkpoint-N, or true for the last one")
    record = folder / RECORD
    if record.is_file():
        _compare(record, read_json(record, "record of the run"), options_of_steps(run))
    return path


def write_record(run: Run) -> None:
    folder = Path(str(run.training.output_dir))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RECORD, json.dumps(options_of_steps(run), indent=1, sort_keys=True) + "\n")


def _compare(record: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in json.loads(json.dumps(now)).items():
        if name in before and before[name] != value:
            raise SparqleError(
                f"{record} is of another run: its {name} was {before[name]}, and is {value} now; go on with the same, "
                "or give another output_dir"
            )
