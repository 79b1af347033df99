"""Trains the demo's language model on text: it transcribes English and translates it into all languages of the corpus.

`python examples/demo/lm.py --out build/demo` reads `corpus/text.tsv` and writes a Hugging Face directory, `llm/`.
The prompts are those that the plugin builds for speech, with the embedded English words in the place of the speech.
A model that had only met words in a row would take an adapter's query vectors for noise, so the words do not stand in
a row here: `spread` lays them out in order over more places than there are words, some places repeat a word or stay
empty, and the embeddings get noise. All languages are read from the same input, which is what lets an adapter that
has only learned French reach the others through the instruction. `--plain` trains an ordinary model, which has met
words in a row and nothing else; asked for it, it writes the sentence before the translation (`--answer
transcript-first`).
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import numpy as np
import torch
from corpus import LANGUAGES, check_disjoint, read_rows
from lexicon import Phrase
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm

from sparqle_fairseq.data.answers import BOTH, transcript_first
from sparqle_fairseq.data.prompts import Prompt, PromptBuilder
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.scoring.scores import score

ensure_torchaudio()  # before transformers, whose models import torchaudio
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

PAD, BEGIN, USER, ASSISTANT, END = "<|pad|>", "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TASKS = {"en": "transcription", **dict.fromkeys(LANGUAGES, "translation")}
BOTH_SHARE = 0.25  # of an ordinary model's translations that the sentence itself goes before
MAX_PLACES = 28  # places that the words are spread over, at most
EMPTY = -1


def build_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BEGIN, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def spread(source: Sequence[int], rng: random.Random) -> list[int]:
    """Lay tokens out in order over some more places; a place left over repeats its neighbour or is `EMPTY`.

    The number of places, how they are shared out and the share of empty ones are drawn anew for every sentence.
    """
    places = rng.randint(len(source), max(MAX_PLACES, len(source)))
    starts = sorted(rng.sample(range(places), len(source)))
    keep = rng.random()
    slots = [EMPTY] * places
    for token, start, stop in zip(source, starts, [*starts[1:], places], strict=True):
        for place in range(start, stop):
            slots[place] = token if place == start or rng.random() < keep else EMPTY
    return slots


@dataclass
class Batch:
    """Right-padded sequences, all (B, L): token ids, places of the source, target ids (-100: no loss), padding."""

    tokens: Tensor
    source: Tensor
    target: Tensor
    padding: Tensor


class Examples:
    """Draws training examples: a sentence, a target language and a wording of the instruction."""

    def __init__(
        self, rows: Sequence[Phrase], tokenizer: PreTrainedTokenizerFast, seed: int, plain: bool = False
    ) -> None:
        self.rng = random.Random(seed)
        self.plain = plain
        self.builder = PromptBuilder(tokenizer)
        self.templates = PromptTemplates.load()
        self.pad = int(tokenizer.pad_token_id)
        self.sources = tokenizer([row.en for row in rows], add_special_tokens=False)["input_ids"]
        self.answers = {
            lang: tokenizer([getattr(row, lang) for row in rows], add_special_tokens=False)["input_ids"]
            for lang in TASKS
        }
        self.answers_after = {
            lang: tokenizer([transcript_first(row.en, getattr(row, lang)) for row in rows], add_special_tokens=False)[
                "input_ids"
            ]
            for lang, task in TASKS.items()
            if plain and task == "translation"
        }
        self.prompts: dict[str, Prompt] = {}

    def prompt(self, lang: str, rng: random.Random | None, both: bool = False) -> Prompt:
        """The token ids around the source for one wording of the task; `both` asks for the sentence as well."""
        text = self.templates.instruction(BOTH if both else TASKS[lang], lang, rng=rng)
        if text not in self.prompts:
            self.prompts[text] = self.builder.encode(text)
        return self.prompts[text]

    def lay_out(self, source: Sequence[int], rng: random.Random) -> list[int]:
        """The source as the model meets it: spread, or as it is."""
        return list(source) if self.plain else spread(source, rng)

    def draw(self, size: int) -> Batch:
        """A batch of random examples, translations twice as often as transcriptions."""
        sequences = []
        for _ in range(size):
            row = self.rng.randrange(len(self.sources))
            lang = self.rng.choice([lang for lang in ("en", *LANGUAGES, *LANGUAGES) if self.answers[lang][row]])
            both = lang in self.answers_after and self.rng.random() < BOTH_SHARE
            prompt, slots = self.prompt(lang, self.rng, both), self.lay_out(self.sources[row], self.rng)
            answer = [*(self.answers_after if both else self.answers)[lang][row], self.builder.end_of_turn]
            head = [*prompt.before, *slots, *prompt.after]
            is_source = [False] * len(prompt.before) + [True] * len(slots)
            sequences.append((head, is_source, answer))
        length = max(len(head) + len(answer) for head, _, answer in sequences)
        tokens = np.full((size, length), self.pad)
        source, padding = np.zeros((size, length), dtype=bool), np.ones((size, length), dtype=bool)
        target = np.full((size, length), -100)
        for i, (head, is_source, answer) in enumerate(sequences):
            end = len(head) + len(answer)
            tokens[i, :end] = [*head, *answer]
            source[i, : len(is_source)] = is_source
            padding[i, :end] = False
            target[i, len(head) - 1 : end - 1] = answer
        return Batch(*map(torch.from_numpy, (tokens, source, target, padding)))


def embed(model: LlamaForCausalLM, tokens: Tensor, source: Tensor, noise: Tensor | None = None) -> Tensor:
    """Embeddings (B, L, M), zero at empty places; `noise` (B, 1) is that of the source, relative to the words."""
    table = model.get_input_embeddings().weight
    values = nn.functional.embedding(tokens.clamp_min(0), table)
    values = values.masked_fill((tokens == EMPTY).unsqueeze(-1), 0.0)
    if noise is not None:
        strength = noise * table.detach().pow(2).mean().sqrt() * source
        values = values + torch.randn_like(values) * strength.unsqueeze(-1)
    return values


def loss_of(model: LlamaForCausalLM, batch: Batch, noise: float) -> Tensor:
    """Mean cross-entropy of the answers, logits computed only there."""
    strength = torch.rand(len(batch.tokens), 1) * noise
    hidden = model.model(
        inputs_embeds=embed(model, batch.tokens, batch.source, strength), attention_mask=(~batch.padding).long()
    ).last_hidden_state
    wanted = batch.target != -100
    return nn.functional.cross_entropy(model.lm_head(hidden[wanted]), batch.target[wanted])


def train(model: LlamaForCausalLM, examples: Examples, args: argparse.Namespace) -> None:
    """AdamW with a linear warm-up and decay."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 50, (args.steps - step) / args.steps)
    )
    mean = 0.0
    with tqdm(range(args.steps), desc="language model", mininterval=1.0) as bar:
        for step in bar:
            loss = loss_of(model, examples.draw(args.batch), args.noise)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            mean += (loss.item() - mean) * max(0.05, 1 / (step + 1))
            if step % 20 == 0:
                bar.set_postfix(loss=f"{mean:.3f}")


@torch.no_grad()
def translate(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, examples: Examples, sources: Sequence[str], lang: str
) -> list[str]:
    """Greedy answers to English text that is spread as in training, with the first wording of the instruction."""
    rng, answers = random.Random(1), []
    prompt = examples.prompt(lang, None)
    for start in range(0, len(sources), 64):
        ids = tokenizer(list(sources[start : start + 64]), add_special_tokens=False)["input_ids"]
        heads = [[*prompt.before, *examples.lay_out(source, rng), *prompt.after] for source in ids]
        length = max(map(len, heads))
        tokens = torch.tensor([[examples.pad] * (length - len(head)) + head for head in heads])
        made = model.generate(
            inputs_embeds=embed(model, tokens, torch.zeros_like(tokens)),
            attention_mask=(tokens != examples.pad).long(),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=examples.builder.end_of_turn,
            pad_token_id=examples.pad,
        )
        answers += tokenizer.batch_decode(made, skip_special_tokens=True)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the demo's files")
    parser.add_argument("--vocab", type=int, default=2800, help="tokens")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32, help="examples a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--noise", type=float, default=0.5, help="strongest noise at the source, relative to the words")
    parser.add_argument("--plain", action="store_true", help="words in a row and no noise: an ordinary language model")
    parser.add_argument("--name", default="llm", help="folder in --out that it is written to")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rows = read_rows(args.out / "corpus" / "text.tsv")
    held_out = {split: read_rows(args.out / "corpus" / f"{split}.tsv") for split in ("valid", "test")}
    check_disjoint(rows, (text for part in held_out.values() for row in part for text in row if text))

    templates = PromptTemplates.load()
    wordings = [templates.instruction(task, lang) for lang, task in TASKS.items()]
    tasks = sorted({*TASKS.values(), *([BOTH] if args.plain else [])})
    wordings += [line for task in tasks for line in templates.wordings[task]["default"]]
    tokenizer = build_tokenizer([*(text for row in rows[:20000] for text in row), *wordings * 200], args.vocab)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=args.width,
            intermediate_size=3 * args.width,
            num_hidden_layers=args.layers,
            num_attention_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    examples = Examples(rows, tokenizer, args.seed, args.plain)
    args.noise = 0.0 if args.plain else args.noise
    started = time.time()
    train(model, examples, args)
    model.eval()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {time.time() - started:.0f} seconds")
    model.save_pretrained(args.out / args.name)
    tokenizer.save_pretrained(args.out / args.name)

    for lang in TASKS:
        references = [getattr(row, lang) for row in held_out["test"]]
        if not all(references):
            continue  # text without translations
        answers = translate(model, tokenizer, examples, [row.en for row in held_out["test"]], lang)
        bleu = score(references, answers, ["bleu"])["bleu"]
        print(f"held-out text, {len(answers)} sentences, English to {lang}: BLEU {bleu}")
        print(f"  {answers[0]}\n  {references[0]}")


if __name__ == "__main__":
    main()
