"""CPU milliseconds of an update, measured, so that arms can be given the same time and not the same number of updates.

Updates of all arms take turns in one process: what else the machine does slows them all alike, so that their ratios
hold. CPU time, and not time on the clock: other programs do not count.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch

ROUNDS = 24
BATCHES = 6


class Step:
    """Updates of one training, by the words of its fairseq-train command."""

    def __init__(self, words: Sequence[object]) -> None:
        import sparqle_fairseq

        sparqle_fairseq.register()
        from fairseq import options, tasks
        from fairseq.dataclass.utils import convert_namespace_to_omegaconf

        arguments = [str(word) for word in words[1:]]
        place = arguments.index("--user-dir")  # registered above
        del arguments[place : place + 2]
        cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), arguments))
        task = tasks.setup_task(cfg.task)
        self.model: Any = task.build_model(cfg.model).train()
        self.criterion = task.build_criterion(cfg.criterion)
        task.load_dataset(cfg.dataset.train_subset)
        dataset, size = task.dataset(cfg.dataset.train_subset), cfg.dataset.batch_size
        rows = random.Random(0).sample(range(len(dataset)), BATCHES * size)  # the same sentences for every arm
        self.batches = [dataset.collater([dataset[i] for i in rows[k::BATCHES]]) for k in range(BATCHES)]
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-5)

    def seconds(self, index: int) -> float:
        """CPU seconds of an update on a batch."""
        before = time.process_time()
        loss, size, _ = self.criterion(self.model, self.batches[index % BATCHES])
        self.optimizer.zero_grad()
        (loss / size).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return time.process_time() - before


def costs_of_updates(trainings: Mapping[str, Sequence[object]]) -> dict[str, float]:
    """CPU seconds of an update of each training, the median over `ROUNDS` rounds in which they take turns."""
    torch.set_num_threads(1)
    steps = {name: Step(words) for name, words in trainings.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(-2, ROUNDS):
        for name, step in steps.items():
            seconds = step.seconds(index)
            if index >= 0:  # the first ones warm up
                found[name].append(seconds)
    return {name: median(values) for name, values in found.items()}
