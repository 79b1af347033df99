"""Written English of the recordings' kind, for a small language model of the ablations (`demo/lm.py --plain`).

`python examples/whisper_encoder/text.py --build build/whisper_encoder --out DIR` writes `corpus/{text,valid,test}.tsv`
with the column `en` alone filled: the training transcripts, new announcements, sentences of the demo's grammar, and
words in no order, some of them invented; without these so small a model learns sentences, and not to repeat its input.
No text of the valid and test recordings is among them.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parent / "demo")]

from announcements import recombine, words  # noqa: E402
from corpus import sentences, write_rows  # noqa: E402
from lexicon import Phrase  # noqa: E402

from sparqle_fairseq.data.manifest import read_manifest  # noqa: E402


def transcripts(manifest: Path) -> list[str]:
    found = read_manifest(manifest, require=("src_text",))
    return [found.row(i).src_text or "" for i in range(len(found))]


def in_no_order(texts: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Endless rows of 2 to 14 words of `texts`, every fourth with its letters in another order."""
    known = sorted({word for text in texts for word in text.split()})
    while True:
        drawn = rng.choices(known, k=rng.randint(2, 14))
        yield " ".join("".join(rng.sample(word, len(word))) if rng.random() < 0.25 else word for word in drawn)


def text_corpus(training: Sequence[str], held_out: Sequence[str], size: int, seed: int) -> list[str]:
    """A quarter announcements, old and new, a quarter the demo's grammar, half words; nothing that is held out."""
    forbidden = {words(text) for text in held_out}
    own = [text for text in dict.fromkeys(training) if words(text) not in forbidden]
    found = [*own, *recombine(own, size // 4, seed, forbidden)]
    rng = random.Random(f"text {seed}")
    grammar, mixed = (sentence.en for sentence in sentences(rng)), in_no_order(own, rng)
    while len(found) < size:
        text = next(mixed if len(found) % 3 else grammar)
        if words(text) not in forbidden:
            found.append(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/whisper_encoder"), help="folder of the recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets corpus/*.tsv")
    parser.add_argument("--size", type=int, default=40000, help="sentences of text")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    manifests = args.build / "manifests"
    held_out = {"valid": transcripts(manifests / "valid_stage1.tsv"), "test": transcripts(manifests / "test_asr.tsv")}
    training = transcripts(manifests / "train_stage1.tsv")
    text = text_corpus(training, [each for part in held_out.values() for each in part], args.size, args.seed)
    untranslated = [""] * (len(Phrase._fields) - 1)
    for name, lines in {**held_out, "text": text}.items():
        write_rows(args.out / "corpus" / f"{name}.tsv", [Phrase(line, *untranslated) for line in lines])
        print(f"{name}: {len(lines)} sentences, {len(set(lines))} different")


if __name__ == "__main__":
    main()
