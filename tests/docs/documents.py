"""The commands of a document, and each of them run on the tiny world."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from commands import ROOT, TINY, generate_here, train_here

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import read_manifest


def commands_of(path: Path) -> list[list[str]]:
    """The commands of a document as words, in the order in which a reader meets them."""
    text = re.sub(r" *\\\n\s*", " ", path.read_text(encoding="utf-8"))
    lines = re.findall(r"^(    fairseq-.*|(?:    )?(?:\$ )?sparqle .*)$", text, flags=re.MULTILINE)
    lines = [re.split(r" [>|] | #", line.strip().removeprefix("$ "))[0] for line in lines]
    return [shlex.split(line.replace("…", "")) for line in lines]


def fairseq_commands(path: Path) -> list[list[str]]:
    """Those of fairseq-train and fairseq-generate."""
    return [words for words in commands_of(path) if words[0].startswith("fairseq-")]


def sparqle_commands(path: Path) -> list[list[str]]:
    return [words for words in commands_of(path) if words[0] == "sparqle"]


def run(words: list[str], world) -> None:
    """One command of a document, with what must be small or elsewhere put in its place."""
    first = read_manifest(world.data / "test_fr.tsv").row(0).id
    places = {
        "sparqle_fairseq": str(ROOT / "sparqle_fairseq"),
        "s03103-fr": first,
        "LLM": str(world.llm),
        "DATA": "data",
        "TOKENIZER": str(world.tokenizer),
        "meta-llama/Llama-3.1-8B-Instruct": str(world.llm),
        "/data/librispeech": "librispeech",
        "/data/mustc/en-fr": "mustc/en-fr",
        "/data/features": "features",
        "/data/librispeech/train-clean-360.tsv": "librispeech/train-clean-360.tsv",
        "/data/librispeech/dev-clean.tsv": "librispeech/dev-clean.tsv",
        "--bert": "--text-tokenizer",
        "bert-base-uncased": str(world.tokenizer),
    }
    words = [places.get(word, word) for word in words]
    if words[0] == "sparqle":
        if "extract-features" in words:
            words += ["--cpu", "--encoder-dtype", "fp32"]
        assert main(words[1:]) == 0
        return
    if "--distributed-world-size" in words:
        words[words.index("--distributed-world-size") + 1] = "1"
    words += ["--cpu"]
    if words[0] == "fairseq-generate":
        print(generate_here(words[1:]))
        return
    small = ["--max-update", "1", "--num-workers", "0", "--lr", "1e-3"]
    small += ["--encoder-dtype", "fp32", "--fp16-no-flatten-grads"]  # what a CPU needs
    small += ["--llm-dtype", "fp32"] if "sparqle_finetune" in words else TINY
    train_here([*words[1:], *small])
