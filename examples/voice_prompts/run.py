"""The voice prompts from the packages to scores: fetch, prepare, both stages, translation. Needs the demo's models."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pipeline import Command, CommandFailed, run_together  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402
from results import read_scores, report, samples, table, write_json  # noqa: E402

LANGUAGES = ("fr", "es")
SPLITS = [f"test_{kind}{control}" for kind in ("asr", *LANGUAGES) for control in ("", "_shuffled")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/voice_prompts"), help="folder of everything it makes")
    parser.add_argument("--demo", type=Path, default=Path("build/demo"), help="folder of `make demo`: HuBERT and LLM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage1-updates", type=int, default=400)
    parser.add_argument("--stage2-updates", type=int, default=800)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a training run")
    args = parser.parse_args()
    encoder, llm = args.demo / "hubert" / "checkpoint_last.pt", args.demo / "llm"
    for path in (encoder, llm):
        if not path.exists():
            sys.exit(f"error: {path} is not there; run `make demo` first, or name its folder with --demo")
    try:
        run(args, encoder, llm)
    except CommandFailed as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace, encoder: Path, llm: Path) -> None:
    started = time.monotonic()
    out = args.out
    recipe = Recipe(
        out=out,
        audio=out,
        features=out / "features",
        encoder=encoder,
        llm=llm,
        tokenizer=out / "tokenizer",
        stage1_updates=args.stage1_updates,
        stage2_updates=args.stage2_updates,
        seed=args.seed,
        threads=args.threads,
        stage1_options=("--query-start", "monotonic", "--queries", 48),
        stage2_options=("--eval-generate",),
    )

    def script(name: str, *more: object) -> Command:
        words = [sys.executable, HERE / f"{name}.py", "--build", out, *more]
        return Command(name, words, out / "logs" / f"{name}.log")

    run_together([script("fetch")], started)
    run_together([script("prepare", "--seed", args.seed)], started)
    manifests = [f"{split}_stage{stage}" for split in ("train", "valid") for stage in (1, 2)]
    run_together([recipe.extract(manifests), tokenizer(recipe, 600)], started)
    run_together([recipe.stage1()], started)
    run_together([recipe.stage2()], started)
    for first, second in zip(SPLITS[::2], SPLITS[1::2], strict=True):
        scoring = "wer" if "asr" in first else "sacrebleu"
        run_together([recipe.generate(split, scoring=scoring) for split in (first, second)], started)

    files = {split: recipe.hypotheses(split) for split in SPLITS}
    results = read_scores(files)
    seconds = time.monotonic() - started
    write_json(out / "report.json", report(results, LANGUAGES, seconds))
    print(f"\n{samples({split: files[split] for split in ('test_asr', 'test_fr', 'test_es')}, 3)}\n")
    print(table(results))
    print(f"\nin {seconds / 60:.1f} minutes; {out / 'report.json'}")


if __name__ == "__main__":
    main()
