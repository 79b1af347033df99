"""Does a step of stage 1 with `llm-ctc` stay cheap beside the published sum of losses, as the LLM's vocabulary grows?

A whole base, speech and transcripts of `benchmarks/stage1_step.py`; vocabularies of SmolLM2 (49,152) and Gemma 3
(262,144), with embeddings of width 640, as in Gemma 3 270M.

    python benchmarks/llm_ctc_step.py
"""

from __future__ import annotations

from typing import Any

import stage1_step
import torch
from alternate import Benchmark, Gemm, Growth, Result, Row, Run, Settings, alternate, memory_of, product_flops, run

BENCHMARK = Benchmark(
    name="llm_ctc_step",
    question="What does a step of stage 1 with llm-ctc cost (base, 4 x 600 frames of width 1024)?",
    against="our step of stc + stm + stg over the same batch",
    minutes=40,  # some six where nobody else uses the machine
)
WIDTH = 640
VOCABULARIES = (49_152, 262_144)
SAMPLE = 16_384
GOAL = 0.28
ROUNDS = 3  # at most: CPU seconds of steps as long as these differ little


def step(vocabulary: int, sample: int = 0, device: str = "cpu") -> Run:
    """A forward and a backward pass; one was done, so that gradients are there."""
    torch.manual_seed(2)
    table = 0.1 * torch.randn(vocabulary, WIDTH)
    options = _Options(llm_ctc_sample=sample)
    model = stage1_step.adapter(0.1, device, objectives=("llm-ctc",), llm_embeddings=table, options=options)
    values, padding_mask, text = stage1_step.batch(device)
    text = text._replace(llm_tokens=text.tokens.masked_fill(text.padding_mask, -1))

    def taken() -> None:
        found: Any = stage1_step.our_loss(model, values, padding_mask, text)
        found.backward()

    taken()
    return taken


class _Options:
    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


def measure(settings: Settings) -> Result:
    device = settings.device
    cases = {f"vocabulary {size:,}": {"vocabulary": size} for size in VOCABULARIES}
    cases[f"vocabulary {VOCABULARIES[-1]:,}, --llm-ctc-sample {SAMPLE}"] = {
        "vocabulary": VOCABULARIES[-1],
        "sample": SAMPLE,
    }
    sides = {case: step(device=device, **given) for case, given in cases.items()}
    gemm = Gemm(device)
    sides["sparqle"] = stage1_step.step("ours", device=device)
    counts = {side: product_flops(taken) for side, taken in sides.items()}
    sides["gemm"] = gemm
    times = alternate(sides, min(settings.rounds, ROUNDS), 0, settings.clock)
    sides.clear()
    held = memory_of(stage1_step.step, side="ours", device=device)
    rows, lines = [], {"seconds": [], "memory": []}
    for case, given in cases.items():
        note = f"{counts[case] / 1e12:.2f} TFLOP by count"
        rows.append(Row.spread(case, "time / sparqle", times.ratio(case, "sparqle"), goal=GOAL, note=note))
        rows.append(Row(case, "products by count / sparqle", counts[case] / counts["sparqle"]))
        rows.append(Row.spread(case, "share of the GEMM peak", times.ratio("gemm", case, counts[case] / gemm.flops)))
        taken = memory_of(step, device=device, **given)
        rows.append(Row(case, "memory / sparqle", taken / held, note=f"{taken / 1e6:.0f} of {held / 1e6:.0f} MB"))
        if "sample" not in given:
            lines["seconds"].append((given["vocabulary"], times[case]))
            lines["memory"].append((given["vocabulary"], taken / 1e6))
    of = "a step with llm-ctc"
    growth = [
        Growth(
            "tokens of the LLM's vocabulary",
            "CPU seconds" if device == "cpu" else "seconds",
            of,
            {"all": lines["seconds"]},
        ),
        Growth("tokens of the LLM's vocabulary", "MB", f"memory of {of}", {"all": lines["memory"]}),
    ]
    return Result(rows, growth)


if __name__ == "__main__":
    run(BENCHMARK, measure)
