"""When the words of a transcript are spoken, as the queries of a stage-1 model by `ctc` or `llm-ctc` have them.

CTC's likeliest path says which queries hold a word; the queries' attention, mean over
heads and layers, says which frames they read.

B utterances, Q queries, T frames as the queries read them, L tokens of a transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.attention import reading, reading_rate
from sparqle_fairseq.models.stage1.batch import Stage1Batch, Stage1Text
from sparqle_fairseq.models.stage1.model import PretrainModel

OBJECTIVES = ("ctc", "llm-ctc")  # that say which query holds a token


@dataclass(frozen=True)
class Word:
    text: str
    seconds: float  # the middle of it


def held_by(log_probs: Tensor, tokens: Tensor) -> list[list[int]] | None:
    """Which queries hold each of the tokens on CTC's likeliest path (Viterbi's); None where there are too few queries.

    `log_probs` (Q, 1 + L) of the blank and of each token, `tokens` (L,) ids, both on the CPU. Equal tokens that follow
    each other have a blank between them.
    """
    count = len(tokens)
    # States: blank, token, blank, token, …, blank; each is reached from itself, the one before, or past a blank.
    emitted = log_probs[:, :1].float().repeat(1, 2 * count + 1)
    emitted[:, 1::2] = log_probs[:, 1 : 1 + count].float()
    jumps = torch.full((2 * count + 1,), -torch.inf)
    same = torch.cat([tokens.new_ones(1, dtype=torch.bool), tokens[1:] == tokens[:-1]]) if count else tokens.bool()
    jumps[1::2] = torch.where(same, -torch.inf, 0.0)
    best = torch.full((2 * count + 1,), -torch.inf)
    best[:2] = emitted[0, :2]
    came = []
    for now in emitted[1:]:
        ways = torch.stack([best, _shifted(best, 1), _shifted(best, 2) + jumps])
        best, way = ways.max(dim=0)
        best = best + now
        came.append(way)
    state = 2 * count - 1 + int(best[-1] > best[-2]) if count else 0
    if best[state] == -torch.inf:
        return None
    held: list[list[int]] = [[] for _ in range(count)]
    for query in range(len(log_probs) - 1, -1, -1):
        if state % 2:
            held[state // 2].insert(0, query)
        if query:
            state -= int(came[query - 1][state])
    return held


def _shifted(scores: Tensor, places: int) -> Tensor:
    """Each state's score at the state `places` later."""
    return torch.cat([torch.full((min(places, len(scores)),), -torch.inf), scores])[: len(scores)]


def words_of(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[list[str], list[list[int]]]:
    """Words at spaces, and the tokens of each; `offsets` are the places of the tokens in the text."""
    words, owner, inside = [], [], False
    for letter in text:
        if letter.isspace():
            inside = False
        elif not inside:
            words.append("")
            inside = True
        owner.append(len(words) - 1)
        if inside:
            words[-1] += letter
    members: list[list[int]] = [[] for _ in words]
    for token, (start, end) in enumerate(offsets):
        # A token may begin with the space before its word.
        place = next((i for i in range(start, end) if not text[i].isspace()), None)
        if place is not None:
            members[owner[place]].append(token)
    return words, members


@torch.no_grad()
def word_times(model: Any, net_input: dict[str, Any], texts: Sequence[str]) -> list[list[Word] | None]:
    """The words of each of the transcripts `texts`, those of the batch; None where it has more tokens than queries.

    Raises `SparqleError` for a model whose queries do not spell.
    """
    name = next((name for name in OBJECTIVES if isinstance(model, PretrainModel) and name in model.objective), None)
    if name is None or model.adapter.qformer is None:
        raise SparqleError(
            f"words have times where a Q-Former learned --objective {' or '.join(OBJECTIVES)} in stage 1; give such a "
            "checkpoint"
        )
    speech = model.encode_speech(net_input["source"], net_input["padding_mask"])
    text = Stage1Text(
        net_input["text"], net_input["text_padding_mask"], net_input["identity"], net_input["utterance"],
        net_input.get("llm_text"),
    )  # fmt: skip
    batch = Stage1Batch(model.adapter, speech.values, speech.padding_mask, text, update=0)
    with reading(model.adapter.qformer) as finished:
        alignment = model.adapter.objectives[name].alignment(model.adapter, batch)
    # Paths and centres are looked for on the host, in what is read there once for all utterances.
    log_probs, lengths, tokens, attention = (
        part.cpu() for part in (alignment.log_probs, alignment.lengths, alignment.tokens, finished().mean)
    )
    tokenizer = model.tokenizer.tokenizer if name == "ctc" else model.llm_tokenizer
    rate = reading_rate(model)
    return [
        _times(text, tokenizer, log_probs[i, : lengths[i]], tokens[i], attention[i], rate)
        for i, text in enumerate(texts)
    ]


def _times(
    text: str, tokenizer: Any, log_probs: Tensor, tokens: Tensor, attention: Tensor, rate: float
) -> list[Word] | None:
    tokens = tokens[tokens >= 0]
    held = held_by(log_probs[:, : 1 + len(tokens)], tokens)
    if held is None:
        return None
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert coded["input_ids"] == tokens.tolist()
    words, members = words_of(text, coded["offset_mapping"])
    return [
        Word(word, centre(attention[[query for token in own for query in held[token]]]) / rate)
        for word, own in zip(words, members, strict=True)
    ]


def centre(attention: Tensor) -> float:
    """The middle frame of what queries (N, T) read together: as much of their attention is before it as behind it."""
    mass = attention.mean(dim=0).cumsum(dim=0)
    half = mass[-1] / 2
    place = int((mass < half).sum())
    before = float(mass[place - 1]) if place else 0.0
    return place + (float(half) - before) / max(float(mass[place]) - before, 1e-9)
