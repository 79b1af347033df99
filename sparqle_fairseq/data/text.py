"""Tokenizers: a Hugging Face tokenizer by folder or hub id, and the face that fairseq wants of it (a `Dictionary`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.data.hub import local_folder
from sparqle_fairseq.data.one_line import one_line
from sparqle_fairseq.errors import SparqleError, reason

CLS, SEP, PAD, UNK, MASK = "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"


class TokenizerError(SparqleError):
    """A tokenizer that cannot be read or lacks what the Q-Former needs. The message is one sentence."""


def load_tokenizer(path_or_id: str, gguf: str | None = None) -> Any:
    """A Hugging Face tokenizer, or that of the file `gguf` in a folder; code that comes with one is never run."""
    from transformers import AutoTokenizer

    which = {} if gguf is None else {"gguf_file": gguf}
    place = local_folder(path_or_id)
    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False, **which)
    except Exception as error:  # transformers raises many kinds
        raise TokenizerError(
            f"{path_or_id}: no tokenizer could be read ({reason(error)}); give a folder that holds tokenizer.json or "
            "vocab.txt, or a hub id that is reachable"
        ) from error


def vocabulary_hash(tokenizer: Any) -> str:
    """A digest of every token and its id: equal only for equal vocabularies."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:16]


class TranscriptTokenizer:
    """A BERT-like tokenizer for stage 1: [CLS] text [SEP], and one more token, [DEC], that starts a generation."""

    def __init__(self, tokenizer: Any, name: str = "the tokenizer") -> None:
        self.tokenizer = tokenizer
        for role in ("cls", "sep", "pad"):
            if getattr(tokenizer, f"{role}_token_id") is None:
                raise TokenizerError(
                    f"{name} has no {role} token; stage 1 needs a BERT-like tokenizer with [CLS], [SEP] and [PAD]"
                )
        self.begin: int = tokenizer.cls_token_id
        self.end: int = tokenizer.sep_token_id
        self.pad: int = tokenizer.pad_token_id
        self.decode_token = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
        self.vocab_size = self.decode_token + 1

    @classmethod
    def load(cls, path_or_id: str) -> TranscriptTokenizer:
        return cls(load_tokenizer(path_or_id), path_or_id)

    def encode(self, text: str) -> list[int]:
        """[CLS] tokens [SEP]; nothing is cut."""
        return [self.begin, *self.tokenizer.encode(text, add_special_tokens=False), self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode([token for token in tokens if token < self.decode_token], skip_special_tokens=True)


class Reference(str):
    """A reference on one line, as it is printed, that knows its language (BCP-47; None: the manifest has none)."""

    language: str | None

    def __new__(cls, text: str, language: str | None = None) -> Reference:
        made = super().__new__(cls, one_line(text))
        made.language = language
        return made


class TextDictionary:
    """What fairseq asks of a target dictionary, answered by a Hugging Face tokenizer.

    fairseq reads the dictionary from the task before it builds the model that knows the tokenizer: `bind` fills it in.
    What fairseq-generate prints is on one line (`data.one_line`). References print as the manifest has them, not as
    the tokenizer gives them back, in which two texts may be one: see `remember`.

    Attributes:
        build_scorer: called with --scoring and fairseq's own way to build its scorer, in the place of that way.
    """

    build_scorer: Callable[[Any, Callable[[Any], Any]], Any] | None = None

    def __init__(self) -> None:
        self._decode: Any = None
        self._size = self._pad = self._end = 0
        self._references: dict[int, Reference] = {}

    def bind(self, decode: Any, size: int, pad: int, end: int) -> None:
        """`decode` turns a list of ids into text; `size` counts the ids; `end` closes a hypothesis."""
        self._decode, self._size, self._pad, self._end = decode, size, pad, end

    def remember(self, references: Sequence[Reference]) -> Tensor:
        """(B, 1) a stand-in for the tokens of each reference, for `string` to know the row by.

        Stand-ins are negative, so that none is a token or padding. They hold until the next call.
        """
        self._references = {-1 - row: reference for row, reference in enumerate(references)}
        return torch.tensor([*self._references], dtype=torch.long)[:, None]

    def __len__(self) -> int:
        return self._size

    def pad(self) -> int:
        return self._pad

    def eos(self) -> int:
        return self._end

    def bos(self) -> int:
        return self._end

    def unk(self) -> int:
        return self._pad

    def unk_string(self, escape: bool = False) -> str:
        return "<unk>"

    def encode_line(self, *_: Any, **__: Any) -> Tensor:
        """fairseq asks for this with --post-process, which would undo a BPE that there is not."""
        raise SparqleError("--post-process (--remove-bpe) is not offered: texts are printed as text; leave it out")

    def text(self, tokens: Tensor) -> str:
        """Text of token ids (L,), with the line ends that it has."""
        ignored = {self._pad, self._end}
        return self._decode([token for token in tokens.tolist() if token not in ignored]).strip()

    def string(
        self,
        tensor: Tensor,
        bpe_symbol: str | None = None,
        escape_unk: bool = False,
        extra_symbols_to_ignore: Iterable[int] | None = None,
        **_: Any,
    ) -> str:
        """What fairseq prints of token ids (L,) or, line by line, of (B, L): text on one line.

        fairseq asks for `escape_unk` with references only: their text is the remembered one.
        """
        if tensor.dim() == 2:
            return "\n".join(self.string(row, None, escape_unk, extra_symbols_to_ignore) for row in tensor)
        ids = tensor.tolist()
        if escape_unk and len(ids) == 1 and ids[0] in self._references:
            return self._references[ids[0]]
        ignored = set(extra_symbols_to_ignore or ())
        return one_line(self.text(torch.tensor([token for token in ids if token not in ignored], dtype=torch.long)))


def wordpiece_tokenizer(texts: Iterable[str], vocab_size: int, special: Sequence[str]) -> Any:
    """A cased WordPiece `tokenizers.Tokenizer` learned from `texts`.

    Its first ids are the `special` tokens, UNK among them. The same texts give the same ids in every process.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    def with_vocabulary(vocab: dict[str, int] | None = None) -> Any:
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=UNK))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    def learn(size: int, first: Sequence[str]) -> dict[str, int]:
        """The vocabulary; tokens of `first` get the first ids, in their order."""
        tokenizer = with_vocabulary()
        tokenizer.train_from_iterator(
            texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(first), show_progress=False)
        )
        return tokenizer.get_vocab()

    texts = list(texts)  # read twice
    # The library numbers characters within words (##a) as it comes upon them in a hash table, another in each process,
    # and of merges that are as frequent takes those of lower ids: find them first (no room for merges), then fix them.
    within = sorted(token for token in learn(0, special) if token.startswith("##"))
    return with_vocabulary(learn(vocab_size, [*special, *within]))


def train_wordpiece(texts: Iterable[str], folder: str | Path, vocab_size: int = 8000) -> None:
    """Train a WordPiece tokenizer with BERT's special tokens and save it where `load_tokenizer` reads it."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=wordpiece_tokenizer(texts, vocab_size, [PAD, UNK, CLS, SEP, MASK]),
        pad_token=PAD,
        unk_token=UNK,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
    ).save_pretrained(folder)
