"""What a stage is to the trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sparqle_fairseq.data.dataset import SpeechDataset
from sparqle_fairseq.models.stage1.weighted import Weighted


class Stage(Protocol):
    """A model with its loss, its text and its data."""

    model: Any
    train_set: SpeechDataset
    valid_sets: Mapping[str, SpeechDataset]
    answers: bool  # whether its rows have a task each: translations are scored by BLEU, transcriptions by WER and CER

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: `inputs` of the model, `active`, `reference`, `language`, `task` and what the loss needs."""
        ...

    def loss(self, model: Any, batch: Mapping[str, Any]) -> Weighted:
        """`model` is that of the stage, or what the trainer has wrapped it in."""
        ...

    def metrics(self, log: Mapping[str, float]) -> dict[str, float]:
        """What the sums over a split say: `loss`, and what else is known of its quality."""
        ...

    def texts(self, batch: Mapping[str, Any]) -> list[str]:
        """What the model writes."""
        ...

    def save(self, folder: str) -> None:
        """Write beside the model's weights what else the folder needs."""
        ...

    def finish(self, folder: str, scores: Mapping[str, float]) -> None:
        """Write what only the result of a run has."""
        ...
