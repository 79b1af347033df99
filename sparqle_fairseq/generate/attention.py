"""Attention maps: which frames a query reads, which queries a token of text reads, and so which frames a token reads.

`scaled_dot_product_attention` gives no weights away, so they are computed a second time from what goes into it, and
only by those who ask: training and plain generation run as if this file were not there.

B utterances, N rows (hypotheses), Q queries, T frames as the queries read them, L tokens. Padding masks are True at
padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.data.dataset import pad_ids
from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.qformer import Attention, QFormer, QueryOutput
from sparqle_fairseq.models.stage1.model import PretrainModel
from sparqle_fairseq.models.stage2.model import SpeechLLM

NOTHING = 1e-6  # share of attention below which a token is not told apart from the others


class QueryMap(NamedTuple):
    """Where the queries look: each row over the frames sums to 1 and is 0 at padding."""

    layers: Tensor  # (layers that read speech, B, Q, T), mean over heads
    padding_mask: Tensor  # (B, T)

    @property
    def mean(self) -> Tensor:
        """(B, Q, T), mean over layers."""
        return self.layers.mean(dim=0)


class TokenMap(NamedTuple):
    """Where a text looks, for N rows of L tokens. Every row over the frames sums to 1 and is 0 at padding."""

    frames: Tensor  # (N, L, T)
    frame_padding_mask: Tensor  # (N, T)


@contextmanager
def recorded(modules: Iterable[Attention]) -> Iterator[list[Tensor]]:
    """While the context lasts, each call of one of `modules` adds its weights (B, N, S), mean over heads, to a list."""
    kept: list[Tensor] = []

    def keep(module: Any, inputs: tuple[Any, ...]) -> None:
        kept.append(module.weights(*inputs).mean(dim=1))

    hooks = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def reading(qformer: QFormer) -> Iterator[Callable[[], QueryMap]]:
    """Watch the queries read one batch; the function that it gives returns the map, when they have."""
    padding: list[Tensor] = []
    watch = qformer.front_end.register_forward_hook(lambda _, __, output: padding.append(output[1]))
    readers = [layer.cross_attention for layer in qformer.each_layer() if layer.cross_attention is not None]
    try:
        with recorded(readers) as calls:
            yield lambda: _map_of(calls, padding[0])
    finally:
        watch.remove()


def read_with_map(qformer: QFormer, values: Tensor, padding_mask: Tensor) -> tuple[QueryOutput, QueryMap]:
    """The queries' output for speech `values` (B, T, W), and where they looked for it."""
    with reading(qformer) as finished:
        output = qformer.query(qformer.read_speech(values, padding_mask))
    return output, finished()


def reading_rate(model: Any) -> float:
    """Frames per second as the queries read them: those of the encoder, or stacks of them (`--speech-stride`)."""
    return model.speech_encoder.frame_rate / model.adapter.reader.config.speech_stride


@torch.no_grad()
def query_map(model: Any, net_input: dict[str, Any]) -> QueryMap:
    """Where the queries of a model of either stage look in a batch."""
    check_can_look(model)
    speech = model.encode_speech(net_input["source"], net_input["padding_mask"])
    return read_with_map(model.adapter.qformer, speech.values, speech.padding_mask)[1]


def check_can_look(model: Any) -> None:
    """Raise `SparqleError` where the model writes no text, or its text cannot be followed back to the queries."""
    if model.adapter.qformer is None:
        raise SparqleError(
            f"this model has no queries that look at the speech (--adapter {model.adapter.reader.config.adapter}), so "
            "there is no attention to show; leave --visualize-interval, --print-alignment and `sparqle inspect` out"
        )
    if model.adapter.qformer.frame_ctc is not None:
        raise SparqleError(
            "with --query-windows ctc windows end where tokens do, and no map of them is drawn; leave "
            "--visualize-interval, --print-alignment and `sparqle inspect` out"
        )
    model.step_decoder()
    if getattr(model.adapter, "llm_space", None) is not None and not isinstance(model, PretrainModel):
        raise SparqleError(
            "with --compress-queries the LLM sees runs of queries and not the queries, so its tokens cannot be aligned "
            "with the speech; leave --visualize-interval, --print-alignment and `sparqle inspect` out"
        )


@torch.no_grad()
def token_map(model: Any, net_input: dict[str, Any], texts: Sequence[Sequence[int]], rows: Sequence[int]) -> TokenMap:
    """Where each token of `texts` (ids, the end token included) looks; text n answers utterance `rows[n]`.

    A token's way to the queries is followed through all layers (attention rollout, Abnar & Zuidema 2020, arXiv
    2005.00928): in deep layers a position no longer holds what it held at first. What it then gives to the prompt and
    to other tokens is left out; the queries' own map, mean over layers, leads on to the frames. One pass over all
    texts, beside the search that found them.
    """
    check_can_look(model)
    device = net_input["source"].device
    tokens, padding_mask = (part.to(device) for part in pad_ids(texts, 0))
    index = torch.tensor(rows, device=device)
    look = _transcript_to_queries if isinstance(model, PretrainModel) else _answer_to_queries
    weights, seen = look(model, net_input, tokens, padding_mask, index)  # (N, L, Q)
    queries = weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    frames = queries @ seen.mean.index_select(0, index)
    return TokenMap(frames, seen.padding_mask.index_select(0, index))


def token_centres(frames: Tensor) -> Tensor:
    """The frame (L,), not rounded, that each token of one text stands for; `frames` (L, T) of its real frames.

    All tokens share much of what they read, so the place is the centre of what a token reads more of than the text's
    tokens do on average.
    """
    excess = token_excess(frames)
    places = torch.arange(frames.size(1), device=frames.device) + 0.5
    return (excess * places).sum(dim=1) / excess.sum(dim=1)


def token_excess(frames: Tensor) -> Tensor:
    """What each token reads above the mean of its text, (L, T); all that it reads where nothing tells it apart."""
    excess = (frames - frames.mean(dim=0)).clamp(min=0)
    apart = excess.sum(dim=1, keepdim=True) > NOTHING
    return torch.where(apart, excess, frames)


def _map_of(calls: Sequence[Tensor], padding_mask: Tensor) -> QueryMap:
    """The map over whole utterances, whose frames, as the queries read them, have the `padding_mask` (B, T)."""
    layers = torch.stack(list(calls))  # (layers, B * N windows, Q / N, frames of a window)
    utterances, frames = padding_mask.shape
    windows = layers.size(1) // utterances
    if windows > 1:
        # Each window's queries read that window and no other: blocks on a diagonal.
        own = torch.eye(windows, device=layers.device)[:, None, :, None]  # (N, 1, N, 1)
        blocks = layers.unflatten(1, (utterances, windows))[..., None, :] * own  # (layers, B, N, Q / N, N, F)
        layers = blocks.flatten(4).flatten(2, 3)  # (layers, B, Q, N * F)
    layers = layers[..., :frames]
    # A window beyond an utterance's end had to look somewhere.
    return QueryMap(layers.masked_fill(padding_mask[:, None, :], 0), padding_mask)


def _transcript_to_queries(
    model: PretrainModel, net_input: dict[str, Any], tokens: Tensor, padding_mask: Tensor, rows: Tensor
) -> tuple[Tensor, QueryMap]:
    """The way (N, L, Q) from the position that foretells each token to the queries."""
    qformer = model.adapter.qformer
    speech = model.encode_speech(net_input["source"], net_input["padding_mask"])
    output, seen = read_with_map(qformer, speech.values, speech.padding_mask)
    first = tokens.new_full((tokens.size(0), 1), model.tokenizer.decode_token)
    inputs = torch.cat([first, tokens[:, :-1]], dim=1)
    cache = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in output.cache]
    beyond = None if output.padding_mask is None else output.padding_mask.index_select(0, rows)
    with recorded(layer.self_attention for layer in qformer.each_layer()) as calls:
        qformer.decode_text(inputs, padding_mask, cache, query_padding=beyond)
    prefix = cache[0][0].size(2)
    way = output.hidden.new_zeros(tokens.size(0), tokens.size(1), prefix, dtype=torch.float32)
    for weights in calls:
        way = (way + weights[..., :prefix] + weights[..., prefix:] @ way) / 2
    return way, seen


def _answer_to_queries(
    model: SpeechLLM, net_input: dict[str, Any], tokens: Tensor, padding_mask: Tensor, rows: Tensor
) -> tuple[Tensor, QueryMap]:
    """The way (N, L, Q) through the LLM, from the position that foretells each token to the queries."""
    names = ("source", "padding_mask", "prompt", "prompt_padding_mask")
    with reading(model.adapter.qformer) as finished:
        prefix, real = model.prompt_embeddings(*(net_input[name] for name in names))
    seen = finished()
    heard = (seen.mean.sum(dim=-1) > 0).index_select(0, rows)  # (N, Q), False for windows beyond the speech's end
    queries, length = heard.size(1), prefix.size(1)
    prefix, real = prefix.index_select(0, rows), real.index_select(0, rows)
    embeddings = torch.cat([prefix, model.llm.embed(tokens[:, :-1]).to(prefix)], dim=1)
    way = llm_rollout(model.llm, embeddings, torch.cat([real, ~padding_mask[:, :-1]], dim=1))
    place = (net_input["prompt"] == SPEECH_PLACE).int().argmax(dim=1).index_select(0, rows)  # (N,)
    # Queries beyond the end stand at the left of the prompt, as its padding does.
    start = place + queries - heard.sum(dim=1)
    columns = (start[:, None] + torch.arange(queries, device=tokens.device)).clamp(max=length - 1)  # (N, Q)
    answer = way[:, length - 1 :]  # (N, L, positions)
    return answer.gather(2, columns[:, None, :].expand(-1, answer.size(1), -1)) * heard[:, None, :], seen


@torch.no_grad()
def llm_rollout(llm: Any, embeddings: Tensor, seen: Tensor) -> Tensor:
    """How much of each input position (last dimension) each position of the LLM's output holds: (N, P, P).

    Attention, mean over heads, and the residual path count one half each, layer upon layer; rows sum to 1. `embeddings`
    (N, P, M) and `seen` (N, P) as the LLM takes them.
    """
    model = llm.model
    count = embeddings.size(1)
    way = torch.eye(count, device=embeddings.device).repeat(embeddings.size(0), 1, 1)
    calls = 0

    def follow(_: Any, __: Any, output: Any) -> None:
        nonlocal way, calls
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if torch.is_tensor(weights) and weights.dim() == 4 and weights.shape[-2:] == (count, count):
            way = (way + weights.float().mean(dim=1) @ way) / 2
            calls += 1

    usual = model.config._attn_implementation
    readers = [module for module in model.modules() if type(module).__name__.endswith("Attention")]
    hooks = [module.register_forward_hook(follow) for module in readers]
    try:
        model.set_attn_implementation("eager")  # the fast kernels give no weights
        llm(embeddings, seen, logits_to_keep=1)
    finally:
        model.set_attn_implementation(usual)
        for hook in hooks:
            hook.remove()
    if not calls:
        raise SparqleError(
            f"{llm.identity['path']}: this LLM ({llm.identity['kind']}) shows no attention weights, so its tokens "
            "cannot be aligned with the speech; leave --print-alignment out"
        )
    return way
