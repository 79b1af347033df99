"""How much of an update is the trainer's own, and who spends it?

fairseq-train in this process, on the tiny stage 1 of `first_update.py`, with a clock around each part that fairseq's
trainer calls. What is left of an update beside the loss, its gradient and the optimizer's step is the trainer's.

    python benchmarks/trainer_share.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from alternate import Benchmark, Result, Row, Settings, Spread, run
from first_update import make_world, training

BENCHMARK = Benchmark(
    name="trainer_share",
    question="How much of an update is the trainer's own, and who spends it?",
    against="the CPU time of the whole update, with a tiny Q-Former and 32 utterances of about 2 seconds",
    minutes=12,
)
# Updates: the first ones load and allocate.
LEFT_OUT, COUNTED = 5, 30
LOSS, STEP = "loss and gradient", "optimizer's step"
# Trainer's method -> what it does and whose code it is.
PARTS = {
    "_set_seed": "seeds: torch's manual_seed, which notes down where it was called",
    "clip_grad_norm": "gradient norm: fairseq and torch",
    "_reduce_and_log_stats": "numbers for the log: fairseq's meters, and the objectives' sums",
    "zero_grad": "gradients set to nothing: fairseq",
    "_prepare_sample": "batch to the device: fairseq",
}


class Clock:
    """CPU seconds of each part, by update."""

    def __init__(self) -> None:
        self.updates: list[dict[str, float]] = []

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **options)
            finally:
                own = self.updates[-1]
                own[name] = own.get(name, 0.0) + time.process_time() - start

        return timed

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        timed = self.around("all", function)

        def update(*args: Any, **options: Any) -> Any:
            self.updates.append({})
            return timed(*args, **options)

        return update

    def share(self, of: Callable[[dict[str, float]], float]) -> Spread:
        return Spread.of([of(update) / update["all"] for update in self.updates[LEFT_OUT:]])


def measure(_: Settings) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_world(folder)
        clock = Clock()
        _train(training(folder, "1", "sparqle"), clock)
    rows = [
        Row.spread("altogether", "share of an update", clock.share(_trainers), goal=0.05),
        *(
            Row.spread(what, "share of an update", clock.share(lambda update, part=part: update.get(part, 0.0)))
            for part, what in PARTS.items()
        ),
        Row.spread("all else of the trainer: fairseq's Python and options", "share of an update", clock.share(_rest)),
        Row.spread(LOSS, "share of an update", clock.share(lambda update: update[LOSS])),
        Row.spread(STEP, "share of an update", clock.share(lambda update: update[STEP])),
    ]
    return Result(rows)


def _trainers(update: dict[str, float]) -> float:
    return update["all"] - update[LOSS] - update[STEP]


def _rest(update: dict[str, float]) -> float:
    return _trainers(update) - sum(update.get(part, 0.0) for part in PARTS)


def _train(words: list[Any], clock: Clock) -> None:
    from fairseq.tasks.fairseq_task import FairseqTask
    from fairseq.trainer import Trainer
    from fairseq_cli.train import cli_main

    # The later of two options counts.
    words = [*words, "--num-workers", 0, "--max-update", LEFT_OUT + COUNTED, "--log-interval", 1000]
    parts = [mock.patch.object(Trainer, part, clock.around(part, getattr(Trainer, part))) for part in PARTS]
    parts += [
        mock.patch.object(FairseqTask, "train_step", clock.around(LOSS, FairseqTask.train_step)),
        mock.patch.object(FairseqTask, "optimizer_step", clock.around(STEP, FairseqTask.optimizer_step)),
        mock.patch.object(Trainer, "train_step", clock.whole(Trainer.train_step)),
        mock.patch.object(sys, "argv", [str(word) for word in words]),
    ]
    for part in parts:
        part.start()
    try:
        cli_main()
    finally:
        for part in reversed(parts):
            part.stop()


if __name__ == "__main__":
    run(BENCHMARK, measure)
