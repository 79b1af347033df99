"""Options of the tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import II

from sparqle_fairseq.data.options import choice
from sparqle_fairseq.generate.options import DecodingOptions
from sparqle_fairseq.models.config import SOURCES


@dataclass
class SpeechTaskConfig(DecodingOptions):
    data: str | None = field(
        default=None, metadata={"help": "folder of the manifests <split>.tsv; several, separated by ':', take turns"}
    )
    audio_root: str | None = field(
        default=None, metadata={"help": "folder of relative audio paths; by default the manifest's own"}
    )
    src_lang: str | None = field(default=None, metadata={"help": "src_lang of rows that have none (BCP-47)"})
    tgt_lang: str | None = field(default=None, metadata={"help": "tgt_lang of rows that have none (BCP-47)"})
    row_task: str | None = field(
        default=None, metadata={"help": "task of rows that have none: transcription or translation"}
    )
    source: str = choice(
        "audio",
        SOURCES,
        "audio (or features of it), or units: <split>.km beside <split>.tsv; a checkpoint knows its own",
    )
    speed_perturb: str | None = field(
        default=None,
        metadata={"help": "speeds of training audio, one drawn an utterance and epoch, such as 0.9,1.0,1.1"},
    )
    sampling_temperature: float = field(
        default=1.0,
        metadata={
            "help": "how training rows are drawn: 1 takes each once an epoch; a larger T gives a group of n of the N "
            "rows a share like (n/N)^(1/T), so that small groups come more often"
        },
    )
    sampling_by: str = field(
        default="tgt_lang",
        metadata={"help": "what makes a group for --sampling-temperature: tgt_lang, src_lang, task, manifest, or some"},
    )
    task_ratio: str | None = field(
        default=None,
        metadata={
            "help": "how transcription and translation are mixed in training, such as transcription=1,translation=2; "
            "default: as the manifests have them"
        },
    )
    max_source_positions: int | None = field(
        default=None,
        metadata={"help": "longest utterance, in samples at 16 kHz (or feature frames, or units); default: no limit"},
    )
    skip_bad_audio: bool = field(
        default=False,
        metadata={"help": "leave utterances with unreadable audio out, and say which, instead of stopping"},
    )
    no_strict_audio: bool = field(
        default=False,
        metadata={"help": "read what is left of a damaged recording, and say how much is lost, instead of stopping"},
    )
    eval_generate: bool = field(
        default=False,
        metadata={"help": "generate text in validation and log its WER and CER (transcription) or BLEU (translation)"},
    )
    eval_generate_beam: int = field(default=1, metadata={"help": "beam of the generation in validation"})
    bleu_tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "sacrebleu's tokenizer for BLEU in validation and in fairseq-generate; default: that of each row's "
            "target language (zh, ja-mecab, ko-mecab, char where no spaces part words, else 13a)"
        },
    )
    visualize_interval: int = field(
        default=0,
        metadata={
            "help": "write sample texts, audio and attention pictures to --tensorboard-logdir after every so many "
            "updates; 0: never"
        },
    )
    visualize_samples: int = field(
        default=4, metadata={"help": "utterances that --visualize-interval shows: the first of the validation set"}
    )
    seed: int = II("common.seed")
    train_subset: str = II("dataset.train_subset")
    valid_subset: str = II("dataset.valid_subset")
    tensorboard_logdir: str | None = II("common.tensorboard_logdir")


@dataclass
class PretrainTaskConfig(SpeechTaskConfig):
    """Nothing beyond what both stages have."""


@dataclass
class FinetuneTaskConfig(SpeechTaskConfig):
    prompt_templates: str | None = field(
        default=None, metadata={"help": "YAML file of instructions, or one that ships: default, sparqle, sparqle-plain"}
    )
    answer_mix: float = field(
        default=0.0,
        metadata={
            "help": "share of training's translations that are answered in the other style than --answer says; others, "
            "validation and generation keep to --answer"
        },
    )
    transcript_errors: float = field(
        default=0.0,
        metadata={
            "help": "in half of training's answers with the transcript first, give the LLM a transcript of which this "
            "share of the words is wrong; its tokens are not learned there"
        },
    )
