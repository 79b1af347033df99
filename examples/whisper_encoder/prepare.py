"""Synthetic English speech in several voices beside the human voice prompts: manifests of stage 1 and of the test.

`python examples/whisper_encoder/prepare.py --build build/whisper_encoder` reads what voice_prompts/prepare.py left in
`prompts/` and writes `speech/*.wav` and `manifests/*.tsv`. No text of the valid and test prompts is in a training text.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one thread for each process that speaks

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parent / "demo")]

from announcements import recombine, unknown_share, words  # noqa: E402
from corpus import sentences  # noqa: E402
from voices import HIBARI, SAMPLE_RATE, VOICES, Flite, Line, speak  # noqa: E402

from sparqle_fairseq.data.manifest import read_manifest, write_manifest  # noqa: E402
from sparqle_fairseq.errors import SparqleError  # noqa: E402

COLUMNS = ("id", "audio", "n_frames", "src_text", "src_lang", "task", "speaker")
HUMAN = "human"


def human_rows(manifest: Path, folder: Path) -> list[dict[str, object]]:
    """Rows of one of the voice prompts' manifests, for a manifest in `folder`."""
    found = read_manifest(manifest, require=("src_text",))
    rows = [found.row(i) for i in range(len(found))]
    return [_row(row.id, os.path.relpath(row.audio, folder), row.n_frames, row.src_text, HUMAN) for row in rows]


def _row(name: str, audio: str, n_frames: int, text: str | None, speaker: str) -> dict[str, object]:
    cells = (name, audio, n_frames, text, "en", "transcription", speaker)
    return dict(zip(COLUMNS, cells, strict=True))


def plan(
    training: Sequence[str], held_out: Sequence[str], voices: Sequence[str], *, repeats: int, recombined: int,
    general: int, seed: int,
) -> list[Line]:  # fmt: skip
    """What is to be spoken: each training text in `repeats` voices, new announcements, and the demo's sentences."""
    rng = random.Random(f"voices {seed}")
    forbidden = {words(text) for text in held_out}
    texts = list(dict.fromkeys(text for text in training if words(text) not in forbidden))
    pairs = [(text, voice) for text in texts for voice in rng.sample(list(voices), min(repeats, len(voices)))]
    new = recombine(texts, recombined, seed, forbidden)
    stream = sentences(random.Random(f"general {seed}"))
    others: dict[str, None] = {}
    while len(others) < general:
        text = next(stream).en
        if words(text) not in forbidden:
            others[text] = None
    pairs += [(text, rng.choice(list(voices))) for text in (*new, *others)]
    return [Line(f"{i:05d}-{voice}", text, voice) for i, (text, voice) in enumerate(pairs)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", type=Path, default=Path("build/whisper_encoder"), help="folder of the recipe")
    parser.add_argument("--voices", nargs="+", choices=VOICES, default=list(VOICES))
    parser.add_argument("--repeats", type=int, default=2, help="voices that speak each training prompt's text")
    parser.add_argument("--recombined", type=int, default=700, help="new announcements, at most")
    parser.add_argument("--general", type=int, default=600, help="sentences of the demo's grammar")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(argv)
    try:
        run(args)
    except (SparqleError, OSError) as error:
        sys.exit(f"prepare: {error}")


def run(args: argparse.Namespace) -> None:
    build = args.build.resolve()
    human = {
        name: human_rows(build / "prompts" / f"{name}.tsv", build / "manifests")
        for name in ("train_stage1", "valid_stage1", "test_asr", "test_asr_shuffled")
    }
    texts = {name: [str(row["src_text"]) for row in rows] for name, rows in human.items()}
    lines = plan(
        texts["train_stage1"], texts["valid_stage1"] + texts["test_asr"], args.voices,
        repeats=args.repeats, recombined=args.recombined, general=args.general, seed=args.seed,
    )  # fmt: skip
    flite = Flite.find(build / "flite") if set(args.voices) - {HIBARI} else None
    lengths = speak(lines, build / "speech", flite, args.seed, args.workers)
    spoken = [
        _row(line.name, f"../speech/{line.name}.wav", length, line.text, line.voice)
        for line, length in zip(lines, lengths, strict=True)
    ]
    manifests = {**human, "train_stage1": human["train_stage1"] + spoken}
    (build / "manifests").mkdir(exist_ok=True)
    for name, rows in manifests.items():
        write_manifest(build / "manifests" / f"{name}.tsv", rows, COLUMNS)
    print(f"{'manifest':<20}{'rows':>6}{'human':>7}{'minutes':>9}{'words':>8}")
    for name, rows in manifests.items():
        minutes = sum(int(str(row["n_frames"])) for row in rows) / SAMPLE_RATE / 60
        count = sum(len(words(str(row["src_text"]))) for row in rows)
        own = sum(row["speaker"] == HUMAN for row in rows)
        print(f"{name:<20}{len(rows):>6}{own:>7}{minutes:>9.1f}{count:>8}")
    known = [str(row["src_text"]) for row in manifests["train_stage1"]]
    print(f"test words in no training text: {unknown_share(texts['test_asr'], known):.1f} %")


if __name__ == "__main__":
    main()
