"""The stage-1 losses as pure functions: contrastive (STC), matching (STM), generation (STG) and alignment (CTC).

Each returns a sum; the criterion divides by the global count. Computed in fp32 whatever came in. After BLIP-2
(arXiv 2301.12597, section 3.1) and SparQLe (arXiv 2502.09284). B rows here, N columns from all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

MATCHED = 1  # class index of the matching head
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5
# Vocabulary entries whose logits are made at a time, so that a large vocabulary never stands in memory for all queries.
VOCABULARY_CHUNK = 16384
# A log-probability of what cannot be. Unlike -inf, sums and gradients with it are numbers.
NEVER = -1e30


def similarity(speech: Tensor, text: Tensor, temperature: Tensor, query_padding: Tensor | None = None) -> Tensor:
    """Cosine of every query with the text, the largest over the queries, divided by the temperature.

    `speech` (B, Q, D) and `text` (N, D) are L2-normalised, `query_padding` (B, Q) is True where a query does not
    count; returns (B, N).
    """
    cosines = torch.einsum("bqd,nd->bnq", speech.float(), text.float())
    if query_padding is not None:
        cosines = cosines.masked_fill(query_padding[:, None, :], -torch.inf)
    return cosines.amax(dim=-1) / temperature.float()


def contrastive_targets(rows: Tensor, columns: Tensor, smoothing: float = 0.1) -> Tensor:
    """Soft targets (B, N): `smoothing` spread evenly, the rest over equal identities, int64 (B,) and (N,)."""
    if rows.is_floating_point() or columns.is_floating_point():
        raise TypeError("identities must be integers: in float32 two large ones compare equal")
    same = (rows[:, None] == columns[None, :]).float()
    return (1 - smoothing) * same / same.sum(dim=1, keepdim=True).clamp(min=1) + smoothing / columns.numel()


def contrastive_loss(similarities: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each row (B, N) against its soft targets: (B,)."""
    return -(targets * F.log_softmax(similarities.float(), dim=1)).sum(dim=1)


def draw_negatives(similarities: Tensor, rows: Tensor, columns: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """One negative for each row, drawn with probability proportional to exp(similarity).

    Never a column of the row's own identity. `similarities` (B, N); identities `rows` (B,), `columns` (N,); `noise`
    (B, N) uniform in (0, 1). Returns the column indices (B,) and a bool (B,) that is False where no negative exists.
    """
    matched = rows[:, None] == columns[None, :]
    # Gumbel-max: argmax(log p + g) is a draw from p, and needs no random state of its own.
    gumbel = -torch.log(-torch.log(noise))
    scores = (similarities.detach().float() + gumbel).masked_fill(matched, -torch.inf)
    return scores.argmax(dim=1), ~matched.all(dim=1)


def matching_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each pair: logits (P, 2), labels (P,) of 1 = matched; returns (P,)."""
    return F.cross_entropy(logits.float(), labels, reduction="none")


def generation_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.1) -> Tensor:
    """Next-token cross-entropy: logits (P, V) at the positions with a target, targets (P,); returns (P,)."""
    return F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=label_smoothing)


def ctc_emissions(x: Tensor, weight: Tensor, bias: Tensor, blank: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities of the blank and of the transcript's own tokens under a softmax over blank and vocabulary.

    `x` (B, Q, D), `weight` (V, D), `bias` (V,), `blank` (B, Q) logits; `tokens` (B, L) ids, negative at padding.
    Returns (B, Q, 1 + L) in fp32: CTC looks at nothing else, so only the normaliser ever meets the whole vocabulary.
    """
    normaliser = torch.logaddexp(blank.float(), _log_sum(x, weight, bias))  # (B, Q)
    known = tokens.clamp(min=0)
    own = torch.einsum("bqd,bld->bql", x, weight[known]).float() + bias[known].float()[:, None, :]  # (B, Q, L)
    return torch.cat([blank.float()[..., None], own], dim=-1) - normaliser[..., None]


def sample_vocabulary(weight: Tensor, bias: Tensor, tokens: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The vocabulary entries of `tokens` and `size` others drawn evenly: weight, bias, and `tokens` as their rows.

    The drawn stand for all others: their bias grows by log(others / drawn), so the softmax's sum is right on average.
    How many different tokens there are is known to the device alone, so all are listed: what is listed twice, padding,
    and what was drawn beyond the others has the bias `NEVER`.
    """
    entries, device = weight.size(0), weight.device
    listed = torch.where(tokens < 0, entries, tokens).flatten()  # (K,), padding as an entry behind the last
    count = listed.numel()
    place = torch.arange(count, device=device)
    first = torch.full((entries + 1,), count, device=device).scatter_reduce(0, listed, place, "amin")
    absent = first[:entries] == count
    chances, drawn = torch.rand(entries, device=device).masked_fill(~absent, -1).topk(min(size, entries))
    others = chances >= 0
    stands_for = (absent.sum() / others.sum().clamp(min=1)).clamp(min=1)
    once = (first[listed] == place) & (listed < entries)
    own = listed.clamp(max=entries - 1)
    corrected = torch.cat(
        [
            (bias[drawn].float() + stands_for.log()).masked_fill(~others, NEVER),
            bias[own].float().masked_fill(~once, NEVER),
        ]
    )
    rows = (first[listed] + drawn.numel()).view_as(tokens)
    return weight[torch.cat([drawn, own])], corrected, rows.masked_fill(tokens < 0, -1)


def best_symbols(x: Tensor, weight: Tensor, bias: Tensor, blank: Tensor) -> Tensor:
    """The likeliest of blank and vocabulary at each of the queries: (B, Q), 0 for the blank, else 1 + the id."""
    best, symbol = blank.float(), torch.zeros(blank.shape, dtype=torch.long, device=blank.device)
    for start in range(0, weight.size(0), VOCABULARY_CHUNK):
        part = slice(start, start + VOCABULARY_CHUNK)
        value, index = ((x @ weight[part].T).float() + bias[part].float()).max(dim=-1)
        symbol = torch.where(value > best, start + 1 + index, symbol)
        best = torch.maximum(value, best)
    return symbol


def _log_sum(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logarithm (B, Q) of the softmax's sum over the vocabulary; see `ctc_emissions`."""
    if not weight.requires_grad and not bias.requires_grad and weight.size(0) > VOCABULARY_CHUNK:
        return _FrozenLogSum.apply(x, weight, bias)
    parts = []
    chunks = range(0, weight.size(0), VOCABULARY_CHUNK)
    for start in chunks:
        part = partial(_log_sum_of, x, weight[start : start + VOCABULARY_CHUNK], bias[start : start + VOCABULARY_CHUNK])
        parts.append(checkpoint(part, use_reentrant=False) if len(chunks) > 1 else part())
    return torch.stack(parts).logsumexp(dim=0)


def _log_sum_of(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ((x @ weight.T).float() + bias.float()).logsumexp(dim=-1)


class _FrozenLogSum(torch.autograd.Function):
    """The same where the vocabulary does not learn, with two products in place of three.

    The gradient at x is the mean of the vocabulary's rows under the softmax, which is attention to the vocabulary. It
    is summed as the chunks come by, with the largest logit so far taken out (Milakov & Gimelshein 2018, arXiv
    1805.02867), so that the backward pass makes no logits again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = x.flatten(0, -2)  # (R, D)
        largest = rows.new_full(rows.shape[:1], -torch.inf, dtype=torch.float32)
        total, mean = torch.zeros_like(largest), rows.new_zeros(rows.shape, dtype=torch.float32)
        for start in range(0, weight.size(0), VOCABULARY_CHUNK):
            part = weight[start : start + VOCABULARY_CHUNK]
            logits = (rows @ part.T).float().add_(bias[start : start + VOCABULARY_CHUNK].float())  # (R, chunk)
            before, largest = largest, torch.maximum(largest, logits.amax(dim=1))
            shrink, shares = (before - largest).exp(), logits.sub_(largest[:, None]).exp_()
            total.mul_(shrink).add_(shares.sum(dim=1))
            if ctx.needs_input_grad[0]:
                mean.mul_(shrink[:, None]).add_((shares.to(part.dtype) @ part).float())
        ctx.save_for_backward((mean / total[:, None]).to(x.dtype).view(x.shape))
        return (largest + total.log()).view(x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (mean,) = ctx.saved_tensors
        return gradient[..., None].to(mean.dtype) * mean, None, None


def ctc_loss(
    log_probs: Tensor, lengths: Tensor, tokens: Tensor, known: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Negative log-probability of each transcript, summed over its alignments with the queries (Graves et al. 2006).

    `log_probs` (B, Q, 1 + L) as `ctc_emissions` gives them, `lengths` (B,) queries that count, `tokens` (B, L) ids,
    negative at padding; `known` are the numbers of tokens as the CPU has them, which CUDA is asked for otherwise.
    Returns (B,), and a bool (B,) that is False where there are too few queries for the tokens
    (repeated ones need a blank between them): those rows have loss 0 and no gradient.
    """
    real = tokens >= 0
    counts = real.sum(dim=1)
    repeats = ((tokens[:, 1:] == tokens[:, :-1]) & real[:, 1:]).sum(dim=1)
    possible = counts + repeats <= lengths
    # Equal tokens must be one symbol: a token is named by the column where it first stands.
    symbols = 1 + (tokens[:, :, None] == tokens[:, None, :]).int().argmax(dim=2)  # (B, L)
    within = torch.arange(log_probs.size(1), device=lengths.device)[None] < lengths[:, None]  # (B, Q)
    # CUDA's CTC reads the lengths of rows on the CPU, which would wait for `lengths`. So all rows are as long: behind
    # an utterance's queries stands the blank for sure and nothing else, which leaves its loss as it is.
    sure = log_probs.new_full((log_probs.size(2),), NEVER)
    sure[0] = 0
    closed = torch.where(within[:, :, None], log_probs, sure).masked_fill(~possible[:, None, None], 0)
    of_queries: Any = [log_probs.size(1)] * log_probs.size(0)
    of_tokens: Any = counts if known is None else tuple(known)
    if known is None:
        of_queries = torch.tensor(of_queries, device=counts.device)
    loss = F.ctc_loss(
        closed.transpose(0, 1), symbols, of_queries, of_tokens, blank=0, reduction="none", zero_infinity=True
    )
    # torch's gradient takes for granted that a softmax over these very columns comes before: it adds each column's
    # probability. Here the rest of the vocabulary is missing, so that is taken away again; the value is 0.
    extra = (log_probs.exp() * (within & possible[:, None])[..., None]).sum(dim=(1, 2))
    return torch.where(possible, loss - (extra - extra.detach()), loss.new_zeros(())), possible
