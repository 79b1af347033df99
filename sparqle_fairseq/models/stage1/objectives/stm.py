"""`stm`: to tell a matching transcript from one that is not (speech-text matching), with negatives drawn by similarity.

B utterances here, N in all processes, P pairs, Q queries, L text tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.gather import gather_rows, world_size
from sparqle_fairseq.keyed_random import keyed_uniform
from sparqle_fairseq.models.qformer.precision import Linear
from sparqle_fairseq.models.qformer.qformer import SpeechMemory
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.losses import MATCHED, draw_negatives, matching_loss
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums, count_of
from sparqle_fairseq.models.stage1.objectives.registry import register_objective

NEGATIVES = ("hard", "uniform")


class Matching(NamedTuple):
    """Pairs of two classes, and which class each is."""

    logits: Tensor  # (P, 2)
    labels: Tensor  # (P,)
    real: Tensor | None = None  # (P,) False where a pair stands in for one that does not exist; None: all exist

    def sums(self) -> Sums:
        losses = matching_loss(self.logits, self.labels)
        hits = self.logits.argmax(dim=1) == self.labels
        if self.real is None:
            return {"sum": losses.sum(), "count": count_of(losses), "hits": hits.sum()}
        # Not chosen by a mask: the program would wait for the device to count them.
        losses = losses.masked_fill(~self.real, 0)
        return {"sum": losses.sum(), "count": self.real.sum().to(losses), "hits": (hits & self.real).sum()}


@dataclass(frozen=True)
class StmOptions:
    stm_negatives: str = field(
        default="hard",
        metadata={
            "help": "negatives of matching: drawn by similarity (hard, as published) or evenly (uniform)",
            "choices": NEGATIVES,
        },
    )


@register_objective
class Stm(Objective):
    name = "stm"
    parts = ("matching_head",)
    always_built = True
    reach = Reach.QUERIES | Reach.SEEN_TEXT
    rates = {"stm_accuracy": ("hits", "count")}
    Options = StmOptions

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        return {"matching_head": Linear(given.config.hidden_size, 2)}

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        return self.matching(adapter, batch).sums()

    def negatives(self, batch: Stage1Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Columns of the speech drawn for each row (B,) and whether there is one (B,), and the same of the text."""
        contrast, text = batch.contrast, batch.text
        utterances = gather_rows(text.utterance[: batch.given])
        to_speech, to_text = contrast.text_to_speech, contrast.speech_to_text
        if self.options.stm_negatives == "uniform":
            to_speech, to_text = torch.zeros_like(to_speech), torch.zeros_like(to_text)
        # Two draws a row: an even seed for speech, an odd one for text.
        speech_noise = keyed_uniform(text.utterance, utterances, 2 * batch.update)
        text_noise = keyed_uniform(text.utterance, utterances, 2 * batch.update + 1)
        return (
            *draw_negatives(to_speech, contrast.rows, contrast.columns, speech_noise),
            *draw_negatives(to_text, contrast.rows, contrast.columns, text_noise),
        )

    def matching(self, adapter: Any, batch: Stage1Batch) -> Matching:
        """Matched pairs, then (negative speech, text), then (speech, negative text); each speech has its own mask.

        3 B pairs; of an utterance without a negative some that do not count.
        """
        text, given, memory = batch.text, batch.given, batch.memory
        negative_speech, has_speech, negative_text, has_text = self.negatives(batch)

        all_tokens = gather_rows(text.tokens[:given], fill=adapter.pad_token)
        all_padding = gather_rows(text.padding_mask[:given], fill=True)
        extra = all_tokens.size(1) - text.tokens.size(1)
        tokens = F.pad(text.tokens, (0, extra), value=adapter.pad_token)
        padding = F.pad(text.padding_mask, (0, extra), value=True)
        negative_tokens, negative_padding = all_tokens[negative_text], all_padding[negative_text]
        own = torch.arange(batch.values.size(0), device=batch.values.device)
        if world_size() == 1:
            logits = matching_logits(
                adapter,
                torch.cat([tokens, tokens, negative_tokens]),
                torch.cat([padding, padding, negative_padding]),
                memory.select(torch.cat([own, negative_speech, own])),
                torch.cat([batch.words, batch.words, batch.words.index_select(0, negative_text)]),
            )  # (3 B, 2)
        else:
            # What a frozen encoder gave travels without gradient, learned embeddings of units with it; keys and values
            # are made here. They may have other windows than the batch's own.
            all_values = gather_rows(batch.values[:given])
            all_mask = gather_rows(batch.padding_mask[:given], fill=True)
            foreign = adapter.qformer.read_speech(all_values[negative_speech], all_mask[negative_speech])
            matched, second = matching_logits(
                adapter,
                torch.cat([tokens, negative_tokens]),
                torch.cat([padding, negative_padding]),
                memory.select(torch.cat([own, own])),
            ).split(own.numel())
            logits = torch.cat([matched, matching_logits(adapter, text.tokens, text.padding_mask, foreign), second])
        labels = torch.zeros(logits.size(0), dtype=torch.long, device=logits.device)
        labels[: own.numel()] = MATCHED
        return Matching(logits, labels, torch.cat([torch.ones_like(has_text), has_speech, has_text]))


def matching_logits(
    adapter: Any, tokens: Tensor, padding_mask: Tensor, memory: SpeechMemory, words: Tensor | None = None
) -> Tensor:
    """Whether text (P, L) and speech belong together, the mean over the queries that count: (P, 2)."""
    logits = adapter.matching_head(adapter.qformer.match(tokens, padding_mask, memory, words))  # (P, Q, 2)
    if memory.query_padding is None:
        return logits.mean(dim=1)
    counts = (~memory.query_padding).to(logits)[..., None]
    return (logits * counts).sum(dim=1) / counts.sum(dim=1)
