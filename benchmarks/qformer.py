"""What does a step of the Q-Former cost against the one of transformers, with the same weights and the same outputs?

Base size, queries only (stage 2), forward and backward of 4 x 10 s of features of width 768.

    python benchmarks/qformer.py
"""

from __future__ import annotations

from typing import Any

import torch
from alternate import (
    Benchmark,
    Gemm,
    Products,
    Result,
    Row,
    Run,
    Settings,
    Times,
    alternate,
    memory_of,
    product_flops,
    run,
)
from traffic import Copy, Step

from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig

BENCHMARK = Benchmark(
    name="qformer",
    question="What does a step of the Q-Former cost (base, queries only, 4 x 10 s, forward and backward)?",
    against="Blip2QFormerModel of transformers with the same weights, whose outputs differ by less than 1e-5",
    minutes=40,  # some eight where nobody else uses the machine
)
BATCH, FRAMES, WIDTH = 4, 500, 768
SIZES: dict[str, int] = {}  # where other than base's
# Dropout -> forms of attention in transformers, and whether layers that are computed twice are measured too.
PEERS = {0.1: ("sdpa", "eager"), 0.0: ("sdpa",)}
TWICE = {0.1: True, 0.0: False}
ROUNDS = 3  # at most: CPU seconds of steps as long as these differ little


def ours(dropout: float, device: str) -> QFormer:
    torch.manual_seed(0)
    config = QFormerConfig(vocab_size=1, speech_width=WIDTH, dropout=dropout, speech_entry="none", **SIZES)
    return QFormer(config, with_text=False).to(device)


def theirs(dropout: float, attention: str, device: str) -> tuple[Any, torch.Tensor]:
    """The model of transformers with the weights of ours, and the queries."""
    from transformers import Blip2QFormerConfig

    from sparqle_fairseq.fairseq_fixes import apply

    apply()  # transformers cannot be imported beside some torchaudio without
    from transformers import Blip2QFormerModel

    config = Blip2QFormerConfig(
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        layer_norm_eps=1e-12,
        cross_attention_frequency=2,
        encoder_hidden_size=WIDTH,
        attn_implementation=attention,
    )
    model: Any = Blip2QFormerModel(config)
    source = ours(dropout, device)
    with torch.no_grad():
        _copy(model.layernorm, source.embedding_norm)
        for layer, own in zip(model.encoder.layer, source.each_layer(), strict=True):
            _copy_attention(layer.attention, own.self_attention)
            if own.cross_attention is not None:
                _copy_attention(layer.crossattention, own.cross_attention)
            _copy(layer.intermediate_query.dense, own.query_ffn.expand)
            _copy(layer.output_query.dense, own.query_ffn.contract)
            _copy(layer.output_query.LayerNorm, own.query_ffn.norm)
    return model.to(device), torch.nn.Parameter(source.query_tokens.detach().clone())


def _copy(to: Any, of: Any) -> None:
    to.weight.copy_(of.weight)
    to.bias.copy_(of.bias)


def _copy_attention(to: Any, of: Any) -> None:
    for name in ("query", "key", "value"):
        _copy(getattr(to.attention, name), getattr(of, name))
    _copy(to.output.dense, of.output)
    _copy(to.output.LayerNorm, of.norm)


def speech(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    padding_mask = torch.zeros(BATCH, FRAMES, dtype=torch.bool, device=device)
    padding_mask[1, 400:] = True
    return torch.randn(BATCH, FRAMES, WIDTH, device=device), padding_mask


def forward(side: str, dropout: float, device: str, checkpointing: bool = False) -> tuple[Any, Any]:
    """A function that gives the query outputs (B, Q, H), and the parameters."""
    values, padding_mask = speech(device)
    if side == "ours":
        qformer = ours(dropout, device).train()
        qformer.gradient_checkpointing = checkpointing
        return lambda: qformer.query(qformer.read_speech(values, padding_mask)).hidden, list(qformer.parameters())
    model, queries = theirs(dropout, side, device)
    model.train()
    given = {"encoder_hidden_states": values, "encoder_attention_mask": (~padding_mask).long()}

    def output() -> torch.Tensor:
        return model(query_embeds=queries.expand(BATCH, -1, -1), **given).last_hidden_state

    return output, [queries, *model.parameters()]


def step(side: str, dropout: float, device: str = "cpu", checkpointing: bool = False) -> Run:
    """A forward and a backward pass; one was done, so that gradients are there."""
    output, _ = forward(side, dropout, device, checkpointing)

    def taken() -> None:
        output().square().mean().backward()

    taken()
    return taken


def beside_the_products(dropout: float) -> Step:
    """What a step of ours moves at least."""
    model = ours(dropout, "cpu")
    config = model.config
    return Step(
        rows=BATCH,
        queries=config.queries,
        frames=FRAMES,
        hidden=config.hidden_size,
        ffn=config.ffn_size,
        heads=config.heads,
        layers=config.layers,
        reading=sum(layer.cross_attention is not None for layer in model.each_layer()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dropout=dropout > 0,
    )


def measure(settings: Settings) -> Result:
    device = settings.device
    for side in ("sdpa", "eager"):
        with torch.no_grad():
            difference = (forward("ours", 0.0, device)[0]() - forward(side, 0.0, device)[0]()).abs().max()
        assert difference < 1e-5, f"outputs differ by {difference}"
    flops = product_flops(step("eager", 0.0, device))
    rows, more = [], {}
    for dropout, peers in PEERS.items():
        case = f"dropout {dropout:g}"
        gemm, copy, moved = Gemm(device), Copy(device), beside_the_products(dropout)
        sides = {side: step(side, dropout, device) for side in ("ours", *peers)}
        if TWICE[dropout]:
            sides["checkpointing"] = step("ours", dropout, device, True)
        sides["products"] = Products(sides["ours"])
        rounds = min(settings.rounds, ROUNDS)
        times = alternate({**sides, "gemm": gemm, "copy": copy}, rounds, 0, settings.clock)
        times = times.together("least", {"products": 1, "copy": moved.bytes / copy.bytes})
        del sides
        for side in peers:
            rows.append(Row.spread(f"{case}, {side}", "time / theirs", times.ratio("ours", side)))

        def share(case: str, side: str, times: Times = times, gemm: Gemm = gemm, **told: Any) -> None:
            spread = times.ratio("gemm", side, flops / gemm.flops)
            rows.append(Row.spread(case, "share of the GEMM peak", spread, **told))

        share(case, "ours", goal=0.85, at_least=True, note=f"{flops / 1e9:.0f} GFLOP by count")
        share(f"{case}, the products of ours and nothing else", "products")
        note = f"{moved.bytes / 1e9:.2f} GB at {copy.bytes / times['copy'] / 1e9:.0f} GB/s"
        share(f"{case}, these products and the least that the rest moves", "least", note=note)
        share(f"{case}, {peers[0]} of theirs", peers[0])
        more[f"{case}: bytes moved for"] = moved.parts
        taken = {side: memory_of(step, side=side, dropout=dropout, device=device) for side in ("ours", *peers)}
        for side in peers:
            note = f"{taken['ours'] / 1e6:.0f} of {taken[side] / 1e6:.0f} MB"
            rows.append(Row(f"{case}, {side}", "memory / theirs", taken["ours"] / taken[side], goal=0.8, note=note))
        if TWICE[dropout]:
            less = memory_of(step, side="ours", dropout=dropout, device=device, checkpointing=True)
            case += ", layers computed twice, sdpa"
            rows.append(Row(case, "memory / theirs", less / taken["sdpa"], note=f"{less / 1e6:.0f} MB"))
            rows.append(Row.spread(case, "time / theirs", times.ratio("checkpointing", "sdpa")))
    return Result(rows, more=more)


if __name__ == "__main__":
    run(BENCHMARK, measure)
