"""Which tokens may come next, and at what price: each rule of the search is one function.

B utterances, K beams, V vocabulary. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def penalize_repeats(log_probs: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Log-probabilities (B, K, V), times `penalty` where the beam (B, K, step) already holds the token."""
    seen = torch.zeros_like(log_probs, dtype=torch.bool).scatter(2, tokens, True)
    return torch.where(seen, log_probs * penalty, log_probs)


def forbid_repeats(values: Tensor, tokens: Tensor, size: int) -> None:
    """-inf in `values` (B, K, V) for every token that would complete an n-gram which its beam holds; in place.

    Args:
        tokens: (B, K, step) what the beams hold.
        size: tokens of an n-gram, 1 or more.
    """
    length = tokens.size(2)
    if length < size:
        return
    following = tokens[:, :, size - 1 :]  # (B, K, length - size + 1), the last token of each n-gram
    again = torch.ones_like(following, dtype=torch.bool)
    for i in range(size - 1):
        # Where the n-gram's token i is the beam's own at that place before its end.
        last = tokens[:, :, length - size + 1 + i, None]
        again &= tokens[:, :, i : length - size + 1 + i] == last
    price = torch.where(again, -torch.inf, torch.inf).to(values.dtype)
    values.scatter_reduce_(2, following, price, "amin")  # a token may follow several n-grams, one of them repeated


def prefix_table(prefixes: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """(B, L) the tokens of the longest prefix and of all others, -1 behind their ends."""
    longest = max(map(len, prefixes))
    return torch.tensor([[*prefix, *[-1] * (longest - len(prefix))] for prefix in prefixes], device=device)
