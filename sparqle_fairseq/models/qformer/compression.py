"""Fewer embeddings for the LLM: blanks left out, and neighbours that say the same joined. Plain PyTorch.

B utterances, Q queries, M width of the LLM's embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The blank among the labels of queries, where a token is 1 + its id.
BLANK = 0


def join_repeats(points: Tensor, labels: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """What CTC reads from the queries, as embeddings: a run of equal labels becomes its mean, runs of blanks nothing.

    `points` (B, Q, M), `labels` (B, Q) with `BLANK`, `padding_mask` (B, Q) True where a query does not count, or None.
    Returns (B, Q', M), and the bool (B, Q') that is True beyond the last of an utterance. Speech that is nothing but
    blanks keeps its first query, so that the LLM is given something.
    """
    count = torch.ones_like(labels, dtype=torch.bool) if padding_mask is None else ~padding_mask
    heard = count & (labels != BLANK)
    silent = ~heard.any(dim=1)
    heard[silent, 0] = True
    before = torch.cat([torch.full_like(labels[:, :1], BLANK), labels[:, :-1]], dim=1)
    was_heard = torch.cat([torch.zeros_like(heard[:, :1]), heard[:, :-1]], dim=1)
    starts = heard & ((labels != before) | ~was_heard)
    runs = starts.long().cumsum(dim=1)  # (B, Q): 1 in the first run
    length = int(runs[:, -1].max())
    # What is in no run goes to place 0, which is cut off.
    place = (runs * heard)[..., None].expand_as(points)
    sums = points.new_zeros(points.size(0), length + 1, points.size(2)).scatter_add(1, place, points)[:, 1:]
    sizes = points.new_zeros(points.size(0), length + 1).scatter_add(1, runs * heard, heard.to(points))[:, 1:]
    return sums / sizes.clamp(min=1)[..., None], sizes == 0
