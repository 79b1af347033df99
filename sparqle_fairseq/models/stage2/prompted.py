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
    places = (prompt == SPEECH_PLACE).int().argmax(dim=1)
    counts = torch.full_like(places, speech.size(1))
    if speech_padding_mask is not None:
        counts = (~speech_padding_mask).sum(dim=1)
    rows, seen = [], []
    for i, (place, count) in enumerate(torch.stack([places, counts], dim=1).tolist()):  # one wait for the device
        rows.append(torch.cat([speech[i, count:], words[i, :place], speech[i, :count], words[i, place + 1 :]]))
        real = ~padding_mask[i]
        beyond = real.new_zeros(speech.size(1) - count)
        seen.append(torch.cat([beyond, real[:place], real.new_ones(count), real[place + 1 :]]))
    return torch.stack(rows), torch.stack(seen)
