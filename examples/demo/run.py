"""The demo: speech is made, every part is trained, a held-out test set is translated and scored. `make demo` runs it.

From nothing to a table in about a quarter of an hour on two CPU cores. Every command that it runs is printed so that
it can be pasted; the training and translation commands are those of a real setting, with smaller numbers.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from curves import draw_curves, read_curves  # noqa: E402
from pipeline import Command, CommandFailed, run_together  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402
from results import read_scores, report, samples, table, write_json  # noqa: E402

LANGUAGES = ("fr", "de")
SPLITS = [f"test_{kind}{control}" for kind in ("asr", *LANGUAGES) for control in ("", "_shuffled")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of everything the demo makes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage1-updates", type=int, default=500)
    parser.add_argument("--stage2-updates", type=int, default=2400)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of a training run")
    parser.add_argument("--without-stage1", action="store_true", help="start stage 2 from a new adapter, to compare")
    args = parser.parse_args()
    try:
        run(args)
    except CommandFailed as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    started = time.monotonic()
    out, seed = args.out, args.seed
    recipe = Recipe(
        out=out,
        audio=out / "manifests",
        features=out / "features",
        encoder=out / "hubert" / "checkpoint_last.pt",
        llm=out / "llm",
        tokenizer=out / "tokenizer",
        stage1_updates=args.stage1_updates,
        stage2_updates=args.stage2_updates,
        seed=seed,
        threads=args.threads,
        stage1_options=("--query-start", "monotonic"),
        stage2_options=("--eval-generate",),
    )

    def script(name: str, *more: object) -> Command:
        words = [sys.executable, HERE / f"{name}.py", "--out", out, "--seed", seed, *more]
        return Command(name, words, out / "logs" / f"{name}.log")

    run_together([script("corpus")], started)
    run_together([script("speech", "--workers", 2)], started)
    run_together([script("hubert"), script("lm")], started)
    manifests = [f"{split}_stage{stage}" for split in ("train", "valid") for stage in (1, 2)]
    run_together([recipe.extract(manifests), tokenizer(recipe, 1000)], started)
    if args.without_stage1:
        run_together([recipe.stage2(pretrained=False)], started)
    else:
        run_together([recipe.stage1()], started)
        run_together([recipe.stage2()], started)
    for first, second in zip(SPLITS[::2], SPLITS[1::2], strict=True):
        scoring = "wer" if "asr" in first else "sacrebleu"
        run_together([recipe.generate(split, scoring=scoring) for split in (first, second)], started)

    files = {split: recipe.hypotheses(split) for split in SPLITS}
    results = read_scores(files)
    picture = out / "curves.png"
    draw(recipe, picture)
    seconds = time.monotonic() - started
    write_json(out / "report.json", report(results, LANGUAGES, seconds))
    print(f"\n{samples({split: files[split] for split in ('test_asr', 'test_fr', 'test_de')}, 4)}\n")
    print(table(results))
    print("German was never in the speech training: it is reached through the instruction alone.")
    print(f"\nin {seconds / 60:.1f} minutes; {out / 'report.json'}, {picture}")


def draw(recipe: Recipe, path: Path) -> None:
    panels = {}
    if recipe.log("hubert").exists():
        training, _ = read_curves(recipe.log("hubert"))
        panels["HuBERT"] = ({"loss": training.get("loss", [])}, "loss (bits)")
    if recipe.log("stage1").exists():
        training, _ = read_curves(recipe.log("stage1"))
        losses = {name: training.get(f"{name}_loss", []) for name in ("stc", "stm", "stg")}
        panels["stage 1"] = (losses, "loss (nats)")
    training, validation = read_curves(recipe.log("stage2"))
    panels["stage 2"] = ({"loss": training.get("loss", [])}, "loss (nats)")
    scores = {"BLEU (French)": validation.get("bleu", []), "WER": validation.get("wer", [])}
    panels["stage 2, generated validation text"] = (scores, "percent")
    draw_curves(panels, path)


if __name__ == "__main__":
    main()
