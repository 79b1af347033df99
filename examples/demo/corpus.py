"""Makes the demo's sentences: English with its translations, split so that no test sentence is in any training text.

`python examples/demo/corpus.py --out build/demo` writes `corpus/{train,valid,test}.tsv`, which are to be spoken, and
`corpus/text.tsv`, written text for the language model. Columns: en, fr, de, es, ja.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from grammar import PATTERNS
from lexicon import Phrase
from tqdm import tqdm

from sparqle_fairseq.files import read_lines

SEEN = ("fr",)  # what the speech is translated into in training
ZERO_SHOT = ("de", "es", "ja")  # what is never trained with speech
LANGUAGES = (*SEEN, *ZERO_SHOT)
SHORTEST, LONGEST = 6, 10  # English words: two to three seconds of speech


@dataclass(frozen=True)
class Splits:
    """Sentences to be spoken. No two splits share a sentence in any of the languages."""

    train: list[Phrase]
    valid: list[Phrase]
    test: list[Phrase]

    def held_out(self) -> frozenset[str]:
        """All texts of the valid and test splits, in every language."""
        return frozenset(text for row in (*self.valid, *self.test) for text in row)


def words(text: str) -> list[str]:
    """The words of an English sentence in lower case, an `'s` apart."""
    return re.findall(r"o'clock|'s|[a-z]+", text.lower())


def sentences(rng: random.Random) -> Iterator[Phrase]:
    """Endless sentences of fitting length, every pattern equally often asked; repetitions occur."""
    while True:
        row = rng.choice(PATTERNS)(rng.choice)
        if SHORTEST <= len(row.en.split()) <= LONGEST:
            yield row


def build_splits(seed: int = 1, n_train: int = 3000, n_valid: int = 100, n_test: int = 320) -> Splits:
    """Distinct sentences for the three splits; no text of one split, in any language, is in another."""
    stream = sentences(random.Random(f"splits {seed}"))
    taken: set[str] = set()
    parts = []
    for size in (n_test, n_valid, n_train):
        part: dict[str, Phrase] = {}
        while len(part) < size:
            row = next(stream)
            if taken.isdisjoint(row):
                part[row.en] = row
        taken.update(text for row in part.values() for text in row)
        parts.append(list(part.values()))
    test, valid, train = parts
    return Splits(train, valid, test)


def text_corpus(splits: Splits, size: int, seed: int = 1, progress: bool = False) -> list[Phrase]:
    """The training sentences and more up to `size`, none of them held out in any language.

    Sentences repeat: the patterns that have few sentences (the weather) keep their share, as in the splits.
    """
    held_out = splits.held_out()
    rows = list(splits.train)
    stream = sentences(random.Random(f"text {seed}"))
    with tqdm(total=size, initial=len(rows), desc="text corpus", disable=not progress) as bar:
        while len(rows) < size:
            row = next(stream)
            if held_out.isdisjoint(row):
                rows.append(row)
                bar.update()
    check_disjoint(rows, held_out)
    return rows


def check_disjoint(rows: Iterable[Phrase], held_out: Iterable[str]) -> None:
    """Raises AssertionError where a held-out text is in the rows."""
    shared = set(held_out).intersection(text for row in rows for text in row)
    assert not shared, f"{len(shared)} held-out texts are in the training text, e.g. {min(shared)!r}"


def read_rows(path: Path) -> list[Phrase]:
    """The sentences of a file that `write_rows` wrote."""
    rows = csv.DictReader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [Phrase(**row) for row in rows]


def write_rows(path: Path, rows: Sequence[Phrase]) -> None:
    """Write sentences as tab-separated text with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(Phrase._fields), *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the demo's files")
    parser.add_argument("--train", type=int, default=3000, help="sentences to train on")
    parser.add_argument("--valid", type=int, default=100, help="sentences to validate with")
    parser.add_argument("--test", type=int, default=320, help="sentences to test with")
    parser.add_argument("--text", type=int, default=60000, help="sentences of text for the language model")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    splits = build_splits(args.seed, args.train, args.valid, args.test)
    text = text_corpus(splits, args.text, args.seed, progress=True)
    for name, rows in (("train", splits.train), ("valid", splits.valid), ("test", splits.test), ("text", text)):
        write_rows(args.out / "corpus" / f"{name}.tsv", rows)
        vocabulary = {word for row in rows for word in words(row.en)}
        print(f"{name}: {len(rows)} sentences, {len(vocabulary)} English words")
    print(*splits.test[0], sep="\n")


if __name__ == "__main__":
    main()
