"""What every objective of stage 1 is: a name, a head, a loss, and what of the model these touch.

Plain PyTorch. B utterances, Q queries, H hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparqle_fairseq.data.options import plain_options
from sparqle_fairseq.models.qformer.plain import ReadingConfig
from sparqle_fairseq.models.qformer.qformer import QFormer
from sparqle_fairseq.models.stage1.batch import Stage1Batch

# `sum`: the batch's loss, with gradient; `count`: what it is divided by, over all processes; and what else is logged.
Sums = dict[str, Tensor]


class Reach(Flag):
    """Parts of the Q-Former that a loss reaches beyond what all of them do; the others ask for no gradient."""

    NOTHING = 0
    QUERIES = auto()  # the outputs of the last layer's queries
    SEEN_TEXT = auto()  # the text branch as queries see it: its embeddings and feed-forward blocks, but the last
    LAST_TEXT = auto()  # the outputs of the last layer's text
    TEXT = SEEN_TEXT | LAST_TEXT  # the text branch: its embeddings and feed-forward blocks
    WORDS = auto()  # the text branch's prediction of words


@dataclass(frozen=True)
class Given:
    """What an objective may build its head from."""

    config: ReadingConfig
    asked: Collection[str]  # names of all objectives that are learned from
    options: Any = None  # attributes named as the options of fairseq-train; what is missing has its default
    llm_embeddings: Tensor | None = None  # (V, M): what the LLM's layers see of each token, for those that read the LLM
    projector: str = "linear"


@dataclass(frozen=True)
class NoOptions:
    """An objective without options."""


class Objective(ABC):
    """One thing that stage 1 can learn from: a subclass, in a file of its own, with `register_objective`.

    The adapter makes one of each that is asked for, registers what `build` gives as its own parts, and in each step
    calls `sums`. Nothing is kept here that learns: parts are read from the adapter.
    """

    name: ClassVar[str]  # in --objective; in logs with _ for -
    # Names of what `build` gives, which are those of its tensors in a checkpoint: adapter.<part>...
    parts: ClassVar[tuple[str, ...]] = ()
    # Those of them that stage 2 takes over; it leaves the others behind.
    carried: ClassVar[tuple[str, ...]] = ()
    # Whether every adapter has the parts, asked for or not, as the published ones do.
    always_built: ClassVar[bool] = False
    reach: ClassVar[Reach] = Reach.QUERIES
    reads_llm: ClassVar[bool] = False  # needs --llm: its token embeddings here, and `Stage1Text.llm_tokens`
    reads_translations: ClassVar[bool] = False  # needs translation rows: `Stage1Text.foreign`
    # What is logged beside <name>_loss = sum / count: percentages and means, each as two keys of what `sums` gives.
    rates: ClassVar[Mapping[str, tuple[str, str]]] = {}
    means: ClassVar[Mapping[str, tuple[str, str]]] = {}
    # Dataclasses of options of fairseq-train with `help`, and `choices` where it is one of some: those of the head go
    # into the checkpoint with the model's, those of the loss with the criterion's.
    Options: ClassVar[type[Any]] = NoOptions
    LossOptions: ClassVar[type[Any]] = NoOptions

    def __init__(self, given: Given) -> None:
        self.options = plain_options(self.Options, given.options)
        self.loss_options = self.LossOptions()

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        """The head: a module or parameter for each of `parts`. Raises `SparqleError` where it cannot be."""
        return {}

    def settle(self, options: Any) -> None:
        """Take the criterion's options, before the first step. Raises `SparqleError` for those that cannot be."""
        self.loss_options = plain_options(self.LossOptions, options)

    @abstractmethod
    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        """`sum` and `count` of a batch's losses, and what `rates` and `means` name."""


def count_of(losses: Tensor) -> Tensor:
    """How many they are, as a tensor beside them."""
    return torch.full((), float(losses.numel()), device=losses.device)


def unreached(qformer: QFormer | None, reach: Reach) -> Iterator[nn.Module]:
    """What of a Q-Former gets no gradient from losses of such a reach; of a plain adapter (None) nothing does not."""
    if qformer is None:
        return
    blocks = [layer.text_ffn for layer in qformer.each_layer() if layer.text_ffn is not None]
    if Reach.SEEN_TEXT not in reach:
        yield from blocks
        if qformer.text is not None:
            yield qformer.text
    else:
        if Reach.LAST_TEXT not in reach:
            yield from blocks[-1:]
        if Reach.WORDS not in reach and qformer.text is not None:
            yield qformer.text.head
    # Text after the queries sees the keys and values that these have before their last layer.
    if Reach.QUERIES not in reach:
        last = list(qformer.each_layer())[-1]
        yield last.query_ffn
        if last.cross_attention is not None:
            yield last.cross_attention
