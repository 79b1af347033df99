"""A tiny Whisper with random weights that writes letters, as a folder of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

ENDED, START = "<|endoftext|>", "<|startoftranscript|>"
LANGUAGES = ("en", "fr")
# In Whisper's order, on which CTranslate2 counts: languages between the start and the tasks.
SPECIAL = (
    ENDED, START, *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
TIMES = 1501
WRITTEN = "abcdefghijklmnop"  # all that it ever writes
MELS, WIDTH = 16, 16


def save_whisper(folder: Path, multilingual: bool = True) -> Path:
    ensure_torchaudio()
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    ids = _save_tokenizer(folder, multilingual)
    torch.manual_seed(3)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids[ENDED])
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=max(ids.values()) + 1 + TIMES, d_model=WIDTH, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            num_mel_bins=MELS, decoder_start_token_id=ids[START], init_std=0.5, suppress_tokens=None,
            begin_suppress_tokens=None, **ends,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        # Outputs are embeddings: tokens without one are never written. The languages and tasks are read.
        table = model.model.decoder.embed_tokens.weight
        table[[i for token, i in ids.items() if token not in SPECIAL]] = 0
        table[max(ids.values()) + 1 :] = 0
        table[[ids[token] for token in SPECIAL]] *= 0.4
        table[[ids[letter] for letter in WRITTEN]] = torch.randn(len(WRITTEN), WIDTH)
        model.model.decoder.layers[0].encoder_attn.out_proj.weight *= 4
    model.generation_config = GenerationConfig(
        decoder_start_token_id=ids[START], is_multilingual=True, no_timestamps_token_id=ids["<|notimestamps|>"],
        lang_to_id={f"<|{code}|>": ids[f"<|{code}|>"] for code in LANGUAGES},
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}, max_length=448, **ends,
        suppress_tokens=[i for token, i in ids.items() if token in SPECIAL], begin_suppress_tokens=[ids[ENDED]],
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=MELS).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, multilingual: bool) -> dict[str, int]:
    """Bytes and special tokens; the vocabulary of a multilingual Whisper has an empty token, by which it is known."""
    from transformers import WhisperTokenizerFast

    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *([""] if multilingual else [])]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {f"{name}_token": ENDED for name in ("unk", "bos", "eos", "pad")}
    fast = WhisperTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=list(SPECIAL[1:]), **names)
    fast.save_pretrained(folder)
    return fast.get_vocab()
