"""Small random language models of the families that are published, each with a tokenizer trained here and a template.

The configurations keep what sets a family apart: sliding windows shorter than a prompt, tied and scaled embeddings,
norms of queries and keys, learned absolute positions, several tokens that end an answer.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
import torch

from sparqle_fairseq.data.text import wordpiece_tokenizer

TEXTS = [
    *tiny.ENGLISH,
    *tiny.FRENCH.values(),
    *("Transcribe the speech.", "Translate the speech into French.", "What does the speaker say, in German?"),
    *("Say the same in Spanish.", "Write down what is said in this recording.", "system user assistant model"),
] * 3

# ---- chat templates: the shape of each family's own

LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header|>{{ m['role'] }}<|end_header|>\n\n{{ m['content'] | trim }}"
    "<|eot|>{% endfor %}{% if add_generation_prompt %}<|start_header|>assistant<|end_header|>\n\n{% endif %}"
)
# The system message stands in the user's turn, and the end of an answer is the end of the sequence.
MISTRAL = (
    "{{ bos_token }}{% set first = messages[0] %}"
    "{% set rest = messages[1:] if first['role'] == 'system' else messages %}{% for m in rest %}"
    "{% if m['role'] == 'user' %}[INST] {% if loop.first and first['role'] == 'system' %}"
    "{{ first['content'] }}\n\n{% endif %}{{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
# Without a system message it brings one of its own.
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Asked not to think, it starts the answer with an empty thought.
QWEN_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n"
    "{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Has no place for a system message, and says so.
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

# ---- tokenizers


def _finish(tokenizer: Any, folder: Path, template: str | None, **roles: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def byte_bpe(folder: Path, template: str | None, special: Sequence[str], **roles: str) -> Any:
    """A byte-level BPE, as Llama 3, Qwen and GPT-2 have; with a `bos_token` it puts it first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = list(dict.fromkeys([*roles.values(), *special]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    if "bos_token" in roles:
        begin = roles["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    return _finish(tokenizer, folder, template, **roles, additional_special_tokens=list(special))


def word_piece(folder: Path, template: str | None, special: Sequence[str], **roles: str) -> Any:
    """A cased WordPiece; it spells what it does not know letter by letter."""
    names = list(dict.fromkeys(["[UNK]", *roles.values(), *special]))
    tokenizer = wordpiece_tokenizer(TEXTS, 300, names)
    return _finish(tokenizer, folder, template, unk_token="[UNK]", **roles, additional_special_tokens=list(special))


def sentence_piece(folder: Path, template: str | None, special: Sequence[str], kind: str, **roles: str) -> Any:
    """A sentencepiece model as Llama 2, Mistral and Gemma ship it: `tokenizer.model` and the name of its class."""
    import sentencepiece
    from transformers import AutoTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ .,?[]/"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=450,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        bos_piece=roles["bos_token"],
        eos_piece=roles["eos_token"],
        pad_piece=roles.get("pad_token", "<pad>"),
        user_defined_symbols=list(special),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    settings = {"tokenizer_class": kind, "add_bos_token": True, "unk_token": "<unk>", **roles}
    settings |= {"chat_template": template, "additional_special_tokens": list(special)}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return AutoTokenizer.from_pretrained(folder)


# ---- families


@dataclass(frozen=True)
class Family:
    """How a family's model and tokenizer are made.

    Args:
        model, config: names in transformers.
        tokenizer: of the functions above.
        template: the chat template, or None.
        special: tokens of the template.
        roles: bos_token and so on.
        shape: what the configuration adds to the common one.
        ends: further tokens that end an answer, in generation_config.json.
    """

    model: str
    config: str
    tokenizer: Callable[..., Any]
    template: str | None
    special: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    shape: dict[str, Any] = field(default_factory=dict)
    ends: tuple[str, ...] = ()


SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
_GEMMA_SHAPE = {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "tie_word_embeddings": True,
}
_CHAT_ML = {
    "special": ("<|im_start|>", "<|im_end|>"),
    "roles": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}
_TURNS = {
    "special": ("<start_of_turn>", "<end_of_turn>"),
    "roles": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"},
}

FAMILIES: dict[str, Family] = {
    "llama": Family(
        "LlamaForCausalLM", "LlamaConfig", byte_bpe, LLAMA,
        special=("<|start_header|>", "<|end_header|>", "<|eot|>"),
        roles={"bos_token": "<|begin|>", "eos_token": "<|end_of_text|>"},  # no padding token
        ends=("<|eot|>", "<|end_of_text|>"),
    ),
    "llama-wordpiece": Family(
        "LlamaForCausalLM", "LlamaConfig", word_piece, None, roles={"eos_token": "[SEP]", "pad_token": "[PAD]"},
        shape={"tie_word_embeddings": True},
    ),
    "mistral": Family(
        "MistralForCausalLM", "MistralConfig",
        lambda *a, **k: sentence_piece(*a, kind="LlamaTokenizer", **k), MISTRAL,
        special=("[INST]", "[/INST]"), roles={"bos_token": "<s>", "eos_token": "</s>"},
        shape={"sliding_window": 8},
    ),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", byte_bpe, QWEN, **_CHAT_ML, shape={"tie_word_embeddings": True}),
    "qwen3": Family(
        "Qwen3ForCausalLM", "Qwen3Config", byte_bpe, QWEN_THINKING, **_CHAT_ML,
        shape={"head_dim": 16, "tie_word_embeddings": True}, ends=("<|im_end|>", "<|endoftext|>"),
    ),
    "gemma3": Family(
        "Gemma3ForCausalLM", "Gemma3TextConfig",
        lambda *a, **k: sentence_piece(*a, kind="GemmaTokenizer", **k), GEMMA, **_TURNS, shape=_GEMMA_SHAPE,
        ends=("<eos>", "<end_of_turn>"),
    ),
    "gemma3-vision": Family(
        "Gemma3ForConditionalGeneration", "Gemma3Config",
        lambda *a, **k: sentence_piece(*a, kind="GemmaTokenizer", **k), GEMMA, **_TURNS, shape=_GEMMA_SHAPE,
        ends=("<eos>", "<end_of_turn>"),
    ),
    "phi3": Family(
        "Phi3ForCausalLM", "Phi3Config",
        lambda *a, **k: sentence_piece(*a, kind="LlamaTokenizer", **k), PHI,
        special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        roles={"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"},
        shape={"sliding_window": 8}, ends=("</s>", "<|end|>"),
    ),
    "gpt2": Family(
        "GPT2LMHeadModel", "GPT2Config", byte_bpe, None, roles={"eos_token": "<|endoftext|>"},
        shape={"n_inner": 48},
    ),
    # Beyond the named ones: embeddings scaled inside the model, and positions as biases.
    "granite": Family(
        "GraniteForCausalLM", "GraniteConfig", byte_bpe, QWEN, **_CHAT_ML,
        shape={"embedding_multiplier": 5.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
    ),
    "bloom": Family(
        "BloomForCausalLM", "BloomConfig", byte_bpe, None, roles={"eos_token": "</s>", "pad_token": "<pad>"},
        shape={"n_head": 4, "n_layer": 2},
    ),
}  # fmt: skip


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """Model and tokenizer of a family in `folder`, as `save_pretrained` leaves them."""
    import transformers

    family = FAMILIES[name]
    tokenizer = family.tokenizer(folder, family.template, family.special, **family.roles)
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    text = {**SHAPE, **family.shape, **ids, "vocab_size": len(tokenizer) + 5}  # as often: rows that no token has
    if family.config == "Gemma3Config":
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.Gemma3Config(
            text_config=transformers.Gemma3TextConfig(**text),
            vision_config={**vision, "image_size": 32, "patch_size": 16},
            mm_tokens_per_image=4,
        )
    else:
        config = getattr(transformers, family.config)(**text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, family.model)(config)
        _stir(model)
    if family.ends:
        model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(list(family.ends))
    model.save_pretrained(folder)
    return folder


def _stir(model: Any) -> None:
    """Norms and biases start as ones and zeros, which hide where they are used wrongly."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "wpe" in name:
                parameter.normal_()
