"""The models of both stages as fairseq knows them: options of the command line, sizes, and a class each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from fairseq.utils import split_paths

from sparqle_fairseq.data.options import fairseq_dataclass, plain_options
from sparqle_fairseq.models.config import SIZES, PretrainModelConfig, SpeechLLMConfig
from sparqle_fairseq.models.stage1.model import PretrainModel
from sparqle_fairseq.models.stage2.model import SpeechLLM


@register_model("sparqle_qformer", dataclass=fairseq_dataclass(PretrainModelConfig))
class FairseqPretrainModel(PretrainModel, BaseFairseqModel):
    """`PretrainModel`, built for a task of fairseq."""

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> Self:
        return cls.build(
            plain_options(PretrainModelConfig, cfg),
            folders=split_paths(task.cfg.data),
            seed=int(task.cfg.seed),
            trained="the checkpoint" if task.building_from_checkpoint else "",
        )

    def max_positions(self) -> None:
        """No limit of its own; --max-source-positions sets one."""


@register_model("sparqle_llm", dataclass=fairseq_dataclass(SpeechLLMConfig))
class FairseqSpeechLLM(SpeechLLM, BaseFairseqModel):
    """`SpeechLLM`, built for a task of fairseq."""

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> Self:
        return cls.build(
            plain_options(SpeechLLMConfig, cfg),
            folders=split_paths(task.cfg.data),
            seed=int(task.cfg.seed),
            training=not task.building_from_checkpoint,
            eval_generate=task.cfg.eval_generate,
        )

    def max_positions(self) -> None:
        """No limit of its own; --max-source-positions sets one."""


def _architecture(size: dict[str, Any]) -> Callable[[Any], None]:
    """fairseq's architecture function of a size: it fills in what the command line leaves open."""

    def fill(args: Any) -> None:
        for name, value in size.items():
            setattr(args, name, getattr(args, name, value))

    return fill


# In stage 2 too: without --pretrained-adapter the sizes must come from somewhere.
for _model in ("sparqle_qformer", "sparqle_llm"):
    for _name, _size in SIZES.items():
        register_model_architecture(_model, f"{_model}_{_name}")(_architecture(_size))
