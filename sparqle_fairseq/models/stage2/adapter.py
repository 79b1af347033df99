"""Stage-2 adapter: a Q-Former without its text branch, or another reader, and the projector to the LLM.

Plain PyTorch. B utterances, T frames, W width of the speech, Q queries, M width of the LLM.
"""

from __future__ import annotations

from torch import Tensor

from sparqle_fairseq.models.llm.lora import LoRA
from sparqle_fairseq.models.qformer.compression import join_repeats
from sparqle_fairseq.models.qformer.masking import FeatureMasks
from sparqle_fairseq.models.qformer.plain import ReadingConfig, ReadsSpeech
from sparqle_fairseq.models.qformer.projector import build_projector
from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace


class Stage2Adapter(ReadsSpeech):
    """Q-Former without its text branch (or plain adapter), and the projector.

    `masks` hide parts of the speech in training. With `freeze_qformer` the projector learns alone; what reads the
    speech is in the checkpoint all the same. `llm_embeddings` (V, M) are given where blanks are to be left out and
    repeats joined before the LLM; with `soft_tokens` what is left is then read as tokens, and the LLM is given their
    mean embedding.
    """

    def __init__(
        self,
        config: ReadingConfig,
        llm_width: int,
        masks: FeatureMasks | None = None,
        projector: str = "linear",
        freeze_qformer: bool = False,
        llm_embeddings: Tensor | None = None,
        soft_tokens: bool = False,
    ) -> None:
        super().__init__(config, with_text=False)
        self.masks = masks
        self.soft_tokens = soft_tokens
        # Where the projected queries are read as tokens, with --compress-queries. The blank has learned in stage 1.
        self.llm_space = None if llm_embeddings is None else LLMSpace(llm_embeddings).requires_grad_(False)
        self.lora: LoRA | None = None  # of the LLM, with --lora-rank
        self.projector = build_projector(projector, config.hidden_size, llm_width)
        self.freeze_qformer = freeze_qformer
        self.reader.requires_grad_(not freeze_qformer)
        if self.qformer is not None and self.qformer.frame_ctc is not None:
            self.qformer.frame_ctc.requires_grad_(False)  # it has learned in stage 1; here nothing teaches it

    def train(self, mode: bool = True) -> Stage2Adapter:
        """A frozen reader stays as it is in use: without dropout."""
        super().train(mode)
        if self.freeze_qformer:
            self.reader.eval()
        return self

    def forward(
        self, values: Tensor, padding_mask: Tensor, utterance: Tensor | None = None, update: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Speech (B, T, W) with its padding mask (B, T) -> embeddings for the LLM (B, Q, M).

        Also which of them do not count, (B, Q) True at padding; None where all do. `utterance` (B,) keys and `update`
        say where masks lie.
        """
        if self.training and self.masks is not None and utterance is not None:
            values = self.masks(values, padding_mask, utterance, update)
        queries = self.reader(values, padding_mask)
        points = self.projector(queries.hidden)
        if self.llm_space is None:
            return points, queries.padding_mask
        points, beyond = join_repeats(points, self.llm_space.labels(points), queries.padding_mask)  # (B, Q', M)
        return self.llm_space.soft_tokens(points) if self.soft_tokens else points, beyond
