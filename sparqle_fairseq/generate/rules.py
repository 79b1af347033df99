"""Which tokens may come next, and at what price: each rule of the search is one function.

B utterances, K beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def free_tokens(log_probs: Tensor, tokens: Tensor, *, pad: int, end: int, may_end: Tensor, ngram: int) -> Tensor:
    """Which tokens (B, K, V) may follow where nothing is forced.

    Args:
        log_probs: (B, K, V).
        tokens: (B, K, step) what the beams hold.
        may_end: (B,) whether an utterance's hypotheses are long enough to end.
        ngram: no sequence of so many tokens comes twice; 0 for no such rule.
    """
    free = torch.ones_like(log_probs, dtype=torch.bool)
    if pad < free.size(-1):
        free[..., pad] = False
    if ngram:
        _forbid_repeats(free, tokens, ngram)
    free[..., end] = may_end[:, None]
    return free


def only(token: int, like: Tensor) -> Tensor:
    """One token (B, K, V), and no other."""
    allowed = torch.zeros_like(like, dtype=torch.bool)
    allowed[..., token] = True
    return allowed


def penalize_repeats(log_probs: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Log-probabilities (B, K, V), times `penalty` where the beam (B, K, step) already holds the token."""
    seen = torch.zeros_like(log_probs, dtype=torch.bool).scatter(2, tokens, True)
    return torch.where(seen, log_probs * penalty, log_probs)


def force_prefixes(allowed: Tensor, prefixes: Sequence[Sequence[int]], step: int) -> Tensor:
    """Allow (B, K, V) nothing but an utterance's prefix until it has come to its end; in place.

    Returns (B,), where a prefix was forced.
    """
    forced = torch.tensor([step < len(prefix) for prefix in prefixes], dtype=torch.bool, device=allowed.device)
    for row, prefix in enumerate(prefixes):
        if step < len(prefix):
            allowed[row] = False
            allowed[row, :, prefix[step]] = True
    return forced


def _forbid_repeats(allowed: Tensor, tokens: Tensor, size: int) -> None:
    """Forbid every token that would complete an n-gram which its beam already holds."""
    length = tokens.size(2)
    if length < size:
        return
    for row, beams in enumerate(tokens.tolist()):
        for k, history in enumerate(beams):
            last = history[length - size + 1 :]
            for i in range(length - size + 1):
                if history[i : i + size - 1] == last:
                    allowed[row, k, history[i + size - 1]] = False
