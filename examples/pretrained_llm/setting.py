"""SmolLM2 and how what stands before it is trained: what `run.py` and the ablations of pre-trained models share."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import Command, run_together

HERE = Path(__file__).resolve().parent
VOCABULARY = 600  # word pieces of the transcripts' tokenizer
INSTRUCTIONS = HERE / "instructions.yaml"
# Of about as many weights. The Q-Former has 16 queries for every 0.96 s: a query has 60 ms of speech, and CTC twice the
# room it needs; an output of the convolution has 80 ms.
ADAPTERS: dict[str, tuple[object, ...]] = {
    "qformer": (
        "--query-start", "monotonic", "--query-window-seconds", 0.96, "--queries-per-window", 16,
        "--hidden-size", 256, "--ffn-size", 1024,
    ),
    "conv": ("--adapter", "conv", "--speech-stride", 4, "--hidden-size", 416),
}  # fmt: skip
PROJECTOR = ("--projector", "scaled")
STAGE1 = ("--lr", 0.0007, "--llm-ctc-sample", 1024)
# What stage 1 spells, as the LLM's tokens; the LLM learns with LoRA to repeat it, or to translate it.
STAGE2 = (
    "--compress-queries", "--soft-tokens", "--freeze-qformer", "--lora-rank", 16, "--lora-alpha", 32,
    "--lr", 0.0002, "--batch-size", 4, "--validate-interval-updates", 0,
)  # fmt: skip


def smollm2(build: Path, started: float, threads: int = 1) -> Path:
    """The LLM's folder in `build`, fetched and converted where it is not there yet."""
    llm = build / "smollm2"
    if not llm.is_dir():
        for name, words in (("fetch", ["--build", build]), ("convert", [build / "smollm2-gguf", "--out", llm])):
            log = build / "logs" / f"{name}.log"
            command = [sys.executable, HERE / f"{name}.py", *words]
            run_together([Command(f"{HERE.name} {name}", command, log, threads)], started)
    return llm
