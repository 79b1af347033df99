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


# A window of `joined_windows` ends after so many pieces at the latest.
LONGEST = 16


def joined_windows(speech: Tensor, padding_mask: Tensor, piece: int, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Windows that end where tokens do: pieces of `piece` frames, joined until one holds an end.

    Args:
        speech: (B, T, W), with its `padding_mask` (B, T).
        piece: frames in the shortest window.
        ends: (B, T), True where a token ends.

    Returns:
        The windows' frames (B * N, F, W), their padding mask (B * N, F), and which windows are beyond their utterance's
        end (B, N). N and F are those of the batch; the first window always counts.
    """
    rows = speech.size(0)
    pieces = fold_frames(speech, piece).unflatten(0, (rows, -1))  # (B, P, piece, W)
    padded = fold_frames(padding_mask, piece, fill=True).unflatten(0, (rows, -1))  # (B, P, piece)
    real = ~padded.all(dim=2)  # (B, P)
    index = torch.arange(real.size(1), device=speech.device).expand_as(real)
    closes = fold_frames(ends, piece).unflatten(0, (rows, -1)).any(dim=2) | (index % LONGEST == LONGEST - 1)
    window = closes.long().cumsum(dim=1) - closes.long()  # (B, P): how many have ended before
    opens = torch.cat([torch.ones_like(closes[:, :1]), closes[:, :-1]], dim=1)
    rank = index - torch.where(opens, index, 0).cummax(dim=1).values  # of a piece in its window
    last = torch.where(real, window, 0).amax(dim=1)  # (B,)
    # The one wait for the device.
    count, longest = (most + 1 for most in torch.stack([last.max(), torch.where(real, rank, 0).max()]).tolist())
    # Where each piece goes among all windows of the batch; those without a frame behind the last, which is cut off.
    row = torch.arange(rows, device=speech.device)[:, None]
    behind = rows * count * longest
    place = torch.where(real, (row * count + window) * longest + rank, behind).flatten()
    frames = speech.new_zeros(behind + 1, piece, speech.size(2)).index_put((place,), pieces.flatten(0, 1))
    mask = torch.ones(behind + 1, piece, dtype=torch.bool, device=speech.device)
    mask[place] = padded.flatten(0, 1)
    beyond = torch.arange(count, device=speech.device) > last[:, None]
    shape = (rows * count, longest * piece)
    return frames[:-1].view(*shape, -1), mask[:-1].view(shape), beyond


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
