"""Options of both stages that let the speech encoder learn, too."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EncoderTuningOptions:
    encoder_lora: int = field(
        default=0,
        metadata={"help": "train low-rank updates (LoRA) of so many ranks in the speech encoder; 0: it stays as it is"},
    )
    encoder_lora_alpha: float = field(
        default=16.0, metadata={"help": "the encoder's LoRA updates count times this, divided by their rank"}
    )
    encoder_lora_target: str = field(
        default="q_proj,v_proj", metadata={"help": "names of the encoder's linear layers that get LoRA"}
    )
    unfreeze_encoder_layers: int = field(
        default=0, metadata={"help": "train the upper so many layers of the speech encoder's transformer"}
    )
    encoder_lr: float | None = field(
        default=None,
        metadata={"help": "learning rate of what learns in the encoder, on the schedule of --lr; default: --lr"},
    )


# What learns in the encoder of a checkpoint; a run that starts from it takes these over.
TUNING_SHAPE = ("encoder_lora", "encoder_lora_alpha", "encoder_lora_target", "unfreeze_encoder_layers")
