"""Stage-1 adapter: a Q-Former, or another reader, with the heads of its objectives, over a frozen encoder's features.

Plain PyTorch. B utterances, T frames, W width of the speech, Q queries, H hidden size, D contrastive width, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import sum_over_ranks, world_size
from sparqle_fairseq.models.qformer.masking import FeatureMasks
from sparqle_fairseq.models.qformer.plain import ReadingConfig, ReadsSpeech
from sparqle_fairseq.models.stage1.batch import Stage1Batch, Stage1Text
from sparqle_fairseq.models.stage1.losses import MAX_TEMPERATURE, MIN_TEMPERATURE
from sparqle_fairseq.models.stage1.objectives import PUBLISHED, Given, Objective, Reach, Sums, kinds, unreached


class Stage1Adapter(ReadsSpeech):
    """Q-Former (or plain adapter) and the parts of its objectives; only what a loss reaches asks for a gradient.

    Args:
        config: sizes of the Q-Former, or of the plain adapter in its place.
        decode_token: id of [DEC], which starts a transcript that is to be written.
        pad_token: id of the padding of transcripts.
        objectives: names of what is learned from.
        options: attributes named as the options of fairseq-train, from which each objective takes its own; what is
            missing has its default.
        llm_embeddings: (V, M), what the LLM's layers see of each token, for objectives that read the LLM.
        projector: kind of what turns query outputs into embeddings of the LLM.
        masks: hide parts of the speech in training mode, and in no other.

    Raises:
        SparqleError: an objective cannot be learned from with these.
    """

    speech_projection: Any
    text_projection: Any
    temperature: Tensor

    def __init__(
        self,
        config: ReadingConfig,
        *,
        decode_token: int,
        pad_token: int,
        objectives: Iterable[str] = PUBLISHED,
        options: Any = None,
        llm_embeddings: Tensor | None = None,
        projector: str = "linear",
        masks: FeatureMasks | None = None,
    ) -> None:
        super().__init__(config, with_text=True)
        self.masks = masks
        self.decode_token = decode_token
        self.pad_token = pad_token
        asked = tuple(objectives)
        if getattr(config, "query_windows", "equal") == "ctc" and "frame-ctc" not in asked:
            raise SparqleError(
                "--query-windows ctc is taught by the objective frame-ctc; add it, as in llm-ctc+frame-ctc"
            )
        given = Given(config, asked, options, llm_embeddings, projector)
        self.objectives: dict[str, Objective] = {}
        reach = Reach.NOTHING
        idle: list[nn.Module | nn.Parameter] = []
        for kind in kinds():
            if kind.name not in asked and not (kind.always_built and self.qformer is not None):
                continue
            if self.qformer is None and kind.reach & Reach.TEXT:
                raise SparqleError(
                    f"the objective {kind.name} passes text through the Q-Former, and --adapter {config.adapter} has "
                    "none; take objectives that read outputs alone, such as llm-ctc, ctc or stg-outputs"
                )
            objective = kind(given)
            parts = objective.build(given)
            if parts.keys() != set(kind.parts):
                found = ", ".join(parts) or "nothing"
                named = ", ".join(kind.parts) or "none"
                raise SparqleError(
                    f"the objective {kind.name} builds {found}, and its parts are {named}; let them agree"
                )
            for name, part in parts.items():
                setattr(self, name, part)
            if kind.name in asked:
                self.objectives[kind.name] = objective
                reach |= kind.reach
            else:
                idle += parts.values()
        for part in (*idle, *unreached(self.qformer, reach)):
            part.requires_grad_(False)

    def forward(
        self, values: Tensor, padding_mask: Tensor, text: Stage1Text, update: int, active: bool = True
    ) -> dict[str, Sums]:
        """Of each objective the loss, its count, and what it logs; see `Stage1Batch` for what comes in."""
        batch = self.batch(values, padding_mask, text, update, active)
        return {name: objective.sums(self, batch) for name, objective in self.objectives.items()}

    def batch(
        self, values: Tensor, padding_mask: Tensor, text: Stage1Text, update: int, active: bool = True
    ) -> Stage1Batch:
        """The batch that objectives read, masked in training."""
        if not (sum_over_ranks(torch.tensor(float(active), device=values.device)) if world_size() > 1 else active):
            active = True  # nobody has data: the losses are weighted by 0 anyway, but need something to run on
        if self.training and self.masks is not None:
            values = self.masks(values, padding_mask, text.utterance, update)
        return Stage1Batch(self, values, padding_mask, text, update, active)

    def speech_features(self, query_hidden: Tensor) -> Tensor:
        """Query outputs (B, Q, H) on the contrastive unit sphere: (B, Q, D)."""
        return F.normalize(self.speech_projection.in_fp32(query_hidden), dim=-1)

    def text_features(self, tokens: Tensor, padding_mask: Tensor, words: Tensor | None = None) -> Tensor:
        """The [CLS] output of the text (B, L) on the contrastive unit sphere: (B, D)."""
        first = self.qformer.encode_text(tokens, padding_mask, wanted=1, words=words)[:, 0]  # (B, H)
        return F.normalize(self.text_projection.in_fp32(first), dim=-1)

    def clamped_temperature(self) -> Tensor:
        """The temperature within its bounds; its gradient passes as if there were none, so that it can come back."""
        bounded = self.temperature.clamp(MIN_TEMPERATURE, MAX_TEMPERATURE)
        return self.temperature + (bounded - self.temperature).detach()
