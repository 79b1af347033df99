"""A checkpoint's LLM with its LoRA, as what Hugging Face's libraries read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

import sparqle_fairseq
from sparqle_fairseq.data.hub import folder_with_weights
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import folder_written_whole
from sparqle_fairseq.models.llm.lora import ADAPTER, LoRA, with_peft

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Exported(NamedTuple):
    layers: int  # that LoRA changes
    parameters: int  # of LoRA
    dtype: str  # of what was written


def export_llm(
    checkpoint: Path,
    output: Path,
    *,
    merge: bool,
    dtype: str | None = None,
    llm: str | None = None,
    speech_encoder: str | None = None,
) -> Exported:
    """Write the folder `output`: the LLM merged with LoRA and its tokenizer, or LoRA alone as peft's adapter.

    Args:
        checkpoint: of stage 2, trained with LoRA.
        output: must not exist.
        merge: whether to add the updates to the LLM's weights. It is done in single precision.
        dtype: fp32, fp16 or bf16; by default what the LLM is stored in. LoRA alone stays as it was trained.
        llm, speech_encoder: where they are now, if not where they were in training.

    Raises:
        SparqleError: the checkpoint has no LoRA, or cannot be read.
    """
    sparqle_fairseq.register()
    from transformers import AutoModelForCausalLM

    from sparqle_fairseq.tasks.loading import load_trained

    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    trained = load_trained(checkpoint, llm=llm, speech_encoder=speech_encoder, cpu=True)
    lora: LoRA | None = getattr(trained.model.adapter, "lora", None)
    if lora is None:
        raise SparqleError(
            f"{checkpoint} was trained without LoRA, so its LLM is {_place(trained)} as it is; export nothing"
        )
    # Anew: the model of the checkpoint may be in another precision, or quantised.
    base = AutoModelForCausalLM.from_pretrained(
        folder_with_weights(_place(trained)), dtype="auto", trust_remote_code=False
    )
    stored = base.dtype
    base.requires_grad_(False)
    base.float()
    peft_model = with_peft(base, lora.config, _place(trained))
    _copy(lora, base)
    kept = DTYPES[dtype] if dtype else stored
    with folder_written_whole(output) as folder:
        if merge:
            merged = peft_model.merge_and_unload(safe_merge=True).to(kept)
            merged.save_pretrained(folder)
            trained.model.llm.tokenizer.save_pretrained(folder)
        else:
            kept = next(lora.parameters()).dtype
            peft_model.save_pretrained(folder)
    return Exported(len(lora.layer_names), lora.parameter_count, str(kept).removeprefix("torch."))


def _place(trained: Any) -> str:
    """Where the checkpoint's LLM was read from."""
    return str(trained.model.llm.identity["path"])


@torch.no_grad()
def _copy(lora: LoRA, model: Any) -> None:
    """The trained matrices into peft's layers of `model`."""
    for name in lora.layer_names:
        layer: Any = model.get_submodule(name)
        own: Any = lora.get_submodule(name)
        layer.lora_A[ADAPTER].weight.copy_(own.A.weight)
        layer.lora_B[ADAPTER].weight.copy_(own.B.weight)
