"""The embeddings of prompts as the LLM reads them: with the speech in its place, or with text alone.

B utterances, P prompt ids (one of them the place of the speech), Q queries, M width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.models.llm.llm import LanguageModel


def prompt_of_text(llm: LanguageModel, prompt: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (B, P - 1, M) of prompts with nothing in the speech's place, and the bool where they are real."""
    words = llm.embed(prompt)
    return splice(words, prompt, padding_mask, words[:, :0])


def splice(
    words: Tensor, prompt: Tensor, padding_mask: Tensor, speech: Tensor, speech_padding_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Put `speech` (B, Q, M) where each prompt has its place.

    `words` (B, P, M) are the embeddings of `prompt` (B, P), padded at the left; `speech_padding_mask` (B, Q) is True at
    the end of speech that has fewer queries. Returns (B, P - 1 + Q, M) and the bool (B, P - 1 + Q) that is True at real
    positions; what is padding goes to the left, so that answers start in the same column.
    """
    place = (prompt == SPEECH_PLACE).int().argmax(dim=1, keepdim=True)  # (B, 1)
    queries, length = speech.size(1), prompt.size(1) - 1 + speech.size(1)
    real = torch.ones_like(place, dtype=torch.bool).expand(-1, queries)
    if speech_padding_mask is not None:
        real = ~speech_padding_mask
    count = real.sum(dim=1, keepdim=True)  # (B, 1)
    # A column is, from the left: speech that does not count, the words before the place, the speech, the words behind.
    column = torch.arange(length, device=prompt.device)  # (N,)
    own = column - (queries - count)  # (B, N): columns of what counts, from 0
    source = torch.where(own < 0, count + column, queries + own)
    source = torch.where((own >= place) & (own < place + count), own - place, source)
    source = torch.where(own >= place + count, column + 1, source)  # (B, N): speech, then words
    both = torch.cat([speech, words], dim=1).flatten(0, 1)  # (B * (Q + P), M)
    row = torch.arange(prompt.size(0), device=prompt.device)[:, None] * (queries + prompt.size(1))
    embeddings = both.index_select(0, (row + source).flatten()).view(*source.shape, -1)
    return embeddings, torch.cat([real, ~padding_mask], dim=1).gather(1, source)
