"""More English text of a kind: new sentences that go through given ones, from one to the next where two words agree."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from voice_prompts import prompt_texts

SHORTEST, LONGEST = 4, 14  # words
TRIES = 200  # walks for each sentence that is wanted, before there are taken to be no more


def words(text: str) -> tuple[str, ...]:
    """What two texts are compared by, as in the voice prompts' splits: letters and digits, in lower case."""
    return tuple(prompt_texts.words(text))


def recombine(texts: Sequence[str], count: int, seed: int, known: Collection[tuple[str, ...]]) -> list[str]:
    """Up to `count` different sentences, none of which is among `known` or `texts` (compared by `words`).

    A walk starts with a text's first two words and goes on with whatever follows the last two words in some text
    (letter case and punctuation aside), to the end of one. Fewer come back where the texts give no more.
    """
    rng = random.Random(f"recombine {seed}")
    starts: list[list[str]] = []
    following: defaultdict[tuple[str, ...], list[str | None]] = defaultdict(list)
    for text in dict.fromkeys(texts):
        split = text.split()
        if len(split) < 3:
            continue
        starts.append(split[:2])
        for i in range(2, len(split) + 1):
            following[words(" ".join(split[i - 2 : i]))].append(split[i] if i < len(split) else None)
    seen = {*known, *map(words, texts)}
    found: list[str] = []
    for _ in range(TRIES * count if starts else 0):
        if len(found) == count:
            break
        sentence = _walk(rng, starts, following)
        if sentence and words(sentence) not in seen:
            seen.add(words(sentence))
            found.append(sentence)
    return found


def _walk(
    rng: random.Random, starts: Sequence[Sequence[str]], following: dict[tuple[str, ...], list[str | None]]
) -> str | None:
    sentence = list(rng.choice(starts))
    while len(sentence) <= LONGEST:
        after = following.get(words(" ".join(sentence[-2:])))
        word = rng.choice(after) if after else None
        if word is None:
            return " ".join(sentence) if len(sentence) >= SHORTEST else None
        sentence.append(word)
    return None


def unknown_share(texts: Iterable[str], training: Iterable[str]) -> float:
    """Share of the words of `texts`, in percent, that occur in no training text."""
    vocabulary = {word for text in training for word in words(text)}
    spoken = [word for text in texts for word in words(text)]
    return 100 * sum(word not in vocabulary for word in spoken) / max(len(spoken), 1)
