"""Where an LLM's files lie, and whether what they hold is a causal language model that can be run here."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparqle_fairseq.data.hub import folder_with_weights, local_folder
from sparqle_fairseq.data.text import load_tokenizer
from sparqle_fairseq.errors import SparqleError, reason


@dataclass(frozen=True)
class LLMFiles:
    """A folder or hub id, and the GGUF file in it where there is no other kind of model. `given` is what was typed."""

    given: str
    place: str
    gguf: str | None = None

    @classmethod
    def find(cls, path_or_id: str) -> LLMFiles:
        """Files of `--llm`: a folder, a `.gguf` file, or a hub id. Raises `SparqleError`."""
        path = Path(path_or_id)
        if path.suffix == ".gguf":
            if not path.is_file():
                raise SparqleError(f"{path}: there is no such GGUF file; give --llm a file or folder that exists")
            return cls(path_or_id, str(path.parent), path.name)
        if path.is_dir() and not (path / "config.json").exists():
            quantised = sorted(file.name for file in path.glob("*.gguf"))
            if len(quantised) > 1:
                raise SparqleError(
                    f"{path} holds {len(quantised)} GGUF files; give --llm one of them, such as {path / quantised[0]}"
                )
            if quantised:
                return cls(path_or_id, path_or_id, quantised[0])
        return cls(path_or_id, path_or_id)

    def read_config(self) -> Any:
        """The configuration of a causal language model that transformers knows. Raises `SparqleError`."""
        from transformers import AutoConfig, AutoModelForCausalLM

        self._need_gguf()
        place = local_folder(self.place)
        try:
            config = AutoConfig.from_pretrained(place, trust_remote_code=False, **self._which())
        except Exception as error:  # transformers raises many kinds
            if "custom code" in str(error) or "trust_remote_code" in str(error):
                raise SparqleError(
                    f"{self.given} is a model of its own kind, with Python code beside the weights, and such code is "
                    "never run here; take a model whose kind transformers itself knows"
                ) from error
            raise self._unreadable(error) from error
        kind = config.model_type
        if getattr(config, "is_encoder_decoder", False):
            raise SparqleError(f"{self.given} is an encoder-decoder ({kind}), not a causal language model; {_REMEDY}")
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise SparqleError(f"{self.given} is a {kind} model, not a causal language model; {_REMEDY}")
        return config

    def read_model(self, **options: Any) -> Any:
        """The model in the precision it is stored in. `options` go to `from_pretrained`. Raises `SparqleError`.

        Reading it does not change what the trainer draws next.
        """
        from transformers import AutoModelForCausalLM

        config = self.read_config()
        place = folder_with_weights(self.place)
        try:
            with torch.random.fork_rng(devices=[]):
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    place,
                    dtype="auto",
                    trust_remote_code=False,
                    output_loading_info=True,
                    **self._which(),
                    **options,
                )
        except Exception as error:
            raise self._unreadable(error, **options) from error
        model, report = loaded
        known = inspect.signature(model.forward).parameters
        if "past_key_values" not in known or "inputs_embeds" not in known:
            raise SparqleError(
                f"{self.given} is a {config.model_type} model, which has no cache of keys and values to answer with; "
                f"{_REMEDY}"
            )
        if getattr(config, "is_decoder", True) is False and not _is_causal(model):
            raise SparqleError(
                f"{self.given} is a {config.model_type} model whose words see the words after them, not a causal "
                f"language model; {_REMEDY}"
            )
        missing = sorted(report["missing_keys"])
        if missing:  # transformers would go on with random numbers
            raise SparqleError(
                f"{self.given} lacks {len(missing)} of the model's weights ({', '.join(missing[:5])}"
                f"{', …' if len(missing) > 5 else ''}); fetch it anew, or give --llm a whole model"
            )
        return model

    def read_tokenizer(self, size: int) -> Any:
        """Its tokenizer, whose ids must be below `size`, the number of embeddings. Raises `SparqleError`."""
        tokenizer = load_tokenizer(self.place, self.gguf)
        if self.gguf is not None:
            _drop_added_tokens(tokenizer, size)
        largest = max(tokenizer.get_vocab().values())
        if largest >= size:
            raise SparqleError(
                f"{self.given}: the tokenizer has ids up to {largest}, but the model embeds only {size}; tokenizer and "
                "model do not belong together"
            )
        return tokenizer

    def _which(self) -> dict[str, str]:
        return {} if self.gguf is None else {"gguf_file": self.gguf}

    def _need_gguf(self) -> None:
        if self.gguf is not None and importlib.util.find_spec("gguf") is None:
            raise SparqleError(
                f"{self.given} is a GGUF model, which needs the package gguf; install it with pip install "
                "'sparqle-fairseq[gguf]'"
            )

    def _unreadable(self, error: Exception, **options: Any) -> SparqleError:
        attention = options.get("attn_implementation")
        if attention and any(part in str(error).lower() for part in ("attention", "attn")):
            return SparqleError(
                f"{self.given} cannot be read with --attn-implementation {attention} ({reason(error)}); take eager or "
                "sdpa"
            )
        return SparqleError(
            f"{self.given}: no causal language model could be read ({reason(error)}); give --llm a folder with "
            "config.json and weights, a GGUF file, or a hub id that is reachable"
        )


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Without transformers' bar over the weights that it reads."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


_REMEDY = "give --llm one such as Llama, Mistral, Qwen, Gemma or GPT-2"


def _drop_added_tokens(tokenizer: Any, size: int) -> None:
    """Take out the tokens from id `size` on, which are not the GGUF file's.

    transformers 5.23 gives the tokenizer of such a file GPT-2's <|endoftext|> where the file has none.
    """
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = [token for token in content["added_tokens"] if token["id"] < size]
    if len(kept) < len(content["added_tokens"]):
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps({**content, "added_tokens": kept}))


def _is_causal(model: Any) -> bool:
    """Whether what comes later leaves the logits of what came before alone."""
    last = model.get_input_embeddings().num_embeddings - 1
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[last, last], [last, last - 1]])).logits[:, 0].float()
    return torch.allclose(logits[0], logits[1], atol=1e-5)
