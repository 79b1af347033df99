"""What every objective of stage 2 is: a name, a loss over a batch, and what of the rows the loss needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

from torch import Tensor

from sparqle_fairseq.data.options import plain_options
from sparqle_fairseq.models.stage1.objectives.base import NoOptions
from sparqle_fairseq.models.stage2.batch import Stage2Batch

# `sum`: the batch's loss, with gradient; `count`: what it is divided by, over all processes; and what else is logged.
Sums = dict[str, Tensor]


class Counted(Enum):
    """What a loss is a mean over."""

    TOKENS = "tokens"  # of the answers, the end of turn included
    UTTERANCES = "utterances"


class Objective(ABC):
    """One thing that stage 2 can learn from: a subclass, in a file of its own, with `register_objective`.

    The model makes one of each that is asked for and calls `sums` in each step. Nothing is kept here that learns.
    """

    name: ClassVar[str]  # in --objective; in logs with _ for -
    counted: ClassVar[Counted] = Counted.TOKENS
    # Whether rows need a transcript, which the LLM reads: `Stage2Batch.read_logits`.
    reads_transcripts: ClassVar[bool] = False
    # Whether it compares answers that the model finds in each step: `Stage2Batch.candidates`.
    reads_candidates: ClassVar[bool] = False
    # Whether it needs to know how likely these were for the adapter that training began with.
    reads_start: ClassVar[bool] = False
    # What is logged beside <name>_loss = sum / count: percentages and means, each as two keys of what `sums` gives.
    rates: ClassVar[Mapping[str, tuple[str, str]]] = {}
    means: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # A dataclass of options of fairseq-train with `help`; they go into the checkpoint with the criterion's.
    LossOptions: ClassVar[type[Any]] = NoOptions

    def __init__(self) -> None:
        self.loss_options = self.LossOptions()

    def settle(self, options: Any) -> None:
        """Take the criterion's options, before the first step. Raises `SparqleError` for those that cannot be."""
        self.loss_options = plain_options(self.LossOptions, options)

    @abstractmethod
    def sums(self, batch: Stage2Batch) -> Sums:
        """`sum` and `count` of a batch's losses, and what `rates` and `means` name."""
