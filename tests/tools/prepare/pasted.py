"""The commands of a recipe's README, as they stand there, made small enough for a test and run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

from commands import ROOT, TINY, command, generate_here, train_here

RECIPES = ("librispeech", "mustc", "covost2", "fleurs", "own_audio")
PROGRAMS = ("sparqle", "fairseq-train", "fairseq-generate", "fairseq-hydra-train")

# What a test changes in a pasted command, and nothing else: paths, models of real size, GPUs, the length of training.
DROPPED = {"--fp16": 0, "--bert": 1, "--num-workers": 1, "--distributed-world-size": 1}
SMALLER = {
    "fairseq-train": ["--cpu", "--max-update", "1", "--num-workers", "0", "--log-format", "simple"],
    "fairseq-generate": ["--cpu", "--max-len-b", "12", "--beam", "2"],
}
STAGE1 = ["--encoder-dtype", "fp32", *TINY]
STAGE2 = ["--llm-dtype", "fp32"]
HYDRA = [
    "common.cpu=true", "common.fp16=false", "distributed_training.distributed_world_size=1", "dataset.num_workers=0",
    "optimization.max_update=2",
]  # fmt: skip
HYDRA_STAGE1 = [
    "model.bert=null", "model.encoder_dtype=fp32", "model.hidden_size=64", "model.layers=2", "model.heads=4",
    "model.ffn_size=128", "model.queries=8",
]  # fmt: skip


def pasted(recipe: str) -> list[list[str]]:
    """The commands of a README in their order, as words; continued lines are joined."""
    text = (ROOT / "examples" / recipe / "README.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in re.sub(r" *\\\n\s*", " ", text).splitlines()]
    return [shlex.split(line) for line in lines if line.split(" ")[0] in PROGRAMS]


class Miniature:
    """Runs pasted commands below `root`, which holds `data/` and gets `checkpoints/`, with the models of `world`."""

    def __init__(self, world: Any, root: Path) -> None:
        self.world = world
        self.root = root
        self.places = {
            "hubert_large_ll60k.pt": str(world.encoder),
            "meta-llama/Llama-3.1-8B-Instruct": str(world.llm),
        }

    def small(self, words: list[str]) -> list[str]:
        """The words of a command with the substitutions of this file."""
        program, *rest = (self._placed(word) for word in words)
        if program == "sparqle":
            return [program, *rest]
        if program == "fairseq-hydra-train":
            more = HYDRA
            if "stage1" in rest:
                more = [*HYDRA, *HYDRA_STAGE1, f"model.text_tokenizer={self.world.tokenizer}"]
            else:
                more = [*HYDRA, "model.llm_dtype=fp32"]
            save_dir = re.search(r"save_dir: (\S+)", self._config(rest).read_text(encoding="utf-8"))
            assert save_dir is not None
            return [program, *rest, *more, f"checkpoint.save_dir={self.root / save_dir[1]}-hydra"]
        kept, skip = [], 0
        for word in rest:
            if skip:
                skip -= 1
            elif word in DROPPED:
                skip = DROPPED[word]
            else:
                kept.append(word)
        kept += SMALLER[program]
        if program == "fairseq-train":
            stage1 = "sparqle_pretrain" in kept
            kept += [*STAGE1, "--text-tokenizer", str(self.world.tokenizer)] if stage1 else STAGE2
        return [program, *kept]

    @staticmethod
    def _config(words: list[str]) -> Path:
        folder, name = (words[words.index(option) + 1] for option in ("--config-dir", "--config-name"))
        return ROOT / folder / f"{name}.yaml"

    def _placed(self, word: str) -> str:
        for name, place in self.places.items():
            word = word.replace(name, place)
        word = re.sub(r"(^|=)/data/", rf"\1{self.root}/data/", word)
        return re.sub(r"(^|=)checkpoints/", rf"\1{self.root}/checkpoints/", word)

    def run(self, words: list[str]) -> str:
        """What the command prints. All but Hydra's run in this process, which is seconds faster."""
        program, *rest = self.small(words)
        printed = io.StringIO()
        if program == "fairseq-hydra-train":
            done = command(program, *rest)
            return done.stdout + done.stderr
        with contextlib.redirect_stdout(printed):
            if program == "sparqle":
                from sparqle_fairseq.cli.main import main

                assert main(rest) == 0
            elif program == "fairseq-train":
                train_here(rest)
            else:
                print(generate_here(rest))
        return printed.getvalue()
