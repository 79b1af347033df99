"""How much does a training do before its first update is made, beyond loading the libraries?

Processes as a user starts them, to the end of one update, without validation and checkpoint, in turns with processes
that import the libraries and end. CPU seconds of the whole process and of those that it starts, which read batches.
Sizes are the demo's: stored features of 600 utterances of about 2 seconds, a Q-Former of 12 queries, a tiny LLM.

    python benchmarks/first_update.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from alternate import Benchmark, Result, Row, Settings, alternate, run

import sparqle_fairseq

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = Benchmark(
    name="first_update",
    question="How much CPU time passes from typing fairseq-train to the end of its first update?",
    against="importing torch, transformers and fairseq alone, and with a Llama's classes",
    minutes=12,
)
LIBRARIES = "import torch, transformers, fairseq"
# What transformers loads of torch with the classes of its first model.
WITH_LLM = (
    f"{LIBRARIES}; from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio; ensure_torchaudio(); "
    "from transformers import LlamaForCausalLM"
)


def make_world(folder: Path) -> None:
    """Manifests, stored features, tokenizer and LLM, of the tests' tiny ones."""
    sparqle_fairseq.register()
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny
    from factories import save_tiny_hubert

    data = folder / "data"
    data.mkdir()
    for stage, languages in (("1", {}), ("2", {"languages": ("en", "fr")})):
        tiny.write_split(data, f"train_stage{stage}", 600, seed=1, **languages)
        tiny.write_split(data, f"valid_stage{stage}", 8, seed=2, **languages)
    save_tiny_hubert(folder / "hubert.pt")
    tiny.save_text_tokenizer(folder / "tokenizer")
    tiny.save_llm(folder / "llm")
    manifests = sorted(data.glob("*.tsv"))
    words = [_tool("sparqle"), "extract-features", *manifests, "--speech-encoder", folder / "hubert.pt"]
    _process([*words, "--out", folder / "features"])
    # What stage 2 starts from; of two options of a name the later counts.
    _process([*training(folder, "1", "llm-ctc")[:-1], "--save-dir", folder / "stage1"])


def training(folder: Path, stage: str, objective: str = "") -> list[Any]:
    """The words of one update from nothing; the last one leaves out its checkpoint."""
    words = [
        _tool("fairseq-train"), folder / "features", "--user-dir", ROOT / "sparqle_fairseq", "--cpu", "--seed", 1,
        "--train-subset", f"train_stage{stage}", "--valid-subset", f"valid_stage{stage}", "--optimizer", "adam",
        "--clip-norm", 1, "--lr", 1e-3, "--max-update", 1, "--batch-size", 32, "--num-workers", 1,
        "--no-epoch-checkpoints", "--save-dir", folder / f"none{stage}", "--log-format", "simple",
    ]  # fmt: skip
    if stage == "1":
        words += [
            "--task", "sparqle_pretrain", "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain",
            "--speech-encoder", folder / "hubert.pt", "--text-tokenizer", folder / "tokenizer", "--queries", 12,
            "--query-start", "monotonic", "--objective", objective,
        ]  # fmt: skip
        if objective == "llm-ctc":
            words += ["--llm", folder / "llm", "--projector", "scaled"]
    else:
        words += [
            "--task", "sparqle_finetune", "--arch", "sparqle_llm", "--criterion", "sparqle_finetune",
            "--llm", folder / "llm", "--llm-dtype", "fp32", "--projector", "scaled",
            "--pretrained-adapter", folder / "stage1" / "checkpoint_last.pt",
        ]  # fmt: skip
    return [*words, "--disable-validation", "--no-save"]


def measure(settings: Settings) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        commands: dict[str, Sequence[Any]] = {
            "libraries": [sys.executable, "-c", LIBRARIES],
            "with an LLM": [sys.executable, "-c", WITH_LLM],
            "fairseq-train --help": [_tool("fairseq-train"), "--help"],
            "stage 1, sparqle": training(folder, "1", "sparqle"),
            "stage 1, llm-ctc": training(folder, "1", "llm-ctc"),
            "stage 2": training(folder, "2"),
        }
        sides = {name: partial(_process, words) for name, words in commands.items()}
        times = alternate(
            sides, settings.rounds, warm_ups=0, clock=_children_seconds
        )  # making the world read all files
    rows = []
    for case in list(commands)[2:]:
        seconds = f"{times[case]:.1f} against {times['libraries']:.1f} s"
        rows.append(Row.spread(case, "CPU time / libraries", times.ratio(case, "libraries"), goal=1.5, note=seconds))
    for case in ("stage 1, llm-ctc", "stage 2"):
        rows.append(
            Row.spread(
                case,
                "CPU time / libraries with an LLM's classes",
                times.ratio(case, "with an LLM"),
                goal=1.5,
                note=f"{times[case]:.1f} against {times['with an LLM']:.1f} s",
            )
        )
    return Result(rows)


def _tool(name: str) -> Path:
    return Path(sys.executable).parent / name


def _process(words: Sequence[Any]) -> None:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")


def _children_seconds(process: Any) -> float:
    """CPU time of the processes that a side starts, and of theirs."""
    before = os.times()
    process()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    run(BENCHMARK, measure)
