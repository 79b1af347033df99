"""Stage-1 adapter: a Q-Former with the heads of its objectives, over the features of a frozen encoder.

Plain PyTorch. B utterances here, N in all processes, Q queries, D contrastive width, L text tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.data.transcripts import NO_TOKEN
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import gather_rows, rows_before, sum_over_ranks, world_size
from sparqle_fairseq.keyed_random import keyed_uniform
from sparqle_fairseq.models.qformer.masking import FeatureMasks
from sparqle_fairseq.models.qformer.precision import Linear
from sparqle_fairseq.models.qformer.projector import build_projector, start_among
from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig, QueryOutput, SpeechMemory
from sparqle_fairseq.models.stage1.adversary import (
    SOURCE,
    TARGET,
    DomainClassifier,
    Domains,
    reversal_strength,
    reverse_gradient,
)
from sparqle_fairseq.models.stage1.heads import Alignment, CtcHead, LLMSpace, OutputDecoder
from sparqle_fairseq.models.stage1.losses import (
    MATCHED,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    draw_negatives,
    similarity,
)
from sparqle_fairseq.models.stage1.objectives import ADVERSARIAL, PUBLISHED, WITH_TEXT_BRANCH

NEGATIVES = ("hard", "uniform")


class Foreign(NamedTuple):
    """Translations of P of the B transcripts."""

    tokens: Tensor  # (P, L')
    padding_mask: Tensor  # (P, L')
    rows: Tensor  # (P,) which transcripts they translate


class Stage1Text(NamedTuple):
    """Transcripts of a batch: token ids, and the keys that say who is who."""

    tokens: Tensor  # (B, L), [CLS] ... [SEP] and padding
    padding_mask: Tensor  # (B, L)
    identity: Tensor  # (B,) int64, equal where the transcripts are equal
    utterance: Tensor  # (B,) int64, one per utterance
    llm_tokens: Tensor | None = None  # (B, L') in the LLM's own tokens, `NO_TOKEN` at padding; for llm-ctc
    foreign: Foreign | None = None  # translations, for the adversary


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
    contrast: Contrast | None = None
    matching: Matching | None = None
    generation: Generation | None = None
    output_generation: Generation | None = None
    ctc: Alignment | None = None
    llm_ctc: Alignment | None = None
    domains: Domains | None = None


class Stage1Adapter(nn.Module):
    """Q-Former, contrastive projections, matching head and temperature; the heads of other objectives as asked for.

    `masks` hide parts of the speech in training mode, and in no other. `llm_embeddings` (V, M) are needed by llm-ctc:
    what the LLM's layers see of each token. `negatives` of matching are drawn by similarity (hard) or evenly (uniform).
    """

    def __init__(
        self,
        config: QFormerConfig,
        decode_token: int,
        pad_token: int,
        contrastive_width: int = 256,
        temperature: float = 0.07,
        masks: FeatureMasks | None = None,
        objectives: Collection[str] = PUBLISHED,
        llm_embeddings: Tensor | None = None,
        projector: str = "linear",
        negatives: str = "hard",
        ctc_sample: int = 0,
        adversary_reads: str = "features",
        adversary_norm: str = "batch",
    ) -> None:
        super().__init__()
        self.negatives = negatives
        self.masks = masks
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise SparqleError(f"--temperature {temperature:g} must be {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}")
        self.decode_token = decode_token
        self.pad_token = pad_token
        self.qformer = QFormer(config)
        self.speech_projection = Linear(config.hidden_size, contrastive_width)
        self.text_projection = Linear(config.hidden_size, contrastive_width)
        self.matching_head = Linear(config.hidden_size, 2)
        self.temperature = nn.Parameter(torch.tensor(temperature))
        width = config.hidden_size
        self.output_decoder = self.ctc_head = self.llm_space = self.projector = None
        if "stg-outputs" in objectives:
            self.output_decoder = OutputDecoder(
                config.vocab_size, width, config.heads, config.max_text_positions, config.dropout
            )
        if "ctc" in objectives:
            self.ctc_head = CtcHead(width, config.vocab_size)
        if "llm-ctc" in objectives:
            if llm_embeddings is None:
                raise SparqleError("--objective llm-ctc reads the LLM's token embeddings; name the LLM with --llm")
            self.llm_space = LLMSpace(llm_embeddings, ctc_sample)
            self.projector = build_projector(projector, width, llm_embeddings.size(1))
            start_among(self.projector, llm_embeddings)

        self.domain_classifier: DomainClassifier | None = None
        self.adversary_reads = adversary_reads
        self.ramp_updates = 0  # over which the adversary's gradient grows; 0: it has its full strength at once
        if ADVERSARIAL in objectives:
            read_width = contrastive_width if adversary_reads == "features" else width
            self.domain_classifier = DomainClassifier(read_width, adversary_norm)

    def train_only(self, objectives: Collection[str]) -> None:
        """Let only what `objectives` reach ask for a gradient: DDP and the optimizer then pass over the rest."""
        for parameter in self.parameters():
            parameter.requires_grad_(True)
        for module in self._unreached(frozenset(objectives)):
            module.requires_grad_(False)

    def _unreached(self, objectives: frozenset[str]) -> Iterator[nn.Module | nn.Parameter]:
        if "stc" not in objectives:
            yield from (self.speech_projection, self.text_projection, self.temperature)
        if "stm" not in objectives:
            yield self.matching_head
        if "stg" not in objectives and self.qformer.text is not None:
            yield self.qformer.text.head
        if not objectives & WITH_TEXT_BRANCH:
            yield from (layer.text_ffn for layer in self.qformer.each_layer() if layer.text_ffn is not None)
            if self.qformer.text is not None:
                yield self.qformer.text
        for head, name in (
            (self.output_decoder, "stg-outputs"),
            (self.ctc_head, "ctc"),
            (self.llm_space, "llm-ctc"),
            (self.projector, "llm-ctc"),
            (self.domain_classifier, ADVERSARIAL),
        ):
            if head is not None and name not in objectives:
                yield head
        # With stg, text sees the keys and values that the queries have before their last layer.
        if objectives - {ADVERSARIAL} == {"stg"}:
            last = list(self.qformer.each_layer())[-1]
            yield last.query_ffn
            if last.cross_attention is not None:
                yield last.cross_attention

    def forward(
        self,
        values: Tensor,
        padding_mask: Tensor,
        text: Stage1Text,
        seed: int,
        objectives: Collection[str] = PUBLISHED,
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
        contrast = matching = None
        if "stc" in objectives or "stm" in objectives:
            contrast = self.contrast(queries, text, active)
        if "stm" in objectives:
            assert contrast is not None
            matching = self.matching(values, padding_mask, memory, text, contrast, seed, active)
        return Stage1Output(
            contrast if "stc" in objectives else None,
            matching,
            self.generation(queries, text) if "stg" in objectives else None,
            self.output_generation(queries, text) if "stg-outputs" in objectives else None,
            self.alignment(queries, text) if "ctc" in objectives else None,
            self.llm_alignment(queries, text) if "llm-ctc" in objectives else None,
            self.domains(text, seed, active) if ADVERSARIAL in objectives else None,
        )

    def speech_features(self, query_hidden: Tensor) -> Tensor:
        """Query outputs (B, Q, H) on the contrastive unit sphere: (B, Q, D)."""
        return F.normalize(self.speech_projection.in_fp32(query_hidden), dim=-1)

    def text_features(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """The text's [CLS] output on the contrastive unit sphere: (B, D)."""
        first = self.qformer.encode_text(tokens, padding_mask)[:, 0]  # (B, H)
        return F.normalize(self.text_projection.in_fp32(first), dim=-1)

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
        to_speech, to_text = contrast.text_to_speech, contrast.speech_to_text
        if self.negatives == "uniform":
            to_speech, to_text = torch.zeros_like(to_speech), torch.zeros_like(to_text)
        # Two draws a row: an even seed for speech, an odd one for text.
        speech_noise = keyed_uniform(text.utterance, utterances, 2 * seed)
        text_noise = keyed_uniform(text.utterance, utterances, 2 * seed + 1)
        negative_speech, has_speech = draw_negatives(to_speech, contrast.rows, contrast.columns, speech_noise)
        negative_text, has_text = draw_negatives(to_text, contrast.rows, contrast.columns, text_noise)
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
        output = self.qformer.decode_text(
            self._shifted(text), text.padding_mask, queries.cache, query_padding=queries.padding_mask
        )
        has_target = ~text.padding_mask[:, 1:]
        hidden = output.hidden[:, :-1][has_target]  # (K, H)
        return Generation(self.qformer.predict(hidden), text.tokens[:, 1:][has_target])

    def output_generation(self, queries: QueryOutput, text: Stage1Text) -> Generation:
        """The same from a decoder that sees nothing but the outputs of the last layer's queries."""
        assert self.output_decoder is not None
        hidden = self.output_decoder(self._shifted(text), text.padding_mask, queries.hidden, queries.padding_mask)
        has_target = ~text.padding_mask[:, 1:]
        return Generation(self.output_decoder.predict(hidden[:, :-1][has_target]), text.tokens[:, 1:][has_target])

    def alignment(self, queries: QueryOutput, text: Stage1Text) -> Alignment:
        """CTC of the transcript, without [CLS] and [SEP], over the query outputs."""
        assert self.ctc_head is not None
        # A row's [SEP] is its last real token: where the next one is padding, or there is none.
        inner = F.pad(~text.padding_mask[:, 2:], (0, 1))  # (B, L - 1)
        tokens = text.tokens[:, 1:].masked_fill(~inner, NO_TOKEN)
        return Alignment(self.ctc_head(queries.hidden, tokens), _counts(queries), tokens)

    def llm_alignment(self, queries: QueryOutput, text: Stage1Text) -> Alignment:
        """CTC of the transcript in the LLM's tokens over the projected query outputs, among the LLM's embeddings."""
        assert self.llm_space is not None
        assert self.projector is not None
        assert text.llm_tokens is not None
        points = self.projector(queries.hidden)  # (B, Q, M)
        return Alignment(self.llm_space(points, text.llm_tokens), _counts(queries), text.llm_tokens)

    def domains(self, text: Stage1Text, update: int, active: bool = True) -> Domains:
        """What the adversary makes of transcripts and their translations; rows without one take no part.

        It sees the pairs of all processes, and answers here for this one's.
        """
        foreign = text.foreign
        assert self.domain_classifier is not None
        assert foreign is not None
        pairs = foreign.rows.numel() if active else 0
        # Without a pair one transcript stands in, and is cut off again: every process takes part in the collectives.
        rows = foreign.rows if pairs else foreign.rows.new_zeros(1)
        tokens, padded = text.tokens[rows], text.padding_mask[rows]
        if pairs:
            tokens = _stack(tokens, foreign.tokens, self.pad_token)
            padded = _stack(padded, foreign.padding_mask, True)
        if self.adversary_reads == "features":
            features = self.text_features(tokens, padded)
        else:
            features = self.qformer.encode_text(tokens, padded)[:, 0]
        strength = reversal_strength(update / self.ramp_updates) if self.ramp_updates else 1.0
        features = reverse_gradient(features, strength)[: 2 * pairs]
        start = rows_before(2 * pairs, features.device)
        logits = self.domain_classifier(gather_rows(features))[start : start + 2 * pairs]
        labels = torch.full((2 * pairs,), SOURCE, device=logits.device)
        labels[pairs:] = TARGET
        return Domains(logits, labels)

    def _shifted(self, text: Stage1Text) -> Tensor:
        inputs = text.tokens.clone()
        inputs[:, 0] = self.decode_token
        return inputs


def _stack(one: Tensor, other: Tensor, fill: int | bool) -> Tensor:
    """Rows of both, the shorter ones padded at their end."""
    longest = max(one.size(1), other.size(1))
    return torch.cat([F.pad(x, (0, longest - x.size(1)), value=fill) for x in (one, other)])


def _counts(queries: QueryOutput) -> Tensor:
    """How many queries count: (B,)."""
    hidden = queries.hidden
    if queries.padding_mask is None:
        return torch.full((hidden.size(0),), hidden.size(1), device=hidden.device)
    return (~queries.padding_mask).sum(dim=1)
