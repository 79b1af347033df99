"""Tokens drawn at random, by numbers that belong to the utterance, the beam and the step alone."""

from __future__ import annotations

import torch
from torch import Tensor

from sparqle_fairseq.keyed_random import keyed_uniform


def draw(log_probs: Tensor, seed: int, keys: Tensor, step: int, topk: int = -1, topp: float = -1.0) -> Tensor:
    """One token (B, K) for each beam from its own distribution (Gumbel-max).

    Args:
        log_probs: (B, K, V), -inf where a token may not follow.
        seed: of all random numbers.
        keys: (B,) int64 names of the utterances.
        step: tokens that the beams hold.
        topk: draw from so many of the likeliest tokens; off below 1. Comes before `topp`.
        topp: draw from the fewest of the likeliest tokens that are as probable together; off at 0 and below.
    """
    beam, vocab = log_probs.shape[1:]
    if topk > 0:
        least = log_probs.topk(min(topk, vocab), dim=-1).values[..., -1:]
        log_probs = log_probs.masked_fill(log_probs < least, -torch.inf)
    elif topp > 0:
        ordered, order = log_probs.softmax(dim=-1).sort(dim=-1, descending=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= topp  # the first is never beyond
        log_probs = log_probs.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
    words = torch.arange(vocab, device=keys.device)
    noise = torch.stack([keyed_uniform(keys, words, (seed * 1_000_003 + step) * beam + k) for k in range(beam)], dim=1)
    return (log_probs - torch.log(-torch.log(noise))).argmax(dim=-1)
