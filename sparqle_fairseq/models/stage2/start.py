"""What stage 2 starts from: the adapter of a checkpoint (`--pretrained-adapter`), or a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.data.options import plain_options
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.models.adapted import check_names
from sparqle_fairseq.models.config import ENCODER_FIELDS, SHAPE_FIELDS, AdapterConfig, SpeechLLMConfig
from sparqle_fairseq.models.encoders import SpeechSource
from sparqle_fairseq.models.encoders.tuning import fill_tuning, take_tuning_options
from sparqle_fairseq.models.identity import STATE_NAME, check_identity, decode_identity
from sparqle_fairseq.models.llm.llm import LanguageModel
from sparqle_fairseq.models.llm.lora import fill_lora, take_lora_options
from sparqle_fairseq.models.qformer.plain import QFORMER, compresses
from sparqle_fairseq.models.qformer.projector import ScaledLinear, start_among
from sparqle_fairseq.models.qformer.qformer import of_text_branch
from sparqle_fairseq.models.stage1.objectives import parts_left_behind, trained_objective
from sparqle_fairseq.models.stage2.adapter import Stage2Adapter


def take_adapter_options(options: SpeechLLMConfig) -> None:
    """Fill in, from `--pretrained-adapter`, the adapter's sizes, and the encoder unless one was named.

    Raises:
        SparqleError: it is no checkpoint of this plugin, or the options ask for another adapter than it holds.
    """
    path = str(options.pretrained_adapter)
    checkpoint = read_adapter(path)
    trained = checkpoint["cfg"]
    there = plain_options(AdapterConfig, trained)
    if options.source == "units" and there.source != "units":
        raise SparqleError(
            f"--source units, but --pretrained-adapter {path} was trained on {there.source}; leave "
            "--source out or give a checkpoint that was trained on units"
        )
    if options.adapter not in (QFORMER, there.adapter):
        raise SparqleError(
            f"--adapter {options.adapter}, but --pretrained-adapter {path} holds a {there.adapter}; leave --adapter out"
        )
    # A named encoder may be the same one at another place; that it is the same is checked when it is loaded.
    # Checkpoints older than an option were trained with what is its default now.
    for name in SHAPE_FIELDS if options.speech_encoder else SHAPE_FIELDS + ENCODER_FIELDS:
        setattr(options, name, getattr(there, name))
    if any(name.startswith("adapter.projector.") for name in checkpoint["model"]):
        options.projector = there.projector
    options.compress_queries = options.compress_queries or compresses(options.adapter)
    take_lora_options(options, trained)
    take_tuning_options(options, trained)


def start_training(adapter: Stage2Adapter, options: SpeechLLMConfig, encoder: SpeechSource, llm: LanguageModel) -> None:
    """Give a new adapter the weights that training starts from. Raises `SparqleError`."""
    if options.pretrained_adapter:
        _start_from(adapter, options.pretrained_adapter, encoder, llm)
        return
    if compresses(options.adapter):
        raise SparqleError(
            f"--adapter {options.adapter} gives the LLM what stage 1 has learned to read; train stage 1 with "
            "--objective llm-ctc first, and give its checkpoint with --pretrained-adapter"
        )
    for option in ("freeze_qformer", "compress_queries"):
        if getattr(options, option):
            name = option.replace("_", "-")
            raise SparqleError(f"--{name} uses what stage 1 has learned; give it with --pretrained-adapter")
    _place(adapter.projector, llm)


def read_adapter(path: str) -> dict[str, Any]:
    """`model` tensors and `cfg` options of a checkpoint of this plugin."""
    allow_fairseq_checkpoints()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        options = state["cfg"]["model"]
        tensors = state["model"]
    except FileNotFoundError as error:
        raise SparqleError(f"--pretrained-adapter {path}: there is no such file") from error
    except Exception as error:  # torch raises many kinds on a file that is not a checkpoint
        raise SparqleError(
            f"--pretrained-adapter {path} is not a checkpoint of this plugin ({reason(error)})"
        ) from error
    if STATE_NAME not in tensors:
        raise SparqleError(f"--pretrained-adapter {path} is a checkpoint of another model; give one of stage 1 or 2")
    return {"model": tensors, "cfg": options if isinstance(options, Mapping) else vars(options)}


def _start_from(adapter: Stage2Adapter, path: str, encoder: SpeechSource, llm: LanguageModel) -> None:
    """Load the checkpoint's adapter, strictly: only what its objectives leave behind is left out, by name."""
    checkpoint = read_adapter(path)
    tensors: dict[str, Tensor] = checkpoint["model"]
    trained = decode_identity(tensors[STATE_NAME])
    # A checkpoint with a projector knows the LLM that it projects for.
    parts = {name: identity for name, identity in trained.items() if name in ("speech encoder", "LLM")}
    check_identity(parts, {"speech encoder": encoder.identity, "LLM": llm.identity})
    # What learns in the encoder's place: embeddings of units.
    learned = {
        name.removeprefix("speech_encoder."): value
        for name, value in tensors.items()
        if name.startswith("speech_encoder.")
    }
    check_names(learned, encoder, f"--pretrained-adapter {path}")
    encoder.load_state_dict(learned)
    state = {}
    text_branch = {name for name in tensors if of_text_branch(name.removeprefix("adapter.qformer."))}
    left: set[str] = set()
    if text_branch or "text vocabulary" in trained:  # of stage 1
        left = parts_left_behind(trained_objective(checkpoint["cfg"], f"--pretrained-adapter {path}"))
    if adapter.llm_space is None:
        left.add("llm_space")
    for name, value in tensors.items():
        place = name.removeprefix("adapter.")
        if name.startswith("speech_encoder.") or name in text_branch or place == STATE_NAME:
            continue
        if place.split(".")[0] not in left:
            state[place] = value
    if adapter.llm_space is not None and "llm_space.blank" not in state:
        asked = "--compress-queries" if adapter.plain is None else f"--adapter {adapter.reader.config.adapter}"
        raise SparqleError(f"{asked} needs an adapter of --objective llm-ctc, and --pretrained-adapter {path} is none")
    if not any(name.startswith("projector.") for name in state):  # a stage-1 checkpoint: the projector is new
        _place(adapter.projector, llm)
        state |= {f"projector.{name}": value for name, value in adapter.projector.state_dict().items()}
    fill_lora(state, adapter.lora)
    fill_tuning(state, getattr(adapter, "encoder_tuning", None), adapter.freeze_qformer)
    check_names(state, adapter, f"--pretrained-adapter {path}")
    adapter.load_state_dict(state)


def _place(projector: nn.Module, llm: LanguageModel) -> None:
    """Let a new projector that needs it know where the LLM's embeddings lie."""
    if isinstance(projector, ScaledLinear):
        start_among(projector, llm.all_embeddings())
