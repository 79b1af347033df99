"""Whisper's encoder, and English recordings with what is said in them: fetched, converted, spoken, in one call."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline import Command, run_together

from sparqle_fairseq.files import read_lines, write_text

HERE = Path(__file__).resolve().parent
TEST, CONTROL = "test_asr", "test_asr_shuffled"
MANIFESTS = ("train_stage1", "valid_stage1")


def prepare(build: Path, seed: int, started: float, test: int = 60, threads: int = 1) -> Path:
    """Make `manifests/`, `prompts/` and the encoder in `build` where they are missing; returns the encoder's folder."""

    def script(place: Path, name: str, *words: object) -> None:
        log = build / "logs" / f"{place.name}_{name}.log"
        run_together(
            [Command(f"{place.name} {name}", [sys.executable, place / f"{name}.py", *words], log, threads)], started
        )

    encoder, prompts = build / "whisper-base", HERE.parent / "voice_prompts"
    heard = (build / "manifests" / f"{CONTROL}.tsv").exists()
    if not (heard and encoder.is_dir()):
        script(HERE, "fetch", "--build", build)
    if not encoder.is_dir():
        script(HERE, "convert", build / "whisper-base-ct2", "--out", encoder)
    if not heard:
        script(prompts, "fetch", "--build", build / "prompts")
        script(prompts, "prepare", "--build", build / "prompts", "--test", test, "--seed", seed)
        script(HERE, "prepare", "--build", build, "--seed", seed)
    return encoder


def with_answers(source: Path, target: Path) -> None:
    """The manifest of stage 1 as one of stage 2: what the LLM is to answer is the transcript."""
    lines = [line.split("\t") for line in read_lines(source, "manifest")]
    column = lines[0].index("src_text")
    rows = [[*lines[0], "tgt_text", "tgt_lang"], *([*line, line[column], "en"] for line in lines[1:])]
    write_text(target, "".join("\t".join(row) + "\n" for row in rows))


def every(source: Path, target: Path, count: int) -> None:
    """At most `count` rows of a manifest, evenly from its beginning to its end: some of every speaker and kind."""
    head, *rows = read_lines(source, "manifest")
    count = min(count, len(rows))
    write_text(target, "".join(f"{line}\n" for line in (head, *(rows[i * len(rows) // count] for i in range(count)))))
