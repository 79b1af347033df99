"""Options of training with transformers: of the model as in fairseq-train, of the trainer as in transformers.

Every field is a key of a configuration file and an option of the command line.
"""

# transformers' parser reads these annotations at run time.
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from sparqle_fairseq.data.options import with_options
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.training.batches import ORDERS
from sparqle_fairseq.models.stage1.objectives import kinds, options_are_read
from sparqle_fairseq.models.stage2.objectives import kinds as stage2_kinds
from sparqle_fairseq.models.stage2.objectives import options_are_read as stage2_options_are_read


@dataclass
class DataOptions:
    """Manifests, and what is made of their rows; named as the options of fairseq-train."""

    stage: int = field(default=2, metadata={"help": "1: the Q-Former from transcripts; 2: it prompts the LLM"})
    data: str | None = field(default=None, metadata={"help": "folder of the manifests <subset>.tsv"})
    train_subset: str = field(default="train", metadata={"help": "manifest to train on; 'a,b' is both"})
    valid_subset: str | None = field(
        default=None, metadata={"help": "manifest to validate on; of 'a,b' each is validated, and has its own scores"}
    )
    audio_root: str | None = field(
        default=None, metadata={"help": "folder of relative audio paths; by default the manifest's own"}
    )
    src_lang: str | None = field(default=None, metadata={"help": "src_lang of rows that have none (BCP-47)"})
    tgt_lang: str | None = field(default=None, metadata={"help": "tgt_lang of rows that have none (BCP-47)"})
    row_task: str | None = field(
        default=None, metadata={"help": "task of rows that have none: transcription or translation"}
    )
    speed_perturb: str | None = field(
        default=None, metadata={"help": "speeds of training audio, one drawn an utterance and epoch: 0.9,1.0,1.1"}
    )
    sampling_temperature: float = field(
        default=1.0, metadata={"help": "above 1, groups of few training rows come more often; see docs/data.md"}
    )
    sampling_by: str = field(
        default="tgt_lang", metadata={"help": "what makes a group: tgt_lang, src_lang, task, manifest, or some"}
    )
    task_ratio: str | None = field(
        default=None, metadata={"help": "how tasks are mixed in training: transcription=1,translation=2"}
    )
    no_strict_audio: bool = field(
        default=False, metadata={"help": "read what is left of a damaged recording instead of stopping"}
    )
    prompt_templates: str | None = field(
        default=None, metadata={"help": "of stage 2: YAML file of instructions, or the name of one that ships"}
    )
    required_batch_size_multiple: int = field(
        default=1, metadata={"help": "batches of so many rows or more are a multiple of it; fairseq-train's default: 8"}
    )
    eval_generate: bool = field(
        default=False, metadata={"help": "generate text in validation, and score it: eval_wer, eval_cer, eval_bleu"}
    )
    eval_generate_beam: int = field(default=1, metadata={"help": "beam of the generation in validation"})
    eval_max_new_tokens: int = field(default=200, metadata={"help": "most tokens of a text in validation"})
    bleu_tokenizer: str | None = field(
        default=None, metadata={"help": "sacrebleu's tokenizer; default: that of each row's target language"}
    )


@dataclass
@with_options(kind.LossOptions for kind in kinds())
class Stage1LossOptions:
    """Those of the objectives' losses."""


options_are_read()


@dataclass
@with_options(kind.LossOptions for kind in stage2_kinds())
class Stage2LossOptions:
    """Those of the objectives' losses."""


stage2_options_are_read()


@dataclass
class SparqleTrainingArguments(TrainingArguments):
    """transformers' own, with the order of fairseq-train by default, and without what this trainer would pass over."""

    output_dir: str | None = field(default=None, metadata={"help": "folder of the trained model and its checkpoints"})
    train_sampling_strategy: str = field(
        default="fairseq",
        metadata={
            "help": "how training rows are ordered: fairseq (batches of like length, shuffled, as fairseq-train with "
            "the same seed), random, sequential or group_by_length",
            "choices": list(ORDERS),
        },
    )
    adam_epsilon_before_correction: bool = field(
        default=True,
        metadata={"help": "AdamW adds adam_epsilon before the bias is corrected, as fairseq does, and not after"},
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "has no meaning here; leave it False"})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "whether DDP looks for parameters without gradient; there are none"}
    )
    report_to: str | None = field(default="none", metadata={"help": "where to log: none, tensorboard, wandb and so on"})

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise SparqleError("no folder was given for the model; name one with output_dir")
        super().__post_init__()
        for name, meaningless, remedy in _NOT_READ:
            if getattr(self, name) != meaningless:
                raise SparqleError(f"{name} {getattr(self, name)} has no effect here; {remedy}")


# Options of transformers that the loss and the loaders here do not read: name, value that asks for nothing, remedy.
_NOT_READ: tuple[tuple[str, Any, str], ...] = (
    ("label_smoothing_factor", 0.0, "give answer_label_smoothing (stage 2) or the objective's own (stage 1)"),
    ("average_tokens_across_devices", True, "the loss is always a mean over the tokens of all processes"),
    ("auto_find_batch_size", False, "another batch size would be another run; lower per_device_train_batch_size"),
    (
        "dataloader_persistent_workers",
        False,
        "loaders that outlive an epoch would draw its prompts again; leave it out",
    ),
    ("dataloader_drop_last", False, "the last batch counts what it has; leave it out"),
    ("remove_unused_columns", False, "rows have no columns here; leave it out"),
    ("torch_empty_cache_steps", None, "leave it out"),
)
