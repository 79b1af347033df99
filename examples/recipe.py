"""The fairseq commands of a recipe: stage 1, stage 2, generation. The same for every corpus."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import Command, tool

PLUGIN = "sparqle_fairseq"


@dataclass
class Recipe:
    """Where things are, and how long to train.

    `audio` holds the manifests of recordings, `features` those that `sparqle extract-features` made of them.
    """

    out: Path
    audio: Path
    features: Path
    encoder: Path
    llm: Path
    tokenizer: Path
    stage1_updates: int
    stage2_updates: int
    learning_rate: float = 2e-3
    batch_size: int = 16
    seed: int = 1
    threads: int = 2
    stage1_options: Sequence[object] = field(default_factory=tuple)
    stage2_options: Sequence[object] = field(default_factory=tuple)

    def extract(self, manifests: Sequence[str]) -> Command:
        paths = [self.audio / f"{name}.tsv" for name in manifests]
        words = [tool("sparqle"), "extract-features", *paths, "--speech-encoder", self.encoder, "--out", self.features]
        return Command("features", words, self.log("features"), self.threads)

    def stage1(self) -> Command:
        words = [
            *self._train("stage1", self.stage1_updates),
            "--task", "sparqle_pretrain", "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain",
            "--speech-encoder", self.encoder, "--text-tokenizer", self.tokenizer, *self.stage1_options,
        ]  # fmt: skip
        return Command("stage 1", words, self.log("stage1"), self.threads)

    def stage2(self, pretrained: bool = True) -> Command:
        """Stage 2 from the stage-1 checkpoint, or from a new adapter of the same size."""
        arch = "sparqle_llm" if pretrained else "sparqle_llm_tiny"
        words = [
            *self._train("stage2", self.stage2_updates),
            "--task", "sparqle_finetune", "--arch", arch, "--criterion", "sparqle_finetune",
            "--llm", self.llm, "--llm-dtype", "fp32", *self.stage2_options,
        ]  # fmt: skip
        if pretrained:
            words += ["--pretrained-adapter", self.out / "stage1" / "checkpoint_last.pt"]
        else:
            words += ["--speech-encoder", self.encoder, *self.stage1_options]
        return Command("stage 2", words, self.log("stage2"), self.threads)

    def generate(self, split: str, stage: int = 2, scoring: str = "sacrebleu") -> Command:
        task = {1: "sparqle_pretrain", 2: "sparqle_finetune"}[stage]
        words = [
            tool("fairseq-generate"), self.audio, "--user-dir", PLUGIN, "--task", task,
            "--path", self.out / f"stage{stage}" / "checkpoint_last.pt", "--gen-subset", split,
            "--batch-size", 32, "--beam", 4, "--max-len-b", 40, "--scoring", scoring, "--cpu",
        ]  # fmt: skip
        return Command(f"generate {split}", words, self.hypotheses(split))

    def hypotheses(self, split: str) -> Path:
        """What fairseq-generate printed for a split."""
        return self.out / "generated" / f"{split}.txt"

    def log(self, name: str) -> Path:
        return self.out / "logs" / f"{name}.log"

    def _train(self, name: str, updates: int) -> list[object]:
        warmup = max(1, min(100, updates // 10))
        return [
            tool("fairseq-train"), self.features, "--user-dir", PLUGIN, "--cpu", "--seed", self.seed,
            "--train-subset", f"train_{name}", "--valid-subset", f"valid_{name}", "--save-dir", self.out / name,
            "--optimizer", "adam", "--adam-betas", "(0.9,0.98)", "--clip-norm", 1.0, "--lr", self.learning_rate,
            "--lr-scheduler", "polynomial_decay", "--warmup-updates", warmup, "--total-num-update", updates,
            "--max-update", updates, "--batch-size", self.batch_size, "--num-workers", 1, "--no-epoch-checkpoints",
            "--validate-interval", 1000, "--validate-interval-updates", max(1, updates // 4),
            "--log-format", "simple", "--log-interval", 50,
        ]  # fmt: skip


def tokenizer(recipe: Recipe, vocab_size: int) -> Command:
    """Train the transcripts' WordPiece tokenizer. A real setting takes BERT's: --bert bert-base-uncased."""
    script = Path(__file__).with_name("tokenizer.py")
    words = [
        sys.executable,
        script,
        recipe.audio / "train_stage1.tsv",
        "--out",
        recipe.tokenizer,
        "--vocab",
        vocab_size,
    ]
    return Command("tokenizer", words, recipe.log("tokenizer"))
