"""The demo's ingredients: corpus, speech, HuBERT, LM, features, tokenizer. Everything that training starts from."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import Command, run_together
from recipe import Recipe, tokenizer

HERE = Path(__file__).resolve().parent
TOKENIZER_SIZE = 1000


def demo_recipe(out: Path, seed: int) -> Recipe:
    """Where the demo in the folder `out` keeps its things; how long it trains is for `dataclasses.replace` to say."""
    return Recipe(
        out=out,
        audio=out / "manifests",
        features=out / "features",
        encoder=out / "hubert" / "checkpoint_last.pt",
        llm=out / "llm",
        tokenizer=out / "tokenizer",
        stage1_updates=0,
        stage2_updates=0,
        seed=seed,
    )


def prepare(out: Path, seed: int, started: float, llm: Command | None = None) -> None:
    """Make them all in `out`; `llm` is the command that makes the language model, where it is not to be the demo's."""
    recipe = demo_recipe(out, seed)
    run_together([_script(out, seed, "corpus")], started)
    run_together([_script(out, seed, "speech", "--workers", 2)], started)
    run_together([_script(out, seed, "hubert"), llm or demo_llm(out, seed)], started)
    manifests = [f"{split}_stage{stage}" for split in ("train", "valid") for stage in (1, 2)]
    run_together([recipe.extract(manifests), tokenizer(recipe, TOKENIZER_SIZE)], started)


def demo_llm(out: Path, seed: int) -> Command:
    """The demo's language model, which has met text spread out as queries come."""
    return _script(out, seed, "lm")


def plain_llm(out: Path, seed: int, name: str, steps: int = 2400) -> Command:
    """An ordinary language model beside the demo's: it has met words in a row and nothing else."""
    words = [sys.executable, HERE / "lm.py", "--out", out, "--seed", seed, "--plain", "--name", name, "--steps", steps]
    return Command(name, words, out / "logs" / f"{name}.log")


def _script(out: Path, seed: int, name: str, *more: object) -> Command:
    words = [sys.executable, HERE / f"{name}.py", "--out", out, "--seed", seed, *more]
    return Command(name, words, out / "logs" / f"{name}.log")
