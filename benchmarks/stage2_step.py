"""What do logits of the answer alone save in a step of stage 2, against a causal LM that is given labels?

The LLM (a Llama of the shape of SmolLM2-135M, random weights, frozen) gets the same embeddings in both: prompts of 20
tokens with 100 queries in them, and answers of 12 to 40 tokens. Forward, loss, and backward to the queries.

    python benchmarks/stage2_step.py
"""

from __future__ import annotations

from typing import Any

import torch
from alternate import Benchmark, Gemm, Result, Row, Run, Settings, alternate, memory_of, product_flops, run
from torch import Tensor

BENCHMARK = Benchmark(
    name="stage2_step",
    question="What does a step of stage 2 cost behind the queries (4 x 120 positions, answers of 12 to 40 tokens)?",
    against="AutoModelForCausalLM(inputs_embeds=, labels=) on the same embeddings, with the same loss and gradient",
    minutes=8,
)
SIZES = {  # width, layers, vocabulary
    "SmolLM2-135M, vocabulary 49,152": (576, 30, 49_152),
    "2 layers of width 640, vocabulary 262,144": (640, 2, 262_144),
}
BATCH, PROMPT, QUERIES = 4, 20, 100
ANSWERS = (12, 20, 30, 40)


def language_model(size: str, device: str) -> Any:
    import transformers

    from sparqle_fairseq.fairseq_fixes import apply

    apply()
    width, layers, vocabulary = SIZES[size]
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=3 if width == 576 else 2,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.requires_grad_(False).eval().to(device)


def batch(model: Any, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings of prompt and queries (B, N, M), where they are real, answers (B, L), and where these are not."""
    torch.manual_seed(1)
    width = model.config.hidden_size
    prefix = torch.nn.Parameter(0.02 * torch.randn(BATCH, PROMPT + QUERIES, width, device=device))
    seen = torch.ones(BATCH, PROMPT + QUERIES, dtype=torch.bool, device=device)
    seen[1, :5] = False
    longest = max(ANSWERS)
    padding = (torch.arange(longest)[None] >= torch.tensor(ANSWERS)[:, None]).to(device)
    answer = torch.randint(100, 40_000, (BATCH, longest)).to(device).masked_fill(padding, 0)
    return prefix, seen, answer, padding


def loss_of(side: str, size: str, device: str) -> tuple[Any, Tensor]:
    from sparqle_fairseq.models.llm.llm import LanguageModel
    from sparqle_fairseq.models.stage1.losses import generation_loss

    model = language_model(size, device)
    prefix, seen, answer, padding = batch(model, device)
    if side == "ours":
        llm = LanguageModel(model, tokenizer(), "random weights", torch.float32)

        def ours() -> Tensor:
            logits = llm.forced(prefix, seen, answer, padding)[~padding]
            return generation_loss(logits, answer[~padding], 0.0).sum() / (~padding).sum()

        return ours, prefix
    words = model.get_input_embeddings()(answer)
    mask = torch.cat([seen, ~padding], dim=1).long()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    labels = torch.cat([answer.new_full(prefix.shape[:2], -100), answer.masked_fill(padding, -100)], dim=1)

    def theirs() -> Tensor:
        embeddings = torch.cat([prefix, words], dim=1)
        given = {"attention_mask": mask, "position_ids": positions, "use_cache": False}
        return model(inputs_embeds=embeddings, labels=labels, **given).loss

    return theirs, prefix


def tokenizer() -> Any:
    """One that knows the end of an answer: texts are not read here."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="<unk>", eos_token="</s>")


def step(side: str, size: str, device: str = "cpu") -> Run:
    """Loss and gradient at the queries; one was done."""
    loss, prefix = loss_of(side, size, device)

    def taken() -> None:
        torch.autograd.grad(loss(), prefix)

    taken()
    return taken


def difference(size: str, device: str) -> float:
    """Between the losses of both, and between the gradients over the largest gradient."""
    found = []
    for side in ("ours", "theirs"):
        loss, prefix = loss_of(side, size, device)
        value = loss()
        (gradient,) = torch.autograd.grad(value, prefix)
        found.append((value.detach(), gradient))
    (ours, mine), (theirs, other) = found
    return max(float((ours - theirs).abs()), float((mine - other).abs().max() / other.abs().max()))


def measure(settings: Settings) -> Result:
    device, rows, gemm = settings.device, [], Gemm(settings.device)
    for size in SIZES:
        apart = difference(size, device)
        assert apart < 1e-5, f"losses and gradients differ by {apart}"
        sides = {side: step(side, size, device) for side in ("ours", "theirs")}
        count = product_flops(sides["ours"])
        times = alternate({**sides, "gemm": gemm}, settings.rounds, 0, settings.clock)
        rows.append(Row.spread(size, "time / theirs", times.ratio("ours", "theirs"), goal=1.0))
        share = times.ratio("gemm", "ours", count / gemm.flops)
        rows.append(Row.spread(size, "share of the GEMM peak", share, note=f"{count / 1e12:.2f} TFLOP by count"))
        sides.clear()
        ours, theirs = (memory_of(step, side=side, size=size, device=device) for side in ("ours", "theirs"))
        note = f"{ours / 1e6:.0f} of {theirs / 1e6:.0f} MB"
        rows.append(Row(size, "memory / theirs", ours / theirs, goal=0.8, note=note))
    return Result(rows)


if __name__ == "__main__":
    run(BENCHMARK, measure)
