"""A batch of stage 1, and what is made of it once for all objectives, when the first of them asks.

Plain PyTorch. B utterances here, N in all processes, Q queries, D contrastive width, L text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparqle_fairseq.gather import gather_rows
from sparqle_fairseq.models.qformer.places import places_where
from sparqle_fairseq.models.qformer.qformer import SpeechMemory
from sparqle_fairseq.models.stage1.losses import similarity

# Numbers of samples and tokens in a batch that the program knows before it asks the device: arguments of the model.
LENGTHS = ("source_lengths", "text_lengths", "llm_text_lengths")


class Foreign(NamedTuple):
    """Translations of P of the B transcripts."""

    tokens: Tensor  # (P, L')
    padding_mask: Tensor  # (P, L')
    rows: Tensor  # (P,) which transcripts they translate


class Stage1Text(NamedTuple):
    """Transcripts of a batch: token ids, and the keys that say who is who."""

    tokens: Tensor  # (B, L), [CLS] ... [SEP] and padding
    padding_mask: Tensor  # (B, L)
    identity: Tensor  # (B,) int64, equal where the transcripts are equal
    utterance: Tensor  # (B,) int64, one per utterance
    llm_tokens: Tensor | None = None  # (B, L') in the LLM's own tokens, `NO_TOKEN` at padding
    foreign: Foreign | None = None  # translations
    lengths: Sequence[int] | None = None  # B numbers of real `tokens`; None: the device is asked
    llm_lengths: Sequence[int] | None = None  # and of `llm_tokens`


class Contrast(NamedTuple):
    speech_to_text: Tensor  # (B, N) similarities
    text_to_speech: Tensor  # (B, N)
    rows: Tensor  # (B,) identities
    columns: Tensor  # (N,) identities


class Stage1Batch:
    """Speech `values` (B, T, W) with `padding_mask` (B, T), its `text`, and the `update` that random choices follow.

    A batch that is not `active` (a stand-in on a process that ran out of data) gives itself to no other process:
    `given` rows of it are the others' too.
    """

    def __init__(
        self, adapter: Any, values: Tensor, padding_mask: Tensor, text: Stage1Text, update: int, active: bool = True
    ) -> None:
        self.adapter = adapter
        self.values = values
        self.padding_mask = padding_mask
        self.text = text
        self.update = update
        self.active = active
        self.given = values.size(0) if active else 0
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made when the first objective asks for it under this name."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @cached_property
    def memory(self) -> SpeechMemory:
        """The speech as the Q-Former's layers read it."""
        return self.adapter.qformer.read_speech(self.values, self.padding_mask)

    @cached_property
    def queries(self) -> Any:
        """What the queries read from the speech alone: `hidden` (B, Q, H), and keys and values of each layer.

        Of a plain adapter its outputs, which have none of the latter.
        """
        if self.adapter.qformer is None:
            return self.adapter.plain(self.values, self.padding_mask)
        return self.adapter.qformer.query(self.memory)

    @cached_property
    def query_counts(self) -> Tensor:
        """How many queries count: (B,)."""
        hidden = self.queries.hidden
        if self.queries.padding_mask is None:
            return torch.full((hidden.size(0),), hidden.size(1), device=hidden.device)
        return (~self.queries.padding_mask).sum(dim=1)

    @cached_property
    def shifted_tokens(self) -> Tensor:
        """Inputs (B, L) of a decoder that writes the transcript: [DEC] in the place of [CLS]."""
        inputs = self.text.tokens.clone()
        inputs[:, 0] = self.adapter.decode_token
        return inputs

    @cached_property
    def _looked_up(self) -> Tensor:
        """Word embeddings (B, 1 + L, H) of [DEC] and the transcripts."""
        return self.adapter.qformer.embed_words(F.pad(self.text.tokens, (1, 0), value=self.adapter.decode_token))

    @property
    def words(self) -> Tensor:
        """Those of the transcripts: (B, L, H)."""
        return self._looked_up[:, 1:]

    @property
    def shifted_words(self) -> Tensor:
        """Those of `shifted_tokens`: (B, L, H)."""
        return torch.cat([self._looked_up[:, :1], self._looked_up[:, 2:]], dim=1)

    @cached_property
    def before_targets(self) -> Tensor:
        """Places (K,) in the flat `shifted_tokens` (B * L) that are followed by a token of the transcript."""
        followed = F.pad(~self.text.padding_mask[:, 1:], (0, 1))
        lengths = self.text.lengths
        return places_where(followed, None if lengths is None else sum(max(length - 1, 0) for length in lengths))

    @cached_property
    def targets(self) -> Tensor:
        """The tokens (K,) that follow there."""
        return self.text.tokens.flatten()[self.before_targets + 1]

    def with_target(self, hidden: Tensor) -> Tensor:
        """Those (K, H) of a text's positions (B, L, H)."""
        return hidden.flatten(0, 1).index_select(0, self.before_targets)

    @cached_property
    def speech_features(self) -> Tensor:
        """The queries in the contrastive space: (B, Q, D)."""
        return self.adapter.speech_features(self.queries.hidden)

    @cached_property
    def text_features(self) -> Tensor:
        """The transcripts in the contrastive space: (B, D)."""
        return self.adapter.text_features(self.text.tokens, self.text.padding_mask, self.words)

    @cached_property
    def contrast(self) -> Contrast:
        """Similarities of the local rows with the columns of all processes."""
        speech, words, given = self.speech_features, self.text_features, self.given
        all_speech, all_words = gather_rows(speech[:given]), gather_rows(words[:given])
        padding = all_padding = self.queries.padding_mask  # (B, Q), or None where every query counts
        if padding is not None:
            all_padding = gather_rows(padding[:given], fill=True)
        temperature = self.adapter.clamped_temperature()
        return Contrast(
            similarity(speech, all_words, temperature, padding),
            similarity(all_speech, words, temperature, all_padding).T,
            self.text.identity,
            gather_rows(self.text.identity[:given]),
        )
