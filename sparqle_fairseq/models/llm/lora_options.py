"""Options of stage 2 that let the LLM learn a little (LoRA)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LoRAOptions:
    lora_rank: int = field(
        default=0, metadata={"help": "train low-rank updates (LoRA) of so many ranks in the LLM; 0: it stays as it is"}
    )
    lora_alpha: float = field(default=16.0, metadata={"help": "LoRA updates count times this, divided by the rank"})
    lora_target: str = field(
        default="default",
        metadata={
            "help": "linear layers of the LLM that get LoRA: names such as q_proj,v_proj, all-linear for all but the "
            "output, or default for peft's choice for this kind of LLM"
        },
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout of what LoRA reads, in training"})
    without_lora: bool = field(
        default=False,
        metadata={
            "help": "run the LLM without the LoRA that was trained (for fairseq-generate: --model-overrides "
            "\"{'without_lora': True}\"); with --pretrained-adapter leave its LoRA out"
        },
    )


# What the LoRA of a checkpoint is; a run that starts from it takes these over.
LORA_SHAPE = ("lora_rank", "lora_alpha", "lora_target")
