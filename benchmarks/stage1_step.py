"""What does a step of stage 1 with the published sum of losses cost against its straightforward form?

Sizes of base; 4 utterances of 600 frames of width 1024, transcripts of 10 to 40 tokens. The straightforward form is
written here: texts padded to the batch, each pass by itself with keys and values of its own, every position of every
layer.

    python benchmarks/stage1_step.py
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from alternate import Benchmark, Gemm, Products, Result, Row, Run, Settings, alternate, memory_of, product_flops, run
from torch import Tensor

from sparqle_fairseq.keyed_random import keyed_uniform
from sparqle_fairseq.models.qformer.qformer import QFormerConfig
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Stage1Text
from sparqle_fairseq.models.stage1.losses import (
    contrastive_loss,
    contrastive_targets,
    draw_negatives,
    matching_loss,
    similarity,
)

BENCHMARK = Benchmark(
    name="stage1_step",
    question="What does a step of stage 1 cost (stc + stm + stg, base, 4 x 600 frames of width 1024)?",
    against="the straightforward form, whose losses and gradients differ by less than 1e-5",
    minutes=40,  # some nine where a thread does 90 GFLOP/s and nobody else uses the machine
)
BATCH, FRAMES, WIDTH, VOCABULARY = 4, 600, 1024, 30523
REAL_FRAMES, LENGTHS = (600, 580, 560, 540), (10, 20, 30, 40)
LAYERS = 12
ROUNDS = 3  # at most: CPU seconds of steps as long as these differ little
SMOOTHING = 0.1  # of the contrastive targets and of the words


def adapter(dropout: float, device: str, **more: Any) -> Stage1Adapter:
    torch.manual_seed(0)
    config = QFormerConfig(vocab_size=VOCABULARY, speech_width=WIDTH, dropout=dropout, layers=LAYERS)
    return Stage1Adapter(config, decode_token=VOCABULARY - 1, pad_token=0, **more).to(device).train()


def batch(device: str) -> tuple[Tensor, Tensor, Stage1Text]:
    torch.manual_seed(1)
    longest = max(LENGTHS)
    padding_mask = torch.arange(longest)[None] >= torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(1000, VOCABULARY - 1, (BATCH, longest)).masked_fill(padding_mask, 0)
    keys = torch.arange(BATCH)
    frames = torch.arange(FRAMES)[None] >= torch.tensor(REAL_FRAMES)[:, None]
    values = torch.randn(BATCH, FRAMES, WIDTH)
    text = Stage1Text(*(each.to(device) for each in (tokens, padding_mask, keys, keys)))
    return values.to(device), frames.to(device), text


def our_loss(model: Stage1Adapter, values: Tensor, padding_mask: Tensor, text: Stage1Text) -> Tensor:
    sums = model(values, padding_mask, text, 1)
    return sum((own["sum"] / own["count"] for own in sums.values()), values.new_zeros(()))


class Straightforward:
    """The same losses of the same weights, one pass after the other."""

    def __init__(self, model: Stage1Adapter) -> None:
        self.model, self.qformer = model, model.qformer

    def __call__(self, values: Tensor, padding_mask: Tensor, text: Stage1Text) -> Tensor:
        model, rows = self.model, text.identity
        spoken, cache = self.layers(self.queries(values), self.count, None, values, padding_mask)
        written, _ = self.layers(self.words(text.tokens), 0, ~text.padding_mask[:, None, None])
        speech = model.speech_features(spoken)
        words = F.normalize(model.text_projection(written[:, 0]), dim=-1)
        temperature = model.clamped_temperature()
        to_text = similarity(speech, words, temperature)
        to_speech = similarity(speech, words, temperature).T
        targets = contrastive_targets(rows, rows, SMOOTHING)
        stc = ((contrastive_loss(to_text, targets) + contrastive_loss(to_speech, targets)) / 2).mean()
        noises = [keyed_uniform(text.utterance, text.utterance, 2 + which) for which in (0, 1)]
        other_speech, _ = draw_negatives(to_speech, rows, rows, noises[0])
        other_text, _ = draw_negatives(to_text, rows, rows, noises[1])
        return stc + self.matching(values, padding_mask, text, other_speech, other_text) + self.writing(text, cache)

    def matching(
        self, values: Tensor, padding_mask: Tensor, text: Stage1Text, other_speech: Tensor, other_text: Tensor
    ) -> Tensor:
        own = torch.arange(BATCH, device=values.device)
        of_speech, of_text = torch.cat([own, other_speech, own]), torch.cat([own, own, other_text])
        tokens, padded = text.tokens[of_text], text.padding_mask[of_text]
        values, padding_mask = values[of_speech], padding_mask[of_speech]
        x = torch.cat([self.queries(values), self.words(tokens)], dim=1)
        keep = torch.cat([padded.new_ones(len(padded), self.count), ~padded], dim=1)[:, None, None]
        hidden, _ = self.layers(x, self.count, keep, values, padding_mask)
        logits = self.model.matching_head(hidden[:, : self.count]).mean(dim=1)
        labels = torch.zeros_like(of_speech)
        labels[:BATCH] = 1
        return matching_loss(logits, labels).mean()

    def writing(self, text: Stage1Text, cache: list[tuple[Tensor, Tensor]]) -> Tensor:
        tokens = text.tokens.clone()
        tokens[:, 0] = self.model.decode_token
        length = tokens.size(1)
        causal = torch.ones(length, self.count + length, dtype=torch.bool, device=tokens.device).tril(self.count)
        seen = torch.cat([text.padding_mask.new_ones(BATCH, self.count), ~text.padding_mask], dim=1)
        hidden, _ = self.layers(self.words(tokens), 0, causal[None, None] & seen[:, None, None], prefix=cache)
        logits = self.qformer.predict(hidden[:, :-1])  # (B, L - 1, V)
        targets = text.tokens[:, 1:].masked_fill(text.padding_mask[:, 1:], -100)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=SMOOTHING)

    @property
    def count(self) -> int:
        return self.qformer.config.queries

    @property
    def dropout(self) -> float:
        return self.qformer.config.dropout

    def queries(self, values: Tensor) -> Tensor:
        return self.embedded(self.qformer.query_tokens.expand(len(values), -1, -1))

    def words(self, tokens: Tensor) -> Tensor:
        text: Any = self.qformer.text
        return self.embedded(text.embed(tokens))

    def embedded(self, x: Tensor) -> Tensor:
        return F.dropout(self.qformer.embedding_norm(x), self.dropout)

    def layers(
        self,
        x: Tensor,
        queries: int,
        keep: Tensor | None,
        values: Tensor | None = None,
        padding_mask: Tensor | None = None,
        prefix: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        cache = []
        norm: Any = self.qformer.speech_norm
        speech = norm(values) if values is not None else None
        heard = None if padding_mask is None else ~padding_mask[:, None, None]
        for i, layer in enumerate(self.qformer.each_layer()):
            own = layer.self_attention
            key, value = own.key_value(x)
            if prefix is not None:
                key, value = torch.cat([prefix[i][0], key], dim=2), torch.cat([prefix[i][1], value], dim=2)
            cache.append((key, value))
            x = self.attention(own, x, key, value, keep)
            parts = []
            if queries:
                query = x[:, :queries]
                if layer.cross_attention is not None:
                    query = self.attention(
                        layer.cross_attention, query, *layer.cross_attention.key_value(speech), heard
                    )
                parts.append(self.feed_forward(layer.query_ffn, query))
            if x.size(1) > queries:
                parts.append(self.feed_forward(layer.text_ffn, x[:, queries:]))
            x = torch.cat(parts, dim=1)
        return x, cache

    def attention(self, own: Any, x: Tensor, key: Tensor, value: Tensor, keep: Tensor | None) -> Tensor:
        query = own.query(x).unflatten(-1, (own.heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=self.dropout)
        return own.norm(x + F.dropout(own.output(mixed.transpose(1, 2).flatten(2)), self.dropout))

    def feed_forward(self, own: Any, x: Tensor) -> Tensor:
        return own.norm(x + F.dropout(own.contract(F.gelu(own.expand(x))), self.dropout))


def loss_of(side: str, dropout: float, device: str) -> tuple[Run, Stage1Adapter]:
    given = batch(device)
    model = adapter(dropout, device)
    model.qformer.gradient_checkpointing = side == "checkpointing"
    straightforward = Straightforward(model)
    return (lambda: straightforward(*given) if side == "straightforward" else our_loss(model, *given)), model


def step(side: str, dropout: float = 0.1, device: str = "cpu") -> Run:
    """A forward and a backward pass; one was done, so that gradients are there."""
    loss, _ = loss_of(side, dropout, device)

    def taken() -> None:
        found: Any = loss()
        found.backward()

    taken()
    return taken


def compared(device: str) -> tuple[float, dict[str, float]]:
    """The largest difference between losses and between gradients of both, without dropout, and what both take."""
    found, counts = {}, {}
    for side in ("ours", "straightforward"):
        loss, model = loss_of(side, 0.0, device)
        values: list[Tensor] = []

        def taken(loss: Run = loss, values: list[Tensor] = values) -> None:
            value: Any = loss()
            value.backward()
            values.append(value.detach())

        counts[side] = product_flops(taken)
        found[side] = values + [p.grad for p in model.parameters() if p.grad is not None]
    ours, theirs = found["ours"], found["straightforward"]
    assert len(ours) == len(theirs) > 100
    return max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)), counts


def measure(settings: Settings) -> Result:
    device = settings.device
    apart, counts = compared(device)
    assert apart < 1e-5, f"losses and gradients differ by {apart}"
    gemm = Gemm(device)
    sides = {side: step(side, device=device) for side in ("ours", "checkpointing", "straightforward")}
    sides["products"] = Products(sides["ours"])
    times = alternate({**sides, "gemm": gemm}, min(settings.rounds, ROUNDS), 0, settings.clock)
    rows = [
        Row.spread("dropout 0.1", "time / theirs", times.ratio("ours", "straightforward"), goal=0.7),
        Row.spread(
            "dropout 0.1, layers computed twice",
            "time / theirs",
            times.ratio("checkpointing", "straightforward"),
            goal=1.15,
        ),
    ]
    for side, count in counts.items():
        share = times.ratio("gemm", side, count / gemm.flops)
        goal = 0.8 if side == "ours" else None
        note = f"{count / 1e12:.2f} TFLOP by count"
        rows.append(Row.spread(side, "share of the GEMM peak", share, goal=goal, at_least=True, note=note))
    share = times.ratio("gemm", "products", counts["ours"] / gemm.flops)
    rows.append(Row.spread("the products of ours and nothing else", "share of the GEMM peak", share))
    sides.clear()
    taken = {side: memory_of(step, side=side, device=device) for side in ("ours", "checkpointing", "straightforward")}
    for side, case, goal in (
        ("ours", "dropout 0.1", 0.8),
        ("checkpointing", "dropout 0.1, layers computed twice", 0.4),
    ):
        note = f"{taken[side] / 1e6:.0f} of {taken['straightforward'] / 1e6:.0f} MB"
        rows.append(Row(case, "memory / theirs", taken[side] / taken["straightforward"], goal=goal, note=note))
    return Result(rows, more={"losses and gradients differ by": apart})


if __name__ == "__main__":
    run(BENCHMARK, measure)
