"""The frozen LLM: any Hugging Face causal language model, read by embeddings.

B utterances, P prompt positions, L answer tokens, M width of the LLM's embeddings, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.data.prompts import PromptBuilder
from sparqle_fairseq.data.text import vocabulary_hash
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders import fingerprint
from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.llm.files import LLMFiles
from sparqle_fairseq.models.llm.recompute import recompute_layers
from sparqle_fairseq.models.llm.sharding import shard_llm

TextCodec = tuple[Callable[[list[int]], str], Callable[[str], list[int]]]


@dataclass(frozen=True)
class LLMOptions:
    """How to load and run the LLM; one field an option of the command line.

    Args:
        dtype: precision to run in.
        attention: transformers' `attn_implementation`; None takes what transformers takes for this model.
        gradient_checkpointing: run each layer again in the backward pass and keep its input alone, to save memory.
        sharding: whether training processes divide its layers among them; one of `llm_sharding.SHARDINGS`.
    """

    dtype: torch.dtype = torch.float32
    attention: str | None = None
    gradient_checkpointing: bool = False
    sharding: str = "none"


class BareLLM(nn.Module):
    """A causal LM in its own precision, outside the trainer's reach, that reads embeddings; no tokenizer."""

    def __init__(self, model: Any, sharding: str = "none") -> None:
        super().__init__()
        self.identity: dict[str, Any] = {}
        self.sharding = sharding
        self.frozen = Frozen(model)
        self.vocab_size: int = model.get_input_embeddings().num_embeddings
        self.width: int = model.get_input_embeddings().embedding_dim
        known = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in known
        self._keeps_logits = "logits_to_keep" in known

    @property
    def model(self) -> Any:
        return self.frozen.module

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (..., M) of token ids; what is padding or a place for speech gets token 0's."""
        known = tokens.masked_fill((tokens < 0) | (tokens >= self.vocab_size), 0)
        return self.model.get_input_embeddings()(known)

    def all_embeddings(self) -> Tensor:
        """What the layers see of each token: (V, M), a copy."""
        return self.embed(torch.arange(self.vocab_size, device=self.frozen.device)).clone()

    def forward(
        self,
        embeddings: Tensor,
        seen: Tensor | None,
        logits_to_keep: int | Tensor,
        cache: Any = None,
        use_cache: bool = False,
        past: int = 0,
    ) -> tuple[Tensor, Any]:
        """Logits (B, K, V) of the kept positions, and the cache.

        `embeddings` (B, N, M) come after what the cache holds; `seen` (B, cached + N) is True at real positions of
        both, and None where all are, `past` of them cached; `logits_to_keep` counts positions from the end, or is the
        tensor (K,) of their columns.
        """
        if seen is None:
            own = torch.arange(past, past + embeddings.size(1), device=embeddings.device)
            positions = own.expand(embeddings.size(0), -1)
        else:
            positions = (seen.long().cumsum(dim=1) - 1).clamp(min=0)[:, -embeddings.size(1) :]
        extra: dict[str, Any] = {"position_ids": positions} if self._takes_positions else {}
        if self._keeps_logits:
            extra["logits_to_keep"] = logits_to_keep
        output = self.model(
            inputs_embeds=embeddings.to(self.frozen.dtype),
            attention_mask=None if seen is None else seen.long(),
            past_key_values=cache,
            use_cache=use_cache,
            **extra,
        )
        logits = output.logits
        if not self._keeps_logits:
            logits = logits[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else logits[:, logits_to_keep]
        return logits, output.past_key_values

    def forced(self, prefix: Tensor, seen: Tensor, answer: Tensor, answer_padding_mask: Tensor) -> Tensor:
        """Logits (B, L, V) of answers (B, L) that are given: column j says what follows the first j tokens.

        `prefix` (B, P, M) are the embeddings of the prompts, left-padded, `seen` (B, P) is True where they are real.
        """
        embeddings = torch.cat([prefix, self.embed(answer[:, :-1]).to(prefix)], dim=1)
        seen = torch.cat([seen, ~answer_padding_mask[:, :-1]], dim=1)
        columns = torch.arange(prefix.size(1) - 1, embeddings.size(1), device=embeddings.device)
        return self(embeddings, seen, logits_to_keep=columns)[0]


class LanguageModel(BareLLM):
    """The same with its tokenizer, and who it is."""

    def __init__(self, model: Any, tokenizer: Any, path: str, dtype: torch.dtype, sharding: str = "none") -> None:
        identity = {
            "path": path,
            "dtype": str(dtype),
            "kind": model.config.model_type,
            "width": model.get_input_embeddings().embedding_dim,
            "vocabulary": vocabulary_hash(tokenizer),
            "weights": fingerprint(model.state_dict()),
        }
        shard_llm(model, sharding, partial(cast_parameters, model, dtype), path)
        super().__init__(model, sharding)
        self.tokenizer = tokenizer
        self.identity = identity
        text_config = model.config.get_text_config()
        self.context: int = int(getattr(text_config, "max_position_embeddings", None) or 1 << 20)
        # The dictionary's padding is one id past the vocabulary: no token is ever taken for it.
        self.pad = self.vocab_size
        prompts = PromptBuilder(tokenizer)
        self.end = prompts.end_of_turn
        self._opening = prompts.answer_opening
        ends = model.generation_config.eos_token_id if model.generation_config else None
        self.ends = sorted({self.end, *([ends] if isinstance(ends, int) else ends or ())})

    @property
    def end_tokens(self) -> list[int]:
        """`ends`, the one that answers are trained to end with first."""
        return [self.end, *(token for token in self.ends if token != self.end)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of an answer."""
        known = [token for token in tokens if token < self.vocab_size]
        return self.tokenizer.decode(known, skip_special_tokens=True).removeprefix(self._opening)

    def join_ends(self, logits: Tensor) -> Tensor:
        """Logits (B, V) in which `end` stands for every token that ends this LLM's answers."""
        if len(self.ends) == 1:
            return logits
        joined = logits[:, self.ends].float().logsumexp(dim=1).to(logits.dtype)
        logits = logits.clone()
        logits[:, self.ends] = -torch.inf
        logits[:, self.end] = joined
        return logits

    def check_finite(self, logits: Tensor) -> None:
        """Raise `SparqleError` with a remedy where the LLM's numbers are too large for its precision."""
        if not torch.isfinite(logits.max()):
            raise self.not_finite()

    def not_finite(self) -> SparqleError:
        """The same, for who has found it out."""
        return SparqleError(f"{self.identity['path']}: {overflow(self.frozen.dtype)}")


def text_codec(tokenizer: Any) -> TextCodec:
    """Text of an LLM's ids, special tokens and all, and ids of a text, without special tokens."""
    return (
        partial(tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        partial(tokenizer.encode, add_special_tokens=False),
    )


def cast_parameters(model: nn.Module, dtype: torch.dtype, among: Collection[nn.Parameter] | None = None) -> None:
    """Put the parameters, or those `among` them, in `dtype`, and leave the buffers, as transformers does on loading.

    Rotary frequencies are buffers: rounded to bfloat16, they turn far positions by a wrong angle.
    """
    own = (*(getattr(model, "_keep_in_fp32_modules", None) or ()),)
    own += (*(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),)
    for name, parameter in model.named_parameters():
        if among is not None and parameter not in among:
            continue
        if parameter.is_floating_point() and not any(part in name for part in own):
            parameter.data = parameter.data.to(dtype)


def overflow(dtype: torch.dtype) -> str:
    """What to say of an LLM whose logits are not finite in `dtype`."""
    if dtype == torch.float16:
        return (
            "the LLM's numbers are too large for fp16, as those of a model trained in bf16 can be; give --llm-dtype "
            "bf16 (to a trained checkpoint: --model-overrides \"{'llm_dtype': 'bf16'}\")"
        )
    return f"the LLM gives numbers that are not finite in {str(dtype).removeprefix('torch.')}; its weights are damaged"


def load_llm(path_or_id: str, options: LLMOptions | None = None) -> LanguageModel:
    """A causal LM by directory, GGUF file or hub id; code that comes with it is never run. Raises `SparqleError`."""
    from sparqle_fairseq.models.llm.masks import make_masks_without_waiting

    options = options or LLMOptions()
    make_masks_without_waiting()
    files = LLMFiles.find(path_or_id)
    model = files.read_model(**attention_option(options.attention))
    tokenizer = files.read_tokenizer(model.get_input_embeddings().num_embeddings)
    if options.gradient_checkpointing:
        recompute_layers(model, path_or_id)
    return LanguageModel(model, tokenizer, path_or_id, options.dtype, options.sharding)


def attention_option(name: str | None) -> dict[str, str]:
    """What `from_pretrained` is given for `--attn-implementation`; raises `SparqleError`."""
    if name is None:
        return {}
    if "/" in name:
        # transformers would fetch such a kernel from the hub and run it.
        raise SparqleError(
            f"--attn-implementation {name} names code on the hub, which is never run here; give eager, sdpa or another "
            "that transformers or an installed package brings"
        )
    return {"attn_implementation": name}
