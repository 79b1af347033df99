"""Windows over speech: a long utterance is cut into equal pieces that lie one after the other in the batch.

B utterances, T frames, N windows an utterance, F frames a window. Padding masks are True at padding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fold_frames(x: Tensor, window: int, fill: float = 0) -> Tensor:
    """(B, T, ...) -> (B * N, F, ...), the last window filled up with `fill`."""
    short = -x.size(1) % window
    if short:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, short), value=fill)
    return x.unflatten(1, (-1, window)).flatten(0, 1)


def query_padding(padding_mask: Tensor, window: int, queries: int) -> Tensor:
    """Which of an utterance's N * `queries` queries belong to windows beyond its end: (B, N * queries).

    The first window always counts, so that an utterance without a single frame has queries too.
    """
    windows = -(padding_mask.size(1) // -window)
    empty = fold_frames(padding_mask, window, fill=True).all(dim=1).view(-1, windows)  # (B, N)
    empty[:, 0] = False
    return empty.repeat_interleave(queries, dim=1)


def own_window_mask(windows: int, queries: int, tokens: int, seen: Tensor) -> Tensor:
    """Who may look at whom where the queries of all windows and a text stand in one row.

    A query sees the queries of its own window and the text; a token sees all. `seen` (B, windows * queries + tokens)
    is True at real positions; returns (B, 1, positions, positions), True where attending is allowed.
    """
    total = windows * queries
    of = torch.arange(windows, device=seen.device).repeat_interleave(queries)  # the window of each query
    allowed = seen.new_ones(total + tokens, total + tokens)
    allowed[:total, :total] = of[:, None] == of[None, :]
    return (allowed & seen[:, None, :])[:, None]
