"""Q-Former: learned queries that read speech, and a text branch that shares their self-attention.

The architecture of BLIP-2 (Li et al. 2023, arXiv 2301.12597) over speech as in SparQLe (Djanibekov & Aldarmaki 2025,
arXiv 2502.09284): post-LayerNorm BERT layers; every `cross_attention_freq`-th layer lets the queries, and only them,
attend to the speech; queries and text have feed-forward blocks of their own. Plain PyTorch: no fairseq in here.

With `window_frames` the same queries read one window of the speech after the other (the idea of SALMONN's window-level
Q-Former, Tang et al. 2023, arXiv 2310.13289): windows are folded into the batch, so memory and time grow with the
length of the speech and no faster. Windows do not see each other; a text sees the queries of all of them.

Shapes: B utterances, T speech frames, W speech width, Q queries of an utterance, L text tokens, H hidden size,
V vocabulary; N windows of an utterance (1 without windows), each with Q / N queries and F frames.
Every padding mask is a bool tensor, True at padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.dropout import Dropout, attend
from sparqle_fairseq.models.qformer.frame_ctc import FrameCtc
from sparqle_fairseq.models.qformer.front_end import DOWNSAMPLING, FrontEnd, stacked_width
from sparqle_fairseq.models.qformer.layout import PADDED, Layout, Rows, layout_of
from sparqle_fairseq.models.qformer.precision import LayerNorm, Linear
from sparqle_fairseq.models.qformer.saved import can_be_made_again, computed_twice, thrifty
from sparqle_fairseq.models.qformer.windows import fold_frames, joined_windows, own_window_mask, query_padding

SPEECH_NORM_EPS = 1e-5
BERT_NORM_EPS = 1e-12
INIT_STD = 0.02
# Windows that are all as long, or that end where CTC hears a token end (AlignFormer, arXiv 2412.01145).
QUERY_WINDOWS = ("equal", "ctc")
QUERY_STARTS = ("learned", "monotonic")
# What speech passes before it is read: a LayerNorm (as published), a linear layer to the hidden size, or nothing.
SPEECH_ENTRIES = ("norm", "linear", "none")


@dataclass(frozen=True)
class QFormerConfig:
    """Sizes of a Q-Former. The defaults are `base`: BERT-base with 100 queries."""

    vocab_size: int
    speech_width: int
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    ffn_size: int = 3072
    cross_attention_freq: int = 2
    queries: int = 100
    max_text_positions: int = 512
    dropout: float = 0.1
    query_start: str = "learned"
    speech_downsample: str = "none"
    speech_stride: int = 1  # encoder frames in a frame that the queries read
    window_frames: int = 0  # frames (after the stride) in a window that `queries` read; 0: the whole utterance
    speech_entry: str = "norm"  # one of SPEECH_ENTRIES

    query_windows: str = "equal"  # one of QUERY_WINDOWS; with "ctc" `window_frames` is the shortest window
    frame_vocabulary: int = 0  # with "ctc": tokens that the frames are read as

    adapter: ClassVar[str] = "qformer"  # its name among the adapters

    def __post_init__(self) -> None:
        if self.heads < 1 or self.hidden_size % self.heads:
            raise SparqleError(f"--hidden-size {self.hidden_size} does not divide into --heads {self.heads}")
        if self.query_start not in QUERY_STARTS:
            raise SparqleError(f"query start {self.query_start!r} is unknown; choose from {', '.join(QUERY_STARTS)}")
        if self.speech_entry not in SPEECH_ENTRIES:
            known = ", ".join(SPEECH_ENTRIES)
            raise SparqleError(f"speech entry {self.speech_entry!r} is unknown; choose from {known}")
        if self.speech_downsample not in DOWNSAMPLING:
            raise SparqleError(
                f"speech downsampling {self.speech_downsample!r} is unknown; choose from {', '.join(DOWNSAMPLING)}"
            )
        if self.speech_stride < 1 or (self.speech_stride > 1) != (self.speech_downsample != "none"):
            raise SparqleError(
                f"--speech-stride {self.speech_stride} does not go with --speech-downsample {self.speech_downsample}; "
                "give stack or conv with a stride of 2 or more, or none with 1"
            )
        if self.query_windows not in QUERY_WINDOWS:
            known = ", ".join(QUERY_WINDOWS)
            raise SparqleError(f"query windows {self.query_windows!r} are unknown; choose from {known}")
        if self.query_windows == "ctc" and not (self.window_frames and self.frame_vocabulary > 0):
            raise SparqleError(
                "--query-windows ctc needs --query-window-seconds, the shortest window, and --queries-per-window; the "
                "transcripts' tokenizer says --frame-vocabulary in stage 1"
            )
        if self.window_frames < 0:
            raise SparqleError(
                f"a window of {self.window_frames} frames cannot be; give 1 or more, or 0 for no windows"
            )
        for option in ("queries", "layers", "hidden_size", "ffn_size", "cross_attention_freq", "max_text_positions"):
            if getattr(self, option) < 1:
                raise SparqleError(f"--{option.replace('_', '-')} {getattr(self, option)} must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise SparqleError(f"--dropout {self.dropout:g} must be at least 0 and below 1")

    @property
    def entry_width(self) -> int:
        """Width of what comes out of the front end."""
        return stacked_width(self.speech_downsample, self.speech_width, self.speech_stride)

    @property
    def read_width(self) -> int:
        """Width of what the queries read."""
        return self.hidden_size if self.speech_entry == "linear" else self.entry_width

    def query_count(self, frames: Tensor) -> Tensor:
        """How many queries speak for utterances of `frames` encoder frames (B,); at most, where CTC says it."""
        if not self.window_frames:
            return torch.full_like(frames, self.queries)
        windows = -(frames // -(self.speech_stride * self.window_frames))
        return windows.clamp(min=1) * self.queries


KeyValue = tuple[Tensor, Tensor]  # each (B, heads, positions, H / heads)


class SpeechMemory(NamedTuple):
    """Keys and values of the speech for each layer that reads it, computed once and shared by all passes."""

    key_values: dict[int, KeyValue]
    keep: Tensor  # (B * N, 1, 1, F), True at real frames
    windows: int = 1  # N
    query_padding: Tensor | None = None  # (B, Q), True at queries of windows beyond an utterance's end; None: all real
    rows: Tensor | None = None  # (B * N,) which rows of `key_values` these are; None: all of them, as they stand

    @property
    def utterances(self) -> int:
        return self.keep.size(0) // self.windows

    def select(self, rows: Tensor) -> SpeechMemory:
        """The memory of the utterances `rows` (any number of them, repeats allowed); nothing is copied yet."""
        padding = None if self.query_padding is None else self.query_padding.index_select(0, rows)
        if self.windows > 1:
            rows = (rows[:, None] * self.windows + torch.arange(self.windows, device=rows.device)).flatten()
        whole = rows if self.rows is None else self.rows.index_select(0, rows)
        return SpeechMemory(self.key_values, self.keep.index_select(0, rows), self.windows, padding, whole)


class QueryOutput(NamedTuple):
    hidden: Tensor  # (B, Q, H), fp32 where the weights are half precision
    cache: list[KeyValue]  # self-attention keys and values of the queries, one pair a layer
    padding_mask: Tensor | None = None  # (B, Q), as in `SpeechMemory.query_padding`


class TextOutput(NamedTuple):
    hidden: Tensor  # (B, L, H)
    cache: list[KeyValue]  # what came before, extended by this text


def sinusoidal_positions(positions: Tensor, width: int) -> Tensor:
    """Sinusoidal encoding (Vaswani et al. 2017) of real-valued positions (...,) -> (..., width)."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=positions.device) * (-math.log(10000.0) / half))
    angles = positions.unsqueeze(-1).float() * rates  # (..., half)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :width]


class Attention(nn.Module):
    """Multi-head attention with its output projection, residual and LayerNorm (BERT's order)."""

    def __init__(self, config: QFormerConfig, source_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_dropout = config.dropout
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(source_width, config.hidden_size)
        self.value = Linear(source_width, config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.norm = LayerNorm(config.hidden_size, eps=BERT_NORM_EPS)

    def key_value(self, source: Tensor, layout: Layout = PADDED, scaled_by: nn.LayerNorm | None = None) -> KeyValue:
        """Keys and values (B, heads, S, H / heads) of `source`, which stands as `layout` says.

        With `scaled_by`, `source` is what that norm gives before its weight and bias, which join those of keys and
        values. Its gradient then follows from theirs, without a product over the frames.
        """
        key, value = (_linear(part, source, scaled_by) for part in (self.key, self.value))
        return self._split(layout.spread(key)), self._split(layout.spread(value))

    def forward(
        self,
        x: Tensor,
        key_value: KeyValue,
        keep: Tensor | None,
        *,
        layout: Layout = PADDED,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Attend from `x`, which stands as `layout` says, by default (B, N, H).

        `keep` broadcasts to (B, heads, N, S) and is True where attending is allowed; with `rows` (B,), row b attends to
        row `rows[b]` of `key_value`.
        """
        dropout = self.attention_dropout if self.training else 0.0
        query = self._split(layout.spread(self.query(x)))
        mixed = attend(query, *key_value, keep, dropout, rows)  # (B, heads, N, H / heads)
        mixed = layout.gathered(mixed.transpose(1, 2).flatten(2))  # as x
        return self.norm(self.dropout.added(self.output(mixed), x))

    def weights(self, x: Tensor, key_value: KeyValue, keep: Tensor | None) -> Tensor:
        """The probabilities (B, heads, N, S) by which `forward` mixes the values: to look at, not for training."""
        query, key = self._split(self.query(x)), key_value[0]
        scores = query @ key.transpose(-1, -2) / math.sqrt(key.size(-1))
        return (scores if keep is None else scores.masked_fill(~keep, -torch.inf)).float().softmax(dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, positions, H / heads)


def _linear(part: nn.Linear, source: Tensor, scaled_by: nn.LayerNorm | None) -> Tensor:
    if scaled_by is None:
        return part(source)
    return F.linear(source, part.weight * scaled_by.weight, part.bias + part.weight @ scaled_by.bias)


class FeedForward(nn.Module):
    """Two linear layers with an exact (erf) GELU between, residual and LayerNorm."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.expand = Linear(config.hidden_size, config.ffn_size)
        self.contract = Linear(config.ffn_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.norm = LayerNorm(config.hidden_size, eps=BERT_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.expand(x)
        active, kept = F.gelu(wide), wide.detach()
        can_be_made_again(active, lambda: F.gelu(kept))
        return self.norm(self.dropout.added(self.contract(active), x))


class Layer(nn.Module):
    """One layer: shared self-attention, speech attention for queries (in some layers), two feed-forward blocks."""

    def __init__(self, config: QFormerConfig, reads_speech: bool) -> None:
        super().__init__()
        self.self_attention = Attention(config, config.hidden_size)
        self.cross_attention = Attention(config, config.read_width) if reads_speech else None
        self.query_ffn = FeedForward(config)
        self.text_ffn: FeedForward | None = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        keep: Tensor | None,
        prefix: KeyValue | None,
        memory: SpeechMemory | None,
        index: int,
        wanted: int | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """`x` holds queries and then text and stands as `layout` says; returns as much, and the extended cache.

        Where `wanted` is given, only the first so many positions of each row are returned: (B, wanted, H).
        """
        key, value = self.self_attention.key_value(x, layout)
        if prefix is not None:
            key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
        if wanted is not None:
            x, layout = layout.first(x, wanted)
            keep = keep if keep is None or keep.size(2) == 1 else keep[:, :, :wanted]
        x = self.self_attention(x, (key, value), keep, layout=layout)
        query, text = layout.apart(x)  # (B, Q, H), (B, L, H) or (K, H)
        if layout.queries:
            if self.cross_attention is not None:
                if memory is None:
                    raise ValueError("queries need the speech memory")
                own = query
                if own.size(0) < memory.keep.size(0):  # one row a window: its queries read it, and no other
                    own = own.reshape(memory.keep.size(0), -1, own.size(-1))
                read = self.cross_attention(own, memory.key_values[index], memory.keep, rows=memory.rows)
                query = read.reshape(query.shape)
            query = self.query_ffn(query)
        if text.numel():
            if self.text_ffn is None:
                raise ValueError("this Q-Former was built without its text branch")
            text = self.text_ffn(text)
            query = layout.joined(query, text) if layout.queries else text
        return query, (key, value)


class LanguageHead(nn.Module):
    """BERT's prediction head; the output projection shares the word embeddings."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.transform = Linear(config.hidden_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, eps=BERT_NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        hidden = self.norm(F.gelu(self.transform(hidden)))
        return F.linear(hidden.to(word_embeddings.dtype), word_embeddings, self.bias)


class TextBranch(nn.Module):
    """Word and position embeddings and the prediction head: what stage 2 leaves behind."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_text_positions, config.hidden_size)
        self.head = LanguageHead(config)

    def embed(self, tokens: Tensor, start: int = 0, words: Tensor | None = None) -> Tensor:
        """Embeddings (B, L, H) of `tokens` (B, L) whose first stands at position `start`.

        `words` (B, L, H) are those of the tokens alone, where they were looked up before.
        """
        end = start + tokens.size(1)
        if end > self.positions.num_embeddings:
            raise ValueError(
                f"a text of {end} tokens does not fit the Q-Former's {self.positions.num_embeddings} text positions"
            )
        return (self.words(tokens) if words is None else words) + self.positions.weight[start:end]


class QFormer(nn.Module):
    """The four uses of a Q-Former: queries alone, text alone, queries with text, text after the queries.

    With `with_text=False` (stage 2) only queries can run: no text embeddings, no text feed-forward blocks, no head.
    """

    def __init__(self, config: QFormerConfig, with_text: bool = True) -> None:
        super().__init__()
        self.config = config
        self.query_tokens = nn.Parameter(torch.empty(1, config.queries, config.hidden_size))
        # How much of its window's place a query starts with; without windows there is no such parameter.
        self.window_place = nn.Parameter(torch.empty(())) if config.window_frames else None
        self.front_end = FrontEnd(config.speech_downsample, config.speech_stride, config.speech_width)
        self.speech_norm = self.speech_linear = None
        if config.speech_entry == "norm":
            self.speech_norm = LayerNorm(config.read_width, eps=SPEECH_NORM_EPS)
        elif config.speech_entry == "linear":
            self.speech_linear = Linear(config.entry_width, config.read_width)
        heard = config.query_windows == "ctc"
        self.frame_ctc = FrameCtc(config.read_width, config.frame_vocabulary) if heard else None
        self.embedding_norm = LayerNorm(config.hidden_size, eps=BERT_NORM_EPS)
        self.dropout = Dropout(config.dropout)
        # Whether the backward pass is left the inputs of layers alone and computes their insides again.
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(
            Layer(config, reads_speech=i % config.cross_attention_freq == 0) for i in range(config.layers)
        )
        self.text = TextBranch(config) if with_text else None
        self.reset_parameters()
        if not with_text:
            for layer in self.each_layer():
                layer.text_ffn = None

    def reset_parameters(self) -> None:
        """BERT's initialisation; the query feed-forward starts as a copy of the text's."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        if self.config.query_start == "monotonic":
            slots = torch.arange(self.config.queries) + 0.5
            self.query_tokens.data.copy_(sinusoidal_positions(slots, self.config.hidden_size))
        else:
            nn.init.normal_(self.query_tokens, std=INIT_STD)
        if self.frame_ctc is not None:
            self.frame_ctc.reset_blank()
        if self.window_place is not None:
            nn.init.constant_(self.window_place, 1.0 if self.config.query_start == "monotonic" else INIT_STD)
        self.copy_text_feed_forward()

    def copy_text_feed_forward(self) -> None:
        """Make every query feed-forward block equal to the text's."""
        for layer in self.each_layer():
            if layer.text_ffn is not None:
                layer.query_ffn.load_state_dict(layer.text_ffn.state_dict())

    def each_layer(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def read_speech(self, values: Tensor, padding_mask: Tensor) -> SpeechMemory:
        """Keys and values of the speech `values` (B, T, W) with `padding_mask` (B, T)."""
        monotonic = self.config.query_start == "monotonic"
        speech, padding_mask = self.front_end(values, padding_mask)
        scaled_by = self._norm_that_joins_keys(speech)
        if scaled_by is None:
            speech = self._entered(speech)
        else:
            speech = F.layer_norm(speech, scaled_by.normalized_shape, eps=scaled_by.eps)
        if self.frame_ctc is not None:
            return self._read_heard(speech, padding_mask, monotonic)
        if monotonic:
            speech = speech + self._speech_positions(padding_mask, speech.size(-1)).to(speech)
        windows, beyond = 1, None
        if self.config.window_frames:
            beyond = query_padding(padding_mask, self.config.window_frames, self.config.queries)
            windows = beyond.size(1) // self.config.queries
            speech = fold_frames(speech, self.config.window_frames)  # (B * N, F, W)
            padding_mask = fold_frames(padding_mask, self.config.window_frames, fill=True)
        return self._memory(speech, padding_mask, windows, beyond, scaled_by)

    def _norm_that_joins_keys(self, speech: Tensor) -> nn.LayerNorm | None:
        """The norm of the speech, if its weight and bias are to join those of keys and values.

        So it is where speech that learns nothing is read to learn, in fp32 (half precision would round the product),
        and where nothing else reads what the norm gives.
        """
        norm, config = self.speech_norm, self.config
        if norm is None or config.query_start == "monotonic" or self.frame_ctc is not None or speech.requires_grad:
            return None
        learns = torch.is_grad_enabled() and norm.weight.requires_grad
        return norm if learns and speech.dtype == norm.weight.dtype == torch.float32 else None

    def enter(self, values: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The frames that the queries read, without positions, of speech (B, T, W); and their padding mask."""
        values, padding_mask = self.front_end(values, padding_mask)
        return self._entered(values), padding_mask

    def _entered(self, values: Tensor) -> Tensor:
        entry = self.speech_norm or self.speech_linear
        return values if entry is None else entry(values)

    def _read_heard(self, speech: Tensor, padding_mask: Tensor, monotonic: bool) -> SpeechMemory:
        """`read_speech` in windows that end where the frames' CTC hears a token end."""
        assert self.frame_ctc is not None
        ends = self.frame_ctc.ends(speech, padding_mask)
        speech, padding_mask, beyond = joined_windows(speech, padding_mask, self.config.window_frames, ends)
        if monotonic:
            frames = torch.arange(padding_mask.size(1), device=speech.device) + 0.5
            share = frames / (~padding_mask).sum(dim=1, keepdim=True).clamp(min=1)  # (B * N, F)
            speech = speech + sinusoidal_positions(share * self.config.queries, speech.size(-1)).to(speech)
        windows = beyond.size(1)
        return self._memory(speech, padding_mask, windows, beyond.repeat_interleave(self.config.queries, dim=1))

    def _memory(
        self,
        speech: Tensor,
        padding_mask: Tensor,
        windows: int,
        beyond: Tensor | None,
        scaled_by: nn.LayerNorm | None = None,
    ) -> SpeechMemory:
        # An utterance without a single real frame would make the softmax NaN: let it see its first (zero) frame.
        first = torch.arange(padding_mask.size(1), device=padding_mask.device) == 0
        keep = ~padding_mask | (padding_mask.all(dim=1, keepdim=True) & first)  # (B * N, F)
        layout = layout_of(0, ~keep)
        source = layout.gathered(speech)
        key_values = {
            i: layer.cross_attention.key_value(source, layout, scaled_by)
            for i, layer in enumerate(self.each_layer())
            if layer.cross_attention is not None
        }
        return SpeechMemory(key_values, keep[:, None, None, :], windows, beyond)

    def forward(self, values: Tensor, padding_mask: Tensor) -> QueryOutput:
        """Queries alone, from the speech `values` (B, T, W) with `padding_mask` (B, T)."""
        return self.query(self.read_speech(values, padding_mask))

    def query(self, memory: SpeechMemory) -> QueryOutput:
        """Queries alone: what they read from the speech."""
        count, windows = memory.utterances, memory.windows
        rows = (count * windows, self.config.queries, self.config.hidden_size)  # a window is a row of its own
        queries = self._embed(self._queries(memory)).reshape(rows)
        hidden, cache = self._run(queries, Rows(self.config.queries), None, None, memory)
        if windows > 1:
            hidden = hidden.reshape(count, -1, hidden.size(-1))
            cache = [(_join_windows(key, windows), _join_windows(value, windows)) for key, value in cache]
        return QueryOutput(hidden, cache, memory.query_padding)

    def embed_words(self, tokens: Tensor) -> Tensor:
        """Word embeddings (..., H) of `tokens`, which every pass over a text takes as `words`.

        The gradient of a look-up is as large as the vocabulary: one for all passes costs less than one for each.
        """
        return self._text().words(tokens)

    def encode_text(
        self, tokens: Tensor, padding_mask: Tensor, wanted: int | None = None, words: Tensor | None = None
    ) -> Tensor:
        """Text alone, bidirectional: `tokens` (B, L) -> (B, L, H), or (B, wanted, H) of the first positions.

        With `wanted`, padded ones of them may hold anything.
        """
        layout = PADDED if wanted is None else layout_of(0, padding_mask)
        embedded = self._embed(layout.gathered(self._text().embed(tokens, words=words)))
        return self._run(embedded, layout, ~padding_mask[:, None, None, :], None, None, wanted, keep_cache=False)[0]

    def match(self, tokens: Tensor, padding_mask: Tensor, memory: SpeechMemory, words: Tensor | None = None) -> Tensor:
        """Queries and text see each other: the query positions' output (B, Q, H)."""
        queries = self._queries(memory)
        count = queries.size(1)
        layout = layout_of(count, padding_mask)
        text = self._text().embed(tokens, words=words)
        embedded = self._embed(layout.gathered(torch.cat([queries, text], dim=1)))
        if memory.query_padding is None:
            seen = torch.cat([padding_mask.new_ones(tokens.size(0), count), ~padding_mask], dim=1)  # (B, Q + L)
            keep = seen[:, None, None, :]
        else:
            seen = ~torch.cat([memory.query_padding, padding_mask], dim=1)
            keep = own_window_mask(memory.windows, self.config.queries, tokens.size(1), seen)
        return self._run(embedded, layout, keep, None, memory, count, keep_cache=False)[0]

    def decode_text(
        self,
        tokens: Tensor,
        padding_mask: Tensor | None,
        cache: list[KeyValue],
        past_tokens: int = 0,
        query_padding: Tensor | None = None,
        skip_padding: bool = False,
        words: Tensor | None = None,
    ) -> TextOutput:
        """Causal text after the cached queries and `past_tokens` earlier text tokens.

        `tokens` (B, L) with `padding_mask` (B, L) or None, `query_padding` (B, Q) as `query` gave it; returns (B, L, H)
        and the cache extended by the text. Logits come from `predict`. With `skip_padding`, for those who read real
        positions alone, padded ones may hold anything.
        """
        length = tokens.size(1)
        prefix = cache[0][0].size(2)
        causal = torch.ones(length, prefix + length, dtype=torch.bool, device=tokens.device).tril(prefix)
        keep = causal[None, None]  # (1, 1, L, prefix + L)
        if padding_mask is not None or query_padding is not None:
            seen = causal.new_ones(tokens.size(0), prefix + length)
            if query_padding is not None:
                seen[:, : query_padding.size(1)] = ~query_padding
            if padding_mask is not None:
                seen[:, prefix:] = ~padding_mask
            keep = keep & seen[:, None, None, :]
        layout = layout_of(0, padding_mask) if skip_padding and padding_mask is not None else PADDED
        embedded = self._embed(layout.gathered(self._text().embed(tokens, past_tokens, words)))
        hidden, cache = self._run(embedded, layout, keep, cache, None)
        return TextOutput(layout.spread(hidden), cache)

    def predict(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits (..., V) of text hidden states (..., H), in the precision of the weights."""
        text = self._text()
        return text.head(hidden, text.words.weight)

    def _run(
        self,
        x: Tensor,
        layout: Layout,
        keep: Tensor | None,
        prefix: list[KeyValue] | None,
        memory: SpeechMemory | None,
        wanted: int | None = None,
        keep_cache: bool = True,
    ) -> tuple[Tensor, list[KeyValue]]:
        cache = []
        twice = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        with nullcontext() if twice else thrifty():
            for i, layer in enumerate(self.layers):
                last = wanted if i == len(self.layers) - 1 else None
                given = (x, layout, keep, prefix[i] if prefix else None, memory, i, last)
                x, key_value = computed_twice(layer, *given) if twice else layer(*given)
                if keep_cache:
                    cache.append(key_value)
        return x, cache

    def _embed(self, embeddings: Tensor) -> Tensor:
        return self.dropout(self.embedding_norm(embeddings))

    def _text(self) -> TextBranch:
        if self.text is None:
            raise ValueError("this Q-Former was built without its text branch")
        return self.text

    def _queries(self, memory: SpeechMemory) -> Tensor:
        """Learned queries (B, Q, H); with windows, the same ones in each, and in which window they stand.

        The first window's are the learned ones as they are.
        """
        queries: Tensor = self.query_tokens
        if self.window_place is not None:
            index = torch.arange(memory.windows, device=queries.device)
            place = sinusoidal_positions(index, queries.size(-1)) - sinusoidal_positions(index[:1], queries.size(-1))
            queries = queries + self.window_place * place[:, None].to(queries)  # (N, Q / N, H)
        return queries.reshape(1, -1, queries.size(-1)).expand(memory.utterances, -1, -1)

    def _speech_positions(self, padding_mask: Tensor, width: int) -> Tensor:
        """Where frames stand among the queries that read them: (B, T, W).

        Frame t of an utterance with n real frames stands at (t + 0.5) / n of the queries' positions; with windows, at
        the same share of its window.
        """
        frames = torch.arange(padding_mask.size(1), device=padding_mask.device)  # (T,)
        if self.config.window_frames:
            share = ((frames % self.config.window_frames + 0.5) / self.config.window_frames)[None]  # (1, T)
        else:
            share = (frames + 0.5) / (~padding_mask).sum(dim=1, keepdim=True).clamp(min=1)  # (B, T)
        return sinusoidal_positions(share * self.config.queries, width)


def of_text_branch(name: str) -> bool:
    """Whether a tensor of a Q-Former, such as text.words.weight, is one that `QFormer(with_text=False)` lacks."""
    return name.startswith("text.") or ".text_ffn." in name


def _join_windows(x: Tensor, windows: int) -> Tensor:
    """Keys or values of windows (B * N, heads, Q / N, H / heads) -> of utterances (B, heads, Q, H / heads)."""
    return x.unflatten(0, (-1, windows)).transpose(1, 2).flatten(2, 3)
