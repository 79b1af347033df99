"""Stage-1 adapter: a Q-Former with the heads of its three losses, over the features of a frozen encoder.

Plain PyTorch. B utterances here, N in all processes, Q queries, D contrastive width, L text tokens, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import gather_rows, sum_over_ranks, world_size
from sparqle_fairseq.keyed_random import keyed_uniform
from sparqle_fairseq.losses import (
    MATCHED,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    draw_negatives,
    similarity,
)
from sparqle_fairseq.models.masking import FeatureMasks
from sparqle_fairseq.models.qformer import QFormer, QFormerConfig, QueryOutput, SpeechMemory

OBJECTIVES = ("stc", "stm", "stg")


class Stage1Text(NamedTuple):
    """Transcripts of a batch: token ids, and the keys that say who is who."""

    tokens: Tensor  # (B, L), [CLS] ... [SEP] and padding
    padding_mask: Tensor  # (B, L)
    identity: Tensor  # (B,) int64, equal where the transcripts are equal
    utterance: Tensor  # (B,) int64, one per utterance


class Contrast(NamedTuple):
    speech_to_text: Tensor  # (B, N) similarities
    text_to_speech: Tensor  # (B, N)
    rows: Tensor  # (B,) identities
    columns: Tensor  # (N,) identities


class Matching(NamedTuple):
    logits: Tensor  # (P, 2)
    labels: Tensor  # (P,) 1 = matched


class Generation(NamedTuple):
    logits: Tensor  # (K, V), at the positions that have a target
    targets: Tensor  # (K,)


class Stage1Output(NamedTuple):
    contrast: Contrast | None
    matching: Matching | None
    generation: Generation | None


class Stage1Adapter(nn.Module):
    """Q-Former, contrastive projections, matching head and temperature.

    `masks` hide parts of the speech in training mode, and in no other.
    """

    def __init__(
        self,
        config: QFormerConfig,
        decode_token: int,
        pad_token: int,
        contrastive_width: int = 256,
        temperature: float = 0.07,
        masks: FeatureMasks | None = None,
    ) -> None:
        super().__init__()
        self.masks = masks
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise SparqleError(f"--temperature {temperature:g} must be {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}")
        self.decode_token = decode_token
        self.pad_token = pad_token
        self.qformer = QFormer(config)
        self.speech_projection = nn.Linear(config.hidden_size, contrastive_width)
        self.text_projection = nn.Linear(config.hidden_size, contrastive_width)
        self.matching_head = nn.Linear(config.hidden_size, 2)
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(
        self,
        values: Tensor,
        padding_mask: Tensor,
        text: Stage1Text,
        seed: int,
        objectives: tuple[str, ...] = OBJECTIVES,
        active: bool = True,
    ) -> Stage1Output:
        """What the losses of `objectives` need, for speech `values` (B, T, W) with `padding_mask` (B, T).

        `seed` (the update) fixes the negatives of matching, and the masks in training. A batch that is not `active` (a
        stand-in on a process that ran out of data) gives itself to no other process.
        """
        if not sum_over_ranks(torch.tensor(float(active), device=values.device)):
            active = True  # nobody has data: the losses are weighted by 0 anyway, but need something to run on
        if self.training and self.masks is not None:
            values = self.masks(values, padding_mask, text.utterance, seed)
        memory = self.qformer.read_speech(values, padding_mask)
        queries = self.qformer.query(memory)
        contrast = matching = generation = None
        if "stc" in objectives or "stm" in objectives:
            contrast = self.contrast(queries, text, active)
        if "stm" in objectives:
            assert contrast is not None
            matching = self.matching(values, padding_mask, memory, text, contrast, seed, active)
        if "stg" in objectives:
            generation = self.generation(queries, text)
        return Stage1Output(contrast if "stc" in objectives else None, matching, generation)

    def speech_features(self, query_hidden: Tensor) -> Tensor:
        """Query outputs (B, Q, H) on the contrastive unit sphere: (B, Q, D)."""
        return F.normalize(self.speech_projection(query_hidden), dim=-1)

    def text_features(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """The text's [CLS] output on the contrastive unit sphere: (B, D)."""
        return F.normalize(self.text_projection(self.qformer.encode_text(tokens, padding_mask)[:, 0]), dim=-1)

    def clamped_temperature(self) -> Tensor:
        """The temperature within its bounds; its gradient passes as if there were none, so that it can come back."""
        bounded = self.temperature.clamp(MIN_TEMPERATURE, MAX_TEMPERATURE)
        return self.temperature + (bounded - self.temperature).detach()

    def contrast(self, queries: QueryOutput, text: Stage1Text, active: bool = True) -> Contrast:
        """Similarities of the local rows with the columns of all processes."""
        speech = self.speech_features(queries.hidden)  # (B, Q, D)
        words = self.text_features(text.tokens, text.padding_mask)  # (B, D)
        given = speech.size(0) if active else 0
        all_speech, all_words = gather_rows(speech[:given]), gather_rows(words[:given])
        padding = all_padding = queries.padding_mask  # (B, Q), or None where every query counts
        if padding is not None:
            all_padding = gather_rows(padding[:given], fill=True)
        temperature = self.clamped_temperature()
        return Contrast(
            similarity(speech, all_words, temperature, padding),
            similarity(all_speech, words, temperature, all_padding).T,
            text.identity,
            gather_rows(text.identity[:given]),
        )

    def matching(
        self,
        values: Tensor,
        padding_mask: Tensor,
        memory: SpeechMemory,
        text: Stage1Text,
        contrast: Contrast,
        seed: int,
        active: bool = True,
    ) -> Matching:
        """Matched pairs, then (negative speech, text), then (speech, negative text); each speech has its own mask."""
        given = values.size(0) if active else 0
        utterances = gather_rows(text.utterance[:given])
        # Two draws a row: an even seed for speech, an odd one for text.
        speech_noise = keyed_uniform(text.utterance, utterances, 2 * seed)
        text_noise = keyed_uniform(text.utterance, utterances, 2 * seed + 1)
        negative_speech, has_speech = draw_negatives(
            contrast.text_to_speech, contrast.rows, contrast.columns, speech_noise
        )
        negative_text, has_text = draw_negatives(contrast.speech_to_text, contrast.rows, contrast.columns, text_noise)
        negative_speech, negative_text = negative_speech[has_speech], negative_text[has_text]

        all_tokens = gather_rows(text.tokens[:given], fill=self.pad_token)
        all_padding = gather_rows(text.padding_mask[:given], fill=True)
        extra = all_tokens.size(1) - text.tokens.size(1)
        own = torch.arange(values.size(0), device=values.device)
        own_speech = self.matching_logits(
            torch.cat([F.pad(text.tokens, (0, extra), value=self.pad_token), all_tokens[negative_text]]),
            torch.cat([F.pad(text.padding_mask, (0, extra), value=True), all_padding[negative_text]]),
            memory.select(torch.cat([own, own[has_text]])),
        )  # (B + P', 2)
        if world_size() == 1:
            foreign = memory.select(negative_speech)
        else:
            # What a frozen encoder gave travels without gradient, learned embeddings of units with it; keys and values
            # are made here.
            all_values = gather_rows(values[:given])
            all_mask = gather_rows(padding_mask[:given], fill=True)
            foreign = self.qformer.read_speech(all_values[negative_speech], all_mask[negative_speech])
        foreign_speech = self.matching_logits(text.tokens[has_speech], text.padding_mask[has_speech], foreign)
        logits = torch.cat([own_speech[: own.numel()], foreign_speech, own_speech[own.numel() :]])  # (P, 2)
        labels = torch.zeros(logits.size(0), dtype=torch.long, device=logits.device)
        labels[: own.numel()] = MATCHED
        return Matching(logits, labels)

    def matching_logits(self, tokens: Tensor, padding_mask: Tensor, memory: SpeechMemory) -> Tensor:
        """Whether text and speech belong together, the mean over the queries that count: (P, 2)."""
        logits = self.matching_head(self.qformer.match(tokens, padding_mask, memory))  # (P, Q, 2)
        if memory.query_padding is None:
            return logits.mean(dim=1)
        counts = (~memory.query_padding).to(logits)[..., None]
        return (logits * counts).sum(dim=1) / counts.sum(dim=1)

    def generation(self, queries: QueryOutput, text: Stage1Text) -> Generation:
        """Next-token logits where there is a target; the first token becomes [DEC]."""
        inputs = text.tokens.clone()
        inputs[:, 0] = self.decode_token
        output = self.qformer.decode_text(inputs, text.padding_mask, queries.cache, query_padding=queries.padding_mask)
        hidden = output.hidden[:, :-1]  # (B, L - 1, H)
        has_target = ~text.padding_mask[:, 1:]
        return Generation(self.qformer.predict(hidden[has_target]), text.tokens[:, 1:][has_target])
