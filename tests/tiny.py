"""A whole tiny world for tests: a language of tones, its recordings, manifests, an encoder, tokenizers and an LLM.

Every word is a tone of its own, so that a model can really learn to read the recordings in seconds.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.data.text import train_wordpiece

RATE = 16000
WORD_SECONDS = 0.12
ENGLISH = ["red", "blue", "green", "fox", "dog", "cat", "runs", "sleeps"]
FRENCH = dict(zip(ENGLISH, ["Rouge", "Bleu", "Vert", "Renard", "Chien", "Chat", "court", "dort"], strict=True))
COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def sentences(count: int, seed: int = 0, longest: int = 3, words: int = len(ENGLISH)) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(ENGLISH[:words], k=draw.randint(1, longest))) for _ in range(count)]


def tones(sentence: str, seed: int = 0) -> np.ndarray:
    """(S,) float32 waveform: one tone a word, with a little noise."""
    time = np.arange(int(WORD_SECONDS * RATE)) / RATE
    waves = [0.3 * np.sin(2 * np.pi * (300 + 350 * ENGLISH.index(word)) * time) for word in sentence.split()]
    wave = np.concatenate(waves)
    return (wave + 0.01 * np.random.default_rng(seed).standard_normal(len(wave))).astype(np.float32)


def row(name: str, audio: Path, wave: np.ndarray, english: str, language: str = "en") -> dict[str, Any]:
    target = english if language == "en" else " ".join(FRENCH[word] for word in english.split())
    return {
        "id": f"{name}-{language}",
        "audio": str(audio),
        "n_frames": len(wave),
        "src_text": english,
        "tgt_text": target,
        "src_lang": "en",
        "tgt_lang": language,
        "task": "transcription" if language == "en" else "translation",
    }


def write_split(
    folder: Path, split: str, count: int, seed: int = 0, languages: tuple[str, ...] = ("en",), **shape: int
) -> None:
    """`<split>.tsv` and its recordings in `folder`."""
    rows = []
    (folder / "audio").mkdir(exist_ok=True)
    for i, sentence in enumerate(sentences(count, seed, **shape)):
        audio = folder / "audio" / f"{split}_{i}.wav"
        wave = tones(sentence, seed=1000 * seed + i)
        soundfile.write(audio, wave, RATE)
        rows += [row(f"{split}_{i}", audio.relative_to(folder), wave, sentence, language) for language in languages]
    write_manifest(folder / f"{split}.tsv", rows, COLUMNS)


def save_text_tokenizer(folder: Path) -> Path:
    train_wordpiece(ENGLISH * 3, folder, vocab_size=120)
    return folder


def save_base_llm(folder: Path, **options: Any) -> Path:
    """One without a chat template, whose tokens begin with a space, as those of text do."""
    texts = [f"English: {english} French: {FRENCH[english]}\n" for english in ENGLISH] * 3
    return save_llm(folder, chat=False, texts=texts, **options)


def save_llm(
    folder: Path,
    chat: bool = True,
    width: int = 32,
    seed: int = 0,
    texts: list[str] | None = None,
    **options: Any,
) -> Path:
    """A random Llama with a byte-level tokenizer that has BOS, padding and an end of turn; `texts` teach it words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts or [*ENGLISH, *FRENCH.values()] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|end|>" if chat else "</s>",
        pad_token="<pad>",
        additional_special_tokens=special[3:],
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        initializer_range=0.2,
        **options,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
