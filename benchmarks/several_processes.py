"""What does an update cost in a process, where 1 to 8 train together on this machine, each on a batch of its own?

Weak scaling: the batch of a process stays and processes are added, so the work of an update grows with them. fairseq's
own training, as `sparqle launch` starts it: gloo, stage 1 with the published objectives, which look at utterances of
all processes. CPU seconds of a process do not ask how many cores there are; what the cores' caches and memory give to
more processes than cores does show. So beside them run as many trainings at once that know nothing of each other: what
these take more than one alone is the machine's.

    python benchmarks/several_processes.py
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import statistics
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from alternate import Benchmark, Growth, Result, Row, Run, Settings, Spread, memory_of, run
from trainer_share import Clock

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = Benchmark(
    name="processes",
    question="What does an update cost in a process where 1 to 8 train together, each on 4 utterances of 2 s?",
    against="one process alone; and the memory that `sparqle plan` foretells",
    minutes=30,
)
PROCESSES = (1, 2, 4, 8)
SHAPE = {"hidden_size": 512, "layers": 2, "heads": 8, "ffn_size": 2048, "queries": 16}
BATCH, SECONDS, RATE = 4, 2.0, 16000
# Updates of a run: the first ones load and allocate.
LEFT_OUT, COUNTED = 2, 3
ROUNDS = 3  # at most; each starts 29 processes
LEAST = 0.85  # of what is measured; and no more than 1.15
EXCHANGE = "exchange of gradients"


def make_world(folder: Path) -> None:
    """Features of as many rows as all processes read, the tests' tiny tokenizer, and an encoder that is not run."""
    import numpy as np

    sys.path.insert(0, str(ROOT / "tests"))
    import tiny
    from factories import save_tiny_hubert

    from sparqle_fairseq.data.manifest import write_manifest
    from sparqle_fairseq.tools.plan.plan import TOKENS_A_SECOND

    save_tiny_hubert(folder / "hubert.pt")
    tiny.save_text_tokenizer(folder / "tokenizer")
    frames = (round(SECONDS * RATE) - 80) // 320  # of HuBERT's convolutions
    numbers, draw, rows = np.random.default_rng(0), random.Random(0), []
    for i in range(BATCH * max(PROCESSES) * 2):
        np.save(folder / f"{i}.npy", numbers.standard_normal((frames, 32), np.float32))
        text = " ".join(draw.choices(tiny.ENGLISH, k=round(SECONDS * TOKENS_A_SECOND) - 2))  # and CLS and SEP
        rows.append({"id": f"u{i}", "audio": f"{i}.npy", "n_frames": frames, "src_text": text})
    write_manifest(folder / "train.tsv", rows, ("id", "audio", "n_frames", "src_text"))


def words_of(folder: Path, updates: int) -> list[str]:
    """Of fairseq-train."""
    shape = [word for name, value in SHAPE.items() for word in (f"--{name.replace('_', '-')}", value)]
    words: list[Any] = [
        folder, "--user-dir", ROOT / "sparqle_fairseq", "--cpu", "--seed", 1, "--train-subset", "train",
        "--task", "sparqle_pretrain", "--arch", "sparqle_qformer_base", "--criterion", "sparqle_pretrain", *shape,
        "--speech-encoder", folder / "hubert.pt", "--text-tokenizer", folder / "tokenizer", "--optimizer", "adam",
        "--clip-norm", 1, "--lr", 1e-4, "--batch-size", BATCH, "--required-batch-size-multiple", 1,
        "--max-update", updates, "--num-workers", 0, "--disable-validation", "--no-save", "--log-format", "none",
        "--save-dir", folder / "none",
    ]  # fmt: skip
    return [str(word) for word in words]


def ready() -> None:
    """Load what a training loads, before processes are forked and memory is looked at."""
    import torch

    import sparqle_fairseq

    sparqle_fairseq.register()
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    import fairseq.optim.adam
    import fairseq_cli.train
    import transformers.models.bert.modeling_bert
    from fairseq.distributed import legacy_distributed_data_parallel

    assert fairseq.optim.adam
    assert fairseq_cli.train
    assert transformers.models.bert.modeling_bert
    assert legacy_distributed_data_parallel
    torch.nn.Linear(64, 64)(torch.randn(64, 64)).sum().backward()


def train(folder: Path, rank: int, processes: int, port: int, updates: int) -> list[dict[str, float]]:
    """CPU seconds of each update, as one of so many processes: "all", and `EXCHANGE`."""
    from fairseq.optim import FairseqOptimizer
    from fairseq.trainer import Trainer

    from sparqle_fairseq.tools.launch import run_here

    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    clock = Clock()
    exchange = clock.around(EXCHANGE, FairseqOptimizer.all_reduce_grads)
    with (
        mock.patch.object(FairseqOptimizer, "all_reduce_grads", exchange),
        mock.patch.object(Trainer, "train_step", clock.whole(Trainer.train_step)),
    ):
        run_here("fairseq-train", words_of(folder, updates), alone=processes == 1)
    return clock.updates


def forked(work: Callable[[], object], log: Path) -> tuple[int, int]:
    """Start `work` in a fork of this process: its id, and where what it returns can be read as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.write(writing, json.dumps(work()).encode())
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def together(
    folder: Path, processes: int, first: int = 0, updates: int = LEFT_OUT + COUNTED, apart: bool = False
) -> tuple[list[tuple[int, int]], int]:
    """Start the processes from rank `first` on; those, and the port at which they meet, unless each trains `apart`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def member(rank: int) -> tuple[int, int]:
        place = (0, 1) if apart else (rank, processes)
        return forked(lambda: train(folder, *place, port, updates), folder / f"log-{processes}-{rank}")

    return [member(rank) for rank in range(first, processes)], port


def ended(running: list[tuple[int, int]], folder: Path, processes: int, first: int = 0) -> list[Any]:
    """What the processes give. Raises RuntimeError with the log of the one that failed."""
    found = []
    for rank, (child, reading) in enumerate(running, start=first):
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        if status:
            log = (folder / f"log-{processes}-{rank}").read_text()[-2000:]
            raise RuntimeError(f"process {rank} of {processes} ended with {os.waitstatus_to_exitcode(status)}: {log}")
        found.append(json.loads(text))
    return found


def member_of(folder: str, processes: int) -> Run:
    """The first of so many processes, as a run whose memory is measured; the others are forked before."""
    ready()
    where = Path(folder)
    running, port = together(where, processes, first=1, updates=LEFT_OUT)

    def taken() -> None:
        train(where, 0, processes, port, LEFT_OUT)
        ended(running, where, processes, first=1)

    return taken


def planned(folder: Path, processes: int) -> int:
    """Bytes in one process, by `sparqle plan`."""
    from sparqle_fairseq.tools.plan.plan import Run as PlannedRun
    from sparqle_fairseq.tools.plan.plan import plan

    tokens = round(SECONDS * BATCH * RATE)
    vocabulary = len(json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"])
    run = PlannedRun(
        str(folder / "hubert.pt"), None, qformer=tuple(SHAPE.items()), from_store=True, precision="fp32",
        mean_seconds=SECONDS, batch_multiple=1, max_tokens=(tokens, tokens), gpus=processes, text_vocabulary=vocabulary,
    )  # fmt: skip
    return plan(run).stages[0].memory


def measure(settings: Settings) -> Result:
    ready()
    updates: dict[int, list[list[dict[str, float]]]] = {count: [] for count in PROCESSES}  # by round
    strangers: dict[int, list[list[dict[str, float]]]] = {count: [] for count in PROCESSES[1:]}
    memory = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        for round_ in range(min(settings.rounds, ROUNDS)):
            for count in PROCESSES if round_ % 2 else reversed(PROCESSES):
                for apart, kept in ((False, updates), (True, strangers)):
                    if count in kept:
                        running, _ = together(folder, count, apart=apart)
                        found = ended(running, folder, count)
                        kept[count].append([update for process in found for update in process[LEFT_OUT:]])
        for count in PROCESSES:
            memory[count] = (planned(folder, count) / 1e6, memory_of(member_of, folder=name, processes=count) / 1e6)
    seconds = {count: [_seconds(found) for found in rounds] for count, rounds in updates.items()}
    beside = {count: [_seconds(found) for found in rounds] for count, rounds in strangers.items()}
    rows = []
    for count in PROCESSES[1:]:
        ratio = Spread.of([one / alone for one, alone in zip(seconds[count], seconds[1], strict=True)])
        note = f"{statistics.median(seconds[count]):.2f} against {statistics.median(seconds[1]):.2f} s"
        rows.append(Row.spread(f"{count} processes", "CPU time of an update / alone", ratio, goal=1.5, note=note))
        ratio = Spread.of([one / alone for one, alone in zip(beside[count], seconds[1], strict=True)])
        case = f"{count} trainings of a process at once"
        rows.append(Row.spread(case, "CPU time of an update / alone", ratio))
    for count in PROCESSES[1:]:
        shares = [update[EXCHANGE] / update["all"] for found in updates[count] for update in found]
        rows.append(Row.spread(f"{count} processes", f"share of the {EXCHANGE}", Spread.of(shares), goal=0.15))
    for count, (foretold, held) in memory.items():
        case = f"{count} processes" if count > 1 else "1 process"
        note = f"{foretold:.0f} of {held:.0f} MB"
        rows.append(Row(case, "planned / measured", foretold / held, goal=LEAST, at_least=True, note=note))
    time = {"measured": [(count, statistics.median(each)) for count, each in seconds.items()]}
    held = {
        "planned": [(count, foretold) for count, (foretold, _) in memory.items()],
        "measured": [(count, found) for count, (_, found) in memory.items()],
    }
    return Result(
        rows,
        [
            Growth("processes", "CPU seconds", "an update in a process", time),
            Growth("processes", "MB", "memory of a process", held),
        ],
    )


def _seconds(updates: list[dict[str, float]]) -> float:
    """The mean of an update: a process now works for others that wait, now waits itself."""
    return statistics.mean(update["all"] for update in updates)


if __name__ == "__main__":
    run(BENCHMARK, measure)
