"""Which rows make a batch, in which order, and for which process: plain numbers of (seed, epoch).

As fairseq-train composes them: the b-th batch of an epoch goes to process b modulo their number. So two processes take
the step that one takes with twice the gradient accumulation, and a resumed run meets what it would have met. Where the
last batches do not go round, a process gets a stand-in, of which nothing counts, so that all take part in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from sparqle_fairseq.data.dataset import SpeechDataset

STAND_IN = "stand_in"


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """numpy's global random numbers from a seed, and afterwards as if nothing had been drawn."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def cut(count: int, size: int, multiple: int = 1) -> list[int]:
    """Sizes of the batches of `count` rows: `size` each, a multiple of `multiple` where it is as large as that.

    As fairseq with --required-batch-size-multiple: the last rows are a batch of such a size, and one of the rest.
    """
    whole = size if size < multiple else size - size % multiple
    sizes = [whole] * (count // whole)
    rest = count % whole
    if rest >= multiple:
        sizes.append(rest - rest % multiple)
        rest %= multiple
    return [*sizes, rest] if rest else sizes


class Epoch(NamedTuple):
    """What an order may depend on."""

    dataset: SpeechDataset
    seed: int
    number: int  # from 1
    group: int  # rows of an update in one process

    def rows(self) -> np.ndarray:
        """Those of the epoch: each once, or what a sampler draws."""
        sampler = self.dataset.sampler
        return np.arange(len(self.dataset)) if sampler is None else sampler.epoch(self.number - 1)


def _by_length(epoch: Epoch) -> np.ndarray:
    with numpy_seed(epoch.seed + epoch.number):
        return epoch.dataset.ordered_indices()


def _random(epoch: Epoch) -> np.ndarray:
    return np.random.default_rng([epoch.seed, epoch.number]).permutation(epoch.rows())


def _grouped(epoch: Epoch) -> np.ndarray:
    rows = epoch.rows()
    lengths = epoch.dataset.sizes[rows].tolist()
    draw = torch.Generator().manual_seed(epoch.seed + epoch.number)
    return rows[get_length_grouped_indices(lengths, epoch.group, generator=draw)]


# `train_sampling_strategy` -> rows of an epoch in the order in which they are cut into batches.
ORDERS: dict[str, Callable[[Epoch], np.ndarray]] = {
    "fairseq": _by_length,
    "random": _random,
    "sequential": Epoch.rows,
    "group_by_length": _grouped,
}


class EpochBatches(Sampler[list[int]]):
    """Batches of row numbers for one of several processes, anew in each epoch.

    Args:
        dataset: whose rows they are; it learns the epoch too.
        size: most rows of a batch.
        multiple: see `cut`.
        order: one of `ORDERS`; batches of "fairseq" are shuffled, unless the dataset is not.
        seed: of the orders.
        accumulated: batches of a process in one update, for "group_by_length".
        rank, world: which of how many processes this is.
    """

    def __init__(
        self,
        dataset: SpeechDataset,
        size: int,
        *,
        multiple: int = 1,
        order: str = "fairseq",
        seed: int = 1,
        accumulated: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.dataset, self.size, self.multiple, self.order, self.seed = dataset, size, multiple, order, seed
        self.group = size * accumulated
        self.rank, self.world = rank, world
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """`epoch` counts from 0, as transformers does; fairseq and the dataset count from 1."""
        self.epoch = epoch + 1
        self.dataset.set_epoch(self.epoch)

    def batches(self) -> list[list[int]]:
        """Those of all processes."""
        rows = ORDERS[self.order](Epoch(self.dataset, self.seed, self.epoch, self.group))
        ends = np.cumsum(cut(len(rows), self.size, self.multiple))
        parts = np.split(rows, ends[:-1])
        if self.order == "fairseq" and self.dataset.shuffle:
            with numpy_seed(self.seed + self.epoch):
                np.random.shuffle(parts)
        return [part.tolist() for part in parts]

    def __len__(self) -> int:
        return -(-len(cut(len(self.dataset), self.size, self.multiple)) // self.world)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.batches()
        own = batches[self.rank :: self.world]
        yield from own
        for _ in range(len(self) - len(own)):
            yield [~row for row in batches[0]]


class WithStandIns(Dataset[dict[str, Any]]):
    """The rows of a dataset; a negative number ~i is row i as a stand-in."""

    def __init__(self, dataset: SpeechDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= 0:
            return self.dataset[index]
        return {**self.dataset[~index], STAND_IN: True}


class EpochLoader(DataLoader[Any]):
    """A loader that tells its `EpochBatches` the epoch."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)
