"""The three stage-1 losses of SparQLe as pure functions: contrastive (STC), matching (STM), generation (STG).

Each returns a sum; the criterion divides by the global count. Computed in fp32 whatever came in. After BLIP-2
(arXiv 2301.12597, section 3.1) and SparQLe (arXiv 2502.09284). B rows here, N columns from all processes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MATCHED = 1  # class index of the matching head
SAME_WEIGHT = 0.9  # share of the contrastive target that goes to equal identities
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5


def similarity(speech: Tensor, text: Tensor, temperature: Tensor, query_padding: Tensor | None = None) -> Tensor:
    """Cosine of every query with the text, the largest over the queries, divided by the temperature.

    `speech` (B, Q, D) and `text` (N, D) are L2-normalised, `query_padding` (B, Q) is True where a query does not
    count; returns (B, N).
    """
    cosines = torch.einsum("bqd,nd->bnq", speech.float(), text.float())
    if query_padding is not None:
        cosines = cosines.masked_fill(query_padding[:, None, :], -torch.inf)
    return cosines.amax(dim=-1) / temperature.float()


def contrastive_targets(rows: Tensor, columns: Tensor) -> Tensor:
    """Soft targets (B, N): 0.9 spread over equal identities, 0.1 spread evenly. Identities are int64 (B,) and (N,)."""
    if rows.is_floating_point() or columns.is_floating_point():
        raise TypeError("identities must be integers: in float32 two large ones compare equal")
    same = (rows[:, None] == columns[None, :]).float()
    return SAME_WEIGHT * same / same.sum(dim=1, keepdim=True).clamp(min=1) + (1 - SAME_WEIGHT) / columns.numel()


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
