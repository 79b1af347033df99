"""Stop texts in transformers' `generate`: an answer ends before them as it does in the plugin's own search.

transformers' own stop strings look at the prompt's end too, stay in the answer, and may be all of it. N rows, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from sparqle_fairseq.generate.stopping import StopTexts


class Answers:
    """Finds stop texts in what was generated behind a prompt.

    Args:
        stop: what to look for.
        begin: column where the answers begin.
        ends: tokens that end an answer, the first of which stands for all.
        pad: fills rows that ended before others.
        fewest: an answer has so many tokens before its stop text, or more.
        size: of the vocabulary.
    """

    def __init__(self, stop: StopTexts, begin: int, ends: Sequence[int], pad: int, fewest: int, size: int) -> None:
        self.stop, self.begin, self.ends, self.pad, self.fewest = stop, begin, tuple(ends), pad, fewest
        self.completing = [token for token in range(size) if token not in self.ends and stop.may_complete(token)]
        self.latest = fewest + max(map(len, stop.texts))  # behind so many tokens no stop text comes too early

    def of(self, rows: Tensor) -> list[list[int]]:
        """The answers of sequences (N, L), up to their end tokens."""
        found = []
        for row in rows[:, self.begin :].tolist():
            last = next((i for i, token in enumerate(row) if token in self.ends), len(row))
            found.append(row[:last])
        return found

    def cut(self, rows: Tensor) -> Tensor:
        """Sequences whose answers end before their stop texts, and with an end token there."""
        answers = []
        for row, answer in zip(rows[:, self.begin :].tolist(), self.of(rows), strict=True):
            stopped = self.stop.stopped(answer, 0)
            answers.append(row if stopped is None else [*stopped.kept, *self.ends[:1]])
        longest = max((self._length(answer) for answer in answers), default=0)
        made = rows.new_full((len(answers), longest), self.pad)
        for out, answer in zip(made, answers, strict=True):
            kept = answer[:longest]
            out[: len(kept)] = rows.new_tensor(kept)
        return torch.cat([rows[:, : self.begin], made], dim=1)

    def _length(self, answer: Sequence[int]) -> int:
        """Of an answer without the padding behind its end."""
        return next((i + 1 for i, token in enumerate(answer) if token in self.ends), len(answer))


class StopsBeforeTexts(StoppingCriteria):
    """Ends a row whose answer has come to a stop text."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        stop = self.answers.stop
        found = [
            bool(ids) and stop.may_complete(ids[-1]) and stop.stopped(ids, 0) is not None
            for ids in self.answers.of(input_ids)
        ]
        return torch.tensor(found, dtype=torch.bool, device=input_ids.device)


class NotTooEarly(LogitsProcessor):
    """Forbids tokens that would complete a stop text before an answer has its fewest tokens."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        answers = self.answers
        if input_ids.size(1) - answers.begin > answers.latest:
            return scores
        scores = scores.clone()
        for row, ids in enumerate(answers.of(input_ids)):
            early = []
            for token in answers.completing:
                stopped = answers.stop.stopped([*ids, token], 0)
                if stopped is not None and len(stopped.kept) < answers.fewest:
                    early.append(token)
            scores[row, early] = -torch.inf
        return scores
