"""The likeliest CTC path of a transcript: which of its tokens each query speaks for. Plain PyTorch.

Viterbi over the states of CTC (Graves et al. 2006), for all utterances of a batch at once. B utterances, Q queries, L
tokens, S = 2 L + 1 states: blank, first token, blank, second token, …, blank.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1  # a query that speaks for no token


@torch.no_grad()
def forced_path(log_probs: Tensor, lengths: Tensor, tokens: Tensor) -> Tensor:
    """The place in `tokens` (B, L) of the token that each query speaks for, `NOTHING` for the blank: (B, Q).

    `log_probs` (B, Q, 1 + L) of the blank and of the tokens as `ctc_emissions` gives them, `lengths` (B,) queries that
    count, `tokens` ids, negative at padding. Queries that do not count, and all of an utterance with fewer queries than
    its tokens need, speak for nothing.
    """
    rows, queries, _ = log_probs.shape
    states = 2 * tokens.size(1) + 1
    place = torch.arange(states, device=tokens.device)
    column = torch.where(place % 2 == 1, (place + 1) // 2, 0)  # of `log_probs`, for each state
    emissions = log_probs.float().index_select(2, column)  # (B, Q, S)
    # A token may follow another without a blank between them, but not itself.
    differs = F.pad(tokens[:, 1:] != tokens[:, :-1], (1, 0), value=False)  # (B, L): from the one before
    skips = torch.zeros(rows, states, dtype=torch.bool, device=tokens.device)
    skips[:, 1::2] = differs
    score = emissions[:, 0].masked_fill(place > 1, -torch.inf)
    came = []  # for each query, how many states back the best way to a state comes from: (B, S)
    for query in range(1, queries):
        ways = torch.stack(
            [
                score,
                F.pad(score, (1, 0), value=-torch.inf)[:, :states],
                F.pad(score, (2, 0), value=-torch.inf)[:, :states].masked_fill(~skips, -torch.inf),
            ]
        )
        best, back = ways.max(dim=0)
        counts = (query < lengths)[:, None]
        score = torch.where(counts, best + emissions[:, query], score)
        came.append(torch.where(counts, back, 0))
    last = 2 * (tokens >= 0).sum(dim=1, keepdim=True)  # (B, 1): the blank behind the last token
    ends = torch.cat([last, (last - 1).clamp(min=0)], dim=1)  # the two states in which a path may end
    finals = score.gather(1, ends)
    state = ends.gather(1, finals.argmax(dim=1, keepdim=True))  # (B, 1)
    path = [state]
    for back in reversed(came):
        state = state - back.gather(1, state)
        path.append(state)
    states_of = torch.cat(path[::-1], dim=1)  # (B, Q)
    counted = torch.arange(queries, device=lengths.device) < lengths[:, None]
    spoken = (states_of % 2 == 1) & counted & finals.amax(dim=1, keepdim=True).isfinite()
    return torch.where(spoken, (states_of - 1) // 2, NOTHING)
