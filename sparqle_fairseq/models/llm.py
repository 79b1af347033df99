"""The frozen LLM: any Hugging Face causal language model, read by embeddings.

B utterances, P prompt positions, L answer tokens, M width of the LLM's embeddings, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.data.prompts import PromptBuilder
from sparqle_fairseq.data.text import load_tokenizer, vocabulary_hash
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.speech_encoder import fingerprint


class LanguageModel(nn.Module):
    """A causal LM in its own precision, outside the trainer's reach, with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, path: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.identity = {
            "path": path,
            "dtype": str(dtype),
            "kind": model.config.model_type,
            "width": model.get_input_embeddings().embedding_dim,
            "vocabulary": vocabulary_hash(tokenizer),
            "weights": fingerprint(model.state_dict()),
        }
        self.frozen = Frozen(model, dtype)
        self.vocab_size: int = model.get_input_embeddings().num_embeddings
        self.width: int = model.get_input_embeddings().embedding_dim
        self.context: int = int(getattr(model.config, "max_position_embeddings", None) or 1 << 20)
        # The dictionary's padding is one id past the vocabulary: no token is ever taken for it.
        self.pad = self.vocab_size
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self.end = PromptBuilder(tokenizer).end_of_turn
        ends = model.generation_config.eos_token_id if model.generation_config else None
        self.ends = sorted({self.end, *([ends] if isinstance(ends, int) else ends or ())})

    @property
    def model(self) -> Any:
        return self.frozen.module

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (..., M) of token ids; what is padding or a place for speech gets token 0's."""
        known = tokens.masked_fill((tokens < 0) | (tokens >= self.vocab_size), 0)
        return self.model.get_input_embeddings()(known)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode([token for token in tokens if token < self.vocab_size], skip_special_tokens=True)

    def join_ends(self, logits: Tensor) -> Tensor:
        """Logits (B, V) in which `end` stands for every token that ends this LLM's answers."""
        if len(self.ends) == 1:
            return logits
        joined = logits[:, self.ends].float().logsumexp(dim=1).to(logits.dtype)
        logits = logits.clone()
        logits[:, self.ends] = -torch.inf
        logits[:, self.end] = joined
        return logits

    def forward(
        self,
        embeddings: Tensor,
        seen: Tensor,
        logits_to_keep: int | Tensor,
        cache: Any = None,
        use_cache: bool = False,
    ) -> tuple[Tensor, Any]:
        """Logits (B, K, V) of the kept positions, and the cache.

        `embeddings` (B, N, M) come after what the cache holds; `seen` (B, cached + N) is True at real positions of
        both; `logits_to_keep` counts positions from the end, or is the tensor (K,) of their columns.
        """
        positions = (seen.long().cumsum(dim=1) - 1).clamp(min=0)[:, -embeddings.size(1) :]
        extra = {"position_ids": positions} if self._takes_positions else {}
        output = self.model(
            inputs_embeds=embeddings.to(self.frozen.dtype),
            attention_mask=seen.long(),
            past_key_values=cache,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **extra,
        )
        return output.logits, output.past_key_values


def load_llm(path_or_id: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """A causal LM by directory or hub id; code that comes with it is never run. Raises `SparqleError`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path_or_id, trust_remote_code=False)
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise SparqleError(
                f"{path_or_id} is a {config.model_type} model, not a causal language model; give another --llm"
            )
        # In the precision it is stored in, so that its identity does not depend on --llm-dtype. Reading it does not
        # change what the trainer draws next.
        with torch.random.fork_rng(devices=[]):
            model = AutoModelForCausalLM.from_pretrained(path_or_id, dtype="auto", trust_remote_code=False)
    except SparqleError:
        raise
    except Exception as error:  # transformers raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise SparqleError(
            f"{path_or_id}: no causal language model could be read ({reason}); give --llm a folder with "
            "config.json and weights, or a hub id that is reachable"
        ) from error
    tokenizer = load_tokenizer(path_or_id)
    largest = max(tokenizer.get_vocab().values())
    if largest >= model.get_input_embeddings().num_embeddings:
        raise SparqleError(
            f"{path_or_id}: the tokenizer has ids up to {largest}, but the model embeds only "
            f"{model.get_input_embeddings().num_embeddings}; tokenizer and model do not belong together"
        )
    return LanguageModel(model, tokenizer, path_or_id, dtype)
