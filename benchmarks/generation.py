"""What does the search cost beside transformers' `generate`, and how does that grow?

Both answer the same embeddings of prompts with the same random Llama, by as many tokens, and have to find the same
texts. In "equal" every utterance gets 16 tokens, in "different" 8 to 24 (of the larger model 4 to 12), so that some
are done before others.

"The LLM's forward passes alone" are those of our search, with the cache, as many rows and positions each, and nothing
else: no search over this LLM that reads as many beams is faster. "With their sums" are the same and, of each row of
logits, the logarithm of the sum of exponentials, without which no logit is a log-probability.

    python benchmarks/generation.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from alternate import Benchmark, Growth, Result, Row, Settings, alternate, run
from torch import Tensor

import sparqle_fairseq
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.search import SearchSettings, search
from sparqle_fairseq.models.stage2.decoder import PromptedLLM

BENCHMARK = Benchmark(
    name="generation",
    question="What does the search cost, for 8 utterances and a vocabulary of 49,152?",
    against="transformers' generate on the same embeddings, with the same texts as its answer",
    minutes=12,
)
UTTERANCES, PROMPT, TOKENS, VOCABULARY = 8, 64, 16, 49_152
BATCHES, VOCABULARIES = (1, 4, 16), (4_096, 32_768, 262_144)  # of what grows
# What the decoder reads of a batch; here the embeddings of the prompts are there already.
NO_INPUT = dict.fromkeys(("source", "padding_mask", "prompt", "prompt_padding_mask"))


@dataclass(frozen=True)
class Shape:
    """Of a Llama."""

    name: str
    layers: int
    width: int
    heads: int
    key_heads: int


# In the first the search's own share can be seen; the second has the width of SmolLM2-135M and 6 of its 30 layers.
SMALL = Shape("2 layers, width 128", 2, 128, 4, 2)
LARGER = Shape("6 layers, width 576", 6, 576, 9, 3)


def language_model(shape: Shape, vocabulary: int, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from sparqle_fairseq.data.text import wordpiece_tokenizer
    from sparqle_fairseq.models.llm.llm import LanguageModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=shape.width, intermediate_size=8 * shape.width // 3,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.key_heads,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=2048,
    )  # fmt: skip
    names = {"unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = wordpiece_tokenizer(["a b c"], 60, list(names.values()))
    model = LlamaForCausalLM(config).eval()
    return LanguageModel(
        model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names), shape.name, torch.float32
    ).to(device)


@dataclass(frozen=True)
class Prompts:
    embeddings: Tensor  # (B, P, M), padded at the left
    seen: Tensor  # (B, P)
    tokens: Tensor  # (B,) those of the answers, without the end

    @classmethod
    def of(cls, width: int, tokens: Tensor, device: str) -> Prompts:
        count = tokens.numel()
        lengths = torch.linspace(PROMPT, 3 * PROMPT // 4, count).long()
        embeddings = torch.randn(count, PROMPT, width, generator=torch.Generator().manual_seed(1)) * 0.05
        seen = torch.arange(PROMPT) >= PROMPT - lengths[:, None]
        return cls(embeddings.to(device), seen.to(device), tokens.to(device))

    def alone(self) -> list[Prompts]:
        """One by one, without padding."""
        found = []
        for i, seen in enumerate(self.seen):
            embeddings = self.embeddings[i : i + 1, seen]
            found.append(
                Prompts(embeddings, torch.ones_like(embeddings[..., 0], dtype=torch.bool), self.tokens[i : i + 1])
            )
        return found


@torch.no_grad()
def ours(llm: Any, prompts: Prompts, beam: int) -> list[list[int]]:
    decoder = PromptedLLM(llm, lambda *_: (prompts.embeddings, prompts.seen))
    most = prompts.tokens
    found = search(
        decoder, NO_INPUT, SearchSettings(beam=beam), Limits(most, most, ["length"] * most.numel()), pad=llm.pad,
        end=llm.end, keys=torch.arange(most.numel(), device=most.device),
    )  # fmt: skip
    return [row[0].tokens for row in found]


def rows_of(llm: Any, run: Callable[[], object]) -> list[int]:
    """How many rows each of the LLM's forward passes has in a run."""
    rows: list[int] = []
    hook = llm.register_forward_pre_hook(lambda _, given: rows.append(given[0].size(0)))
    try:
        run()
    finally:
        hook.remove()
    return rows


@torch.no_grad()
def passes(llm: Any, prompts: Prompts, rows: Sequence[int], summed: bool = False) -> None:
    """The forward passes of a search: over the prompts, then over a token for each of so many rows."""
    decoder = PromptedLLM(llm, lambda *_: (prompts.embeddings, prompts.seen))
    logits, state = decoder.start(NO_INPUT)
    held = rows[0]
    if summed:
        _sum(logits)
    for count in rows[1:]:
        columns = torch.arange(count, device=prompts.tokens.device)
        if count != held:
            state = decoder.reorder(state, columns * held // count)
            held = count
        logits, state = decoder.step(columns, state)
        if summed:
            _sum(logits)


def _sum(logits: Tensor) -> None:
    for few in logits.split(4):  # which stay in a cache
        few.logsumexp(dim=1)


@torch.no_grad()
def theirs(llm: Any, prompts: Prompts, beam: int) -> list[list[int]]:
    from transformers import LogitsProcessor

    class AfterItsTokens(LogitsProcessor):
        """The end, after as many tokens as the utterance gets, and not before."""

        def __init__(self) -> None:
            self.most, self.said = prompts.tokens.repeat_interleave(beam)[:, None], 0

        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            ends = torch.arange(scores.size(1), device=scores.device) == llm.end
            wrong = ends != (self.said >= self.most)
            self.said += 1
            return scores.masked_fill(wrong, -torch.inf)

    longest = int(prompts.tokens.max()) + 1
    beams = {"early_stopping": True} if beam > 1 else {}
    found = llm.model.generate(
        inputs_embeds=prompts.embeddings, attention_mask=prompts.seen.long(), num_beams=beam, do_sample=False,
        max_new_tokens=longest, logits_processor=[AfterItsTokens()], eos_token_id=llm.end, pad_token_id=0, **beams,
    )  # fmt: skip
    return [ids[: int(length) + 1].tolist() for ids, length in zip(found, prompts.tokens, strict=True)]


def measure(settings: Settings) -> Result:
    sparqle_fairseq.register()
    rows: list[Row] = []
    models = {shape: language_model(shape, VOCABULARY, settings.device) for shape in (SMALL, LARGER)}
    for shape, name, tokens in (
        (SMALL, "equal lengths", (TOKENS, TOKENS)),
        (SMALL, "different lengths", (TOKENS // 2, 3 * TOKENS // 2)),
        (LARGER, "different lengths", (TOKENS // 4, 3 * TOKENS // 4)),
    ):
        prompts = Prompts.of(shape.width, torch.linspace(*tokens, UTTERANCES).long(), settings.device)
        for beam, goal in ((5, 0.5), (1, 0.9)):
            rows += _case(models[shape], prompts, beam, f"{shape.name}, {_search(beam)}, {name}", goal, settings)
    return Result(rows, _growth(settings))


def _search(beam: int) -> str:
    return "greedy" if beam == 1 else f"beam {beam}"


def _case(llm: Any, prompts: Prompts, beam: int, case: str, goal: float, settings: Settings) -> list[Row]:
    found, expected = ours(llm, prompts, beam), theirs(llm, prompts, beam)
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    if same < len(found):
        raise RuntimeError(f"{case}: {len(found) - same} of {len(found)} texts are not transformers' own")
    rows = rows_of(llm, partial(ours, llm, prompts, beam))
    times = alternate(
        {
            "ours": partial(ours, llm, prompts, beam),
            "theirs": partial(theirs, llm, prompts, beam),
            "passes": partial(passes, llm, prompts, rows),
            "with sums": partial(passes, llm, prompts, rows, summed=True),
        },
        min(5, settings.rounds),
        clock=settings.clock,
    )
    seconds = f"{times['ours']:.2f} against {times['theirs']:.2f} s"
    return [
        Row.spread(case, "time / theirs", times.ratio("ours", "theirs"), goal=goal, note=seconds),
        Row.spread(case, "the LLM's forward passes alone: time / theirs", times.ratio("passes", "theirs")),
        Row.spread(case, "the LLM's forward passes with their sums: time / theirs", times.ratio("with sums", "theirs")),
        *_one_at_a_time(llm, prompts, beam, case, rows, settings),
    ]


def _one_at_a_time(
    llm: Any, prompts: Prompts, beam: int, case: str, rows: Sequence[int], settings: Settings
) -> list[Row]:
    each = [(one, rows_of(llm, partial(ours, llm, one, beam))) for one in prompts.alone()]
    times = alternate(
        {
            "batch": partial(ours, llm, prompts, beam),
            "alone": lambda: [ours(llm, one, beam) for one, _ in each],
            "passes of the batch": partial(passes, llm, prompts, rows),
            "passes alone": lambda: [passes(llm, one, own) for one, own in each],
        },
        min(3, settings.rounds),
        warm_ups=0,
        clock=settings.clock,
    )
    what = "one at a time / as a batch"
    only = times.ratio("passes alone", "passes of the batch")
    return [
        Row.spread(case, what, times.ratio("alone", "batch"), goal=4, at_least=True),
        Row.spread(case, f"the LLM's forward passes alone: {what}", only),
    ]


def _growth(settings: Settings) -> list[Growth]:
    """Milliseconds of a step of the whole batch, over the batch and over the vocabulary."""
    rounds = min(2, settings.rounds)
    over_batch: dict[str, list[tuple[float, float]]] = {}
    over_vocabulary: dict[str, list[tuple[float, float]]] = {}
    llm = language_model(SMALL, VOCABULARY, settings.device)
    for count in BATCHES:
        _add(over_batch, llm, count, count, rounds, settings)
    for vocabulary in VOCABULARIES:
        _add(over_vocabulary, language_model(SMALL, vocabulary, settings.device), vocabulary, 8, rounds, settings)
    unit = "milliseconds a step"
    return [
        Growth("utterances in a batch", unit, f"{SMALL.name}, vocabulary {VOCABULARY:,}", over_batch),
        Growth("vocabulary", unit, f"{SMALL.name}, 8 utterances", over_vocabulary),
    ]


def _add(
    lines: dict[str, list[tuple[float, float]]], llm: Any, x: float, count: int, rounds: int, settings: Settings
) -> None:
    tokens = torch.full((count,), TOKENS // 2)
    prompts = Prompts.of(llm.width, tokens, settings.device)
    sides: Mapping[str, Any] = {
        "beam 5": partial(ours, llm, prompts, 5),
        "transformers, beam 5": partial(theirs, llm, prompts, 5),
        "greedy": partial(ours, llm, prompts, 1),
        "transformers, greedy": partial(theirs, llm, prompts, 1),
    }
    times = alternate(sides, rounds, clock=settings.clock)
    for name in sides:
        lines.setdefault(name, []).append((x, 1000 * times[name] / (TOKENS // 2 + 1)))


if __name__ == "__main__":
    run(BENCHMARK, measure)
