"""The fairseq commands, run as a user runs them: in processes of their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import warm

ROOT = Path(__file__).parent.parent
PACKAGE = ("sparqle_fairseq",)
# The sub-commands of tests that load the libraries. All others are started as they are: nothing would be saved.
LOADING = ("translate", "retrieval", "extract-units")


def command(
    name: str, *arguments: Any, check: bool = True, cwd: Path = ROOT, given: bytes | None = None, start: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run fairseq-train, fairseq-generate, sparqle, …; with `check` its failure fails the test, with its output.

    What loads fairseq runs where it is loaded already; with `start` by a real start of Python, which takes seconds.
    """
    words = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    if start or not (name.startswith("fairseq-") or (name == "sparqle" and arguments[:1] and arguments[0] in LOADING)):
        assert given is None
        done = subprocess.run(words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600)
    else:
        first = PACKAGE if name == "sparqle" else ()  # which imports fairseq only when it needs it
        done = warm.run(words, cwd, environment(), first=first, given=given)
    if check and done.returncode:
        raise AssertionError(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done


def script(
    code: str, *arguments: Any, cwd: Path = ROOT, package_first: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a text as Python does with -c, where fairseq is loaded: after the package, or before it."""
    first = PACKAGE if package_first else ()
    return warm.run(["-c", code, *map(str, arguments)], cwd, environment(), first=first)


def program(path: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run a file of Python as `python FILE` does, where the libraries are loaded."""
    return warm.run([str(path), *map(str, arguments)], ROOT, environment(), first=PACKAGE)


def environment() -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**{name: value for name, value in os.environ.items() if name != "SPARQLE_TRACEBACK"}, **quiet}


TINY = ["--hidden-size", "64", "--layers", "2", "--heads", "4", "--ffn-size", "128", "--queries", "8"]
QUIET = ["--user-dir", "sparqle_fairseq", "--cpu", "--log-format", "simple", "--log-interval", "20"]


def train_arguments(world: Any, save_dir: Path, updates: int, lr: float = 3e-3, batch: int = 8) -> list[Any]:
    return [
        world.data, *QUIET, "--save-dir", save_dir, "--optimizer", "adam", "--lr", lr, "--clip-norm", 1,
        "--batch-size", batch, "--max-update", updates, "--no-epoch-checkpoints", "--num-workers", 0,
    ]  # fmt: skip


def pretrain_arguments(world: Any, save_dir: Path, *more: Any, updates: int = 4) -> list[Any]:
    return [
        *train_arguments(world, save_dir, updates), "--task", "sparqle_pretrain",
        "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain", *TINY,
        "--speech-encoder", world.encoder, "--text-tokenizer", world.tokenizer, *more,
    ]  # fmt: skip


def pretrain(world: Any, save_dir: Path, *more: Any, updates: int = 4, check: bool = True) -> Any:
    return command("fairseq-train", *pretrain_arguments(world, save_dir, *more, updates=updates), check=check)


def train_here(arguments: list[Any]) -> None:
    """What fairseq-train does, in this process: seconds faster, and its errors can be caught."""
    from fairseq import checkpoint_utils
    from fairseq.logging import progress_bar
    from fairseq_cli.train import cli_main

    # fairseq keeps the best score and open event files in the process; a run of its own would have none yet.
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    progress_bar._tensorboard_writers = {}
    with mock.patch.object(sys, "argv", ["fairseq-train", *map(str, arguments)]):
        cli_main()


def finetune_arguments(world: Any, save_dir: Path, *more: Any, updates: int = 4) -> list[Any]:
    return [
        *train_arguments(world, save_dir, updates), "--task", "sparqle_finetune",
        "--arch", "sparqle_llm", "--criterion", "sparqle_finetune", "--train-subset", "train2",
        "--valid-subset", "dev2", "--llm", world.llm, "--llm-dtype", "fp32", *more,
    ]  # fmt: skip


def finetune(world: Any, save_dir: Path, *more: Any, updates: int = 4, check: bool = True) -> Any:
    return command("fairseq-train", *finetune_arguments(world, save_dir, *more, updates=updates), check=check)


def generate_here(arguments: list[Any]) -> str:
    """What fairseq-generate prints, in this process: a second faster, and its errors can be caught."""
    from fairseq_cli.generate import cli_main

    words = ["fairseq-generate", "--num-workers", "0", *map(str, arguments)]
    with mock.patch.object(sys, "argv", words), redirect_stdout(io.StringIO()) as printed:
        cli_main()
    return printed.getvalue()


def generate_arguments(world: Any, checkpoint: Path | str, task: str, split: str, *more: Any) -> list[Any]:
    return [
        world.data, "--user-dir", "sparqle_fairseq", "--cpu", "--task", task, "--path", checkpoint,
        "--gen-subset", split, "--batch-size", 5, "--max-len-b", 12, *more,
    ]  # fmt: skip


def generate(world: Any, checkpoint: Path | str, task: str, split: str, *more: Any, apart: bool = False) -> Any:
    """What fairseq-generate prints, as `stdout`; `apart` in a process of its own."""
    arguments = generate_arguments(world, checkpoint, task, split, *more)
    return command("fairseq-generate", *arguments) if apart else SimpleNamespace(stdout=generate_here(arguments))


def lines(output: str, kind: str) -> dict[int, str]:
    """`{row: text}` of the T-, H-, D- or P- lines."""
    found = [line for line in output.splitlines() if line.startswith(f"{kind}-")]
    assert len({line.split("\t")[0] for line in found}) == len(found), "a row came twice"
    return {int(line.split("\t")[0][2:]): line.split("\t", 1)[1] for line in found}


def train_together(world, tmp_path, stage, processes, updates, *more, check=True):
    """`updates` of one global batch of 12 utterances, in `processes` processes."""
    arguments = stage(
        world, tmp_path / f"{stage.__name__}-{processes}", "--dropout", 0, "--batch-size", 12 // processes,
        "--required-batch-size-multiple", 1, "--optimizer", "sgd", "--lr", 0.01, "--clip-norm", 0, *more,
        updates=updates,
    )  # fmt: skip
    if processes == 1:
        return train_here(arguments)
    return command("sparqle", "launch", "-n", processes, "fairseq-train", *arguments, check=check)
