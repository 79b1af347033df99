"""Checkpoints in the published SparQLe layout, turned into checkpoints of this plugin.

Sizes are read from the tensors. A published file may hold the frozen speech encoder and LLM too: these stay where they
are, because this plugin's checkpoints name them and never contain them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

import sparqle_fairseq
from sparqle_fairseq.compat import allow_fairseq_checkpoints
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.interop.sparqle import from_published
from sparqle_fairseq.models.adapted import check_names

# What a published file may hold of the parts that were not trained.
FROZEN = ("speech_encoder.", "llama_model.", "llm_model.")
_BERT_HEAD_WIDTH = 64


class Imported(NamedTuple):
    """What was done."""

    stage: int
    tensors: int  # of the adapter
    left_out_bytes: int  # frozen weights that the file holds and the checkpoint does not


def import_released(
    file: Path,
    output: Path,
    *,
    speech_encoder: str,
    llm: str | None = None,
    text_tokenizer: str | None = None,
    heads: int | None = None,
    encoder_layer: str = "last",
    encoder_dtype: str = "fp32",
    llm_dtype: str = "bf16",
) -> Imported:
    """Write the adapter in `file` as a checkpoint of this plugin.

    Args:
        file: published layout, stage 1 or 2; mapped, not read as a whole.
        output: must not exist; appears when it is complete.
        speech_encoder, llm, text_tokenizer: what the adapter was trained with; stage 1 has a tokenizer and no LLM.
        heads: attention heads, which no tensor tells; by default one for every 64 of the width, as in BERT.
        encoder_layer, encoder_dtype, llm_dtype: as for training.

    Raises:
        SparqleError: the file cannot be read, holds names that are not known, lacks some, or is of other sizes than
            encoder, LLM or tokenizer.
    """
    sparqle_fairseq.register()
    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    state = _read(file)
    left_out = sum(value.nbytes for name, value in state.items() if name.startswith(FROZEN))
    adapter = {name: value for name, value in state.items() if not name.startswith(FROZEN)}
    try:
        tensors = from_published(adapter)
    except KeyError as error:
        raise SparqleError(f"{file}: {error.args[0]}") from error
    stage = 2 if "projector.weight" in tensors else 1
    if stage == 2 and llm is None:
        raise SparqleError(f"{file} is of stage 2; give the LLM that it was trained with (--llm)")
    if stage == 1 and text_tokenizer is None:
        raise SparqleError(f"{file} is of stage 1; give the tokenizer that it was trained with (--text-tokenizer)")
    words = _words(file, tensors, heads)
    words += ["--speech-encoder", speech_encoder, "--encoder-layer", encoder_layer, "--encoder-dtype", encoder_dtype]
    if stage == 2:
        words += ["--task", "sparqle_finetune", "--arch", "sparqle_llm", "--criterion", "sparqle_finetune"]
        words += ["--llm", str(llm), "--llm-dtype", llm_dtype]
    else:
        words += ["--task", "sparqle_pretrain", "--arch", "sparqle_qformer_base", "--criterion", "sparqle_pretrain"]
        words += ["--text-tokenizer", str(text_tokenizer)]
        words += ["--contrastive-width", str(_tensor(file, tensors, "speech_projection.weight").size(0))]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    width = _tensor(file, tensors, "qformer.layers.0.cross_attention.key.weight").size(1)
    if model.speech_encoder.width != width:
        raise SparqleError(
            f"{file} was trained on speech features of width {width}, and {speech_encoder} gives "
            f"{model.speech_encoder.width}; give the encoder it was trained with"
        )
    if stage == 2 and model.llm.width != tensors["projector.weight"].size(0):
        raise SparqleError(
            f"{file} was trained for an LLM of width {tensors['projector.weight'].size(0)}, and {llm} has "
            f"{model.llm.width}; give the LLM it was trained with"
        )
    check_names(tensors, model.adapter, str(file))
    model.adapter.load_state_dict(tensors)
    _write(output, cfg, model.state_dict())
    return Imported(stage, len(tensors), left_out)


def _read(file: Path) -> Mapping[str, Tensor]:
    """The `model` of a published file."""
    if not file.is_file():
        raise SparqleError(f"{file}: there is no such file; give a published SparQLe checkpoint")
    allow_fairseq_checkpoints()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        tensors = state["model"]
        if not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ValueError("'model' holds more than tensors")
    except Exception as error:  # torch raises many kinds on a file that is not a checkpoint
        reason = " ".join(str(error).split())[:160]
        raise SparqleError(
            f"{file} cannot be read as a published SparQLe checkpoint ({reason}); copy it again, and if it holds code "
            "ask its maker for the weights alone"
        ) from error
    return tensors


def _tensor(file: Path, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise SparqleError(f"{file} lacks {name} (this plugin's name); it is no whole SparQLe adapter")
    return tensors[name]


def _words(file: Path, tensors: Mapping[str, Tensor], heads: int | None) -> list[str]:
    """The options of fairseq-train that make an adapter of the tensors' sizes."""
    _, queries, hidden = _tensor(file, tensors, "qformer.query_tokens").shape
    _tensor(file, tensors, "qformer.speech_norm.weight")  # without it the published model reads speech as it comes
    found = [re.match(r"qformer\.layers\.(\d+)\.(cross_attention\.key\.weight)?", name) for name in tensors]
    layers = 1 + max(int(match[1]) for match in found if match)
    reading = sorted(int(match[1]) for match in found if match and match[2])
    frequency = reading[1] - reading[0] if len(reading) > 1 else layers
    if reading != list(range(0, layers, frequency)):
        raise SparqleError(f"{file}: layers {reading} of {layers} read the speech, which is no regular spacing")
    sizes = {
        "hidden-size": hidden,
        "queries": queries,
        "layers": layers,
        "heads": heads or max(1, hidden // _BERT_HEAD_WIDTH),
        "ffn-size": _tensor(file, tensors, "qformer.layers.0.query_ffn.expand.weight").size(0),
        "cross-attention-freq": frequency,
    }
    if "qformer.text.positions.weight" in tensors:
        sizes["max-text-positions"] = tensors["qformer.text.positions.weight"].size(0)
    return [".", "--cpu", *(word for name, value in sizes.items() for word in (f"--{name}", str(value)))]


def _write(output: Path, cfg: Any, model: Mapping[str, Tensor]) -> None:
    """A checkpoint as fairseq's trainer writes it, before the first update."""
    state = {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": dict(model),
        "criterion": None,
        "optimizer_history": [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
    temporary = output.with_name(output.name + ".part")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, temporary)
    os.replace(temporary, output)
