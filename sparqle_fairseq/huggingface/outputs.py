"""What the model gives, as transformers gives it.

N recordings of a batch, K embeddings of all of them, Q queries of a recording, M width of the LLM's embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast


@dataclass
class SparqleOutput(CausalLMOutputWithPast):
    """What transformers' causal LMs give, and the embeddings of the speech.

    Attributes:
        audio_hidden_states: (K, M), of all recordings one after the other; None where no speech came.
    """

    audio_hidden_states: Tensor | None = None


@dataclass
class SparqleModelOutput(BaseModelOutputWithPast):
    """The same without logits."""

    audio_hidden_states: Tensor | None = None


@dataclass
class SpeechOutput(BaseModelOutputWithPooling):
    """Of recordings: `last_hidden_state` (N, Q, M), and `pooler_output` (K, M): those that count, one after another.

    Attributes:
        counts: (N,) how many embeddings of each recording count.
        places: (N,) how many places it has in `input_ids`: as many, or more with --compress-queries.
    """

    counts: Tensor | None = None
    places: Tensor | None = None
