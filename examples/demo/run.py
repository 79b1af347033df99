"""The demo: speech is made, every part is trained, a held-out test set is translated and scored. `make demo` runs it.

From nothing to a table in about a quarter of an hour on two CPU cores. Every command that it runs is printed so that
it can be pasted; the training and translation commands are those of a real setting, with smaller numbers. Both stages
run twice, side by side: as we recommend, and as published, at about equal CPU time.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from corpus import LANGUAGES, SEEN  # noqa: E402
from curves import draw_curves, read_curves  # noqa: E402
from data import demo_recipe, prepare  # noqa: E402
from pipeline import Command, CommandFailed, run_together, tool  # noqa: E402
from recipe import Recipe  # noqa: E402
from results import read_scores, report, samples, table, write_json  # noqa: E402

TRUE = tuple(f"test_{kind}" for kind in ("asr", *LANGUAGES))
# Adapters of about as many weights, with an output or a query for each 0.16 s of these sentences of 1.9 seconds.
ADAPTERS = {
    "conv": ("--adapter", "conv", "--speech-stride", 8, "--hidden-size", 180),
    "qformer": ("--query-start", "monotonic", "--queries", 12),
}
LLM_CTC = ("--objective", "llm-ctc", "--llm")
SPLITS = tuple(f"{split}{control}" for split in TRUE for control in ("", "_shuffled"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of everything the demo makes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--adapter", choices=ADAPTERS, default="conv", help="of the recommended run")
    parser.add_argument("--stage1-updates", type=int, default=1000, help="of the recommended run")
    parser.add_argument("--stage2-updates", type=int, default=1500, help="of the recommended run")
    parser.add_argument("--published-updates", type=int, nargs=2, default=(350, 1400), help="as published, both stages")
    args = parser.parse_args()
    try:
        run(args)
    except CommandFailed as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace) -> None:
    started = time.monotonic()
    out = args.out
    prepare(out, args.seed, started)
    ours = replace(
        demo_recipe(out, args.seed),
        threads=1,
        stage1_updates=args.stage1_updates,
        stage2_updates=args.stage2_updates,
        stage1_options=(*ADAPTERS[args.adapter], "--projector", "scaled", *LLM_CTC, out / "llm"),
        stage2_options=("--eval-generate", "--projector", "scaled"),
    )
    published = replace(
        ours,
        out=out / "published",
        stage1_updates=args.published_updates[0],
        stage2_updates=args.published_updates[1],
        stage1_options=(*ADAPTERS["qformer"], "--objective", "sparqle"),
    )
    both = (ours, published)
    run_together([recipe.stage1() for recipe in both], started)
    run_together([recipe.stage2() for recipe in both], started)

    def scoring(split: str) -> str:
        return "wer" if "asr" in split else "sacrebleu"

    jobs = [ours.generate(split, scoring=scoring(split)) for split in SPLITS]
    jobs += [published.generate(split, scoring=scoring(split)) for split in TRUE]
    for first in range(0, len(jobs), 2):
        run_together(jobs[first : first + 2], started)

    files = {split: ours.hypotheses(split) for split in SPLITS}
    results = read_scores(files)
    of_published = read_scores({split: published.hypotheses(split) for split in TRUE})
    picture = out / "curves.png"
    draw(ours, picture)
    draw(published, published.out / "curves.png")
    seconds = time.monotonic() - started
    content = report(results, LANGUAGES, seconds) | {"published": report(of_published, LANGUAGES, seconds)}
    write_json(out / "report.json", content)
    run_together([compared(out, ours, published)], started)
    print(f"\n{samples({split: files[split] for split in TRUE}, 4)}\n")
    print(f"as recommended\n{table(results)}\n")
    print(f"as published\n{table(of_published)}\n")
    print("Only French was in the speech training: the other languages are reached through the instruction alone.\n")
    print(ours.log("report").read_text(encoding="utf-8"))
    print(f"\nin {seconds / 60:.1f} minutes; {out / 'report.json'}, {picture}")


def compared(out: Path, ours: Recipe, published: Recipe) -> Command:
    """`sparqle report` over both, and over ours with every recording exchanged for another."""

    def files(name: str, recipe: Recipe, control: str = "") -> str:
        return f"{name}=" + ",".join(str(recipe.hypotheses(f"{split}{control}")) for split in TRUE)

    systems = [files("recommended", ours), files("as published", published), files("shuffled audio", ours, "_shuffled")]
    manifests = [word for split in TRUE for word in ("--manifest", ours.audio / f"{split}.tsv")]
    words = [
        tool("sparqle"),
        "report",
        *systems,
        *manifests,
        "--seen",
        ",".join(SEEN),
        "--output",
        out / "report",
        "--force",
    ]
    return Command("report", words, ours.log("report"))


def draw(recipe: Recipe, path: Path) -> None:
    panels = {}
    if recipe.log("hubert").exists():
        training, _ = read_curves(recipe.log("hubert"))
        panels["HuBERT"] = ({"loss": training.get("loss", [])}, "loss (bits)")
    training, _ = read_curves(recipe.log("stage1"))
    losses = {name: training[f"{name}_loss"] for name in ("stc", "stm", "stg", "llm_ctc") if f"{name}_loss" in training}
    panels["stage 1"] = (losses, "loss (nats)")
    training, validation = read_curves(recipe.log("stage2"))
    panels["stage 2"] = ({"loss": training.get("loss", [])}, "loss (nats)")
    scores = {"BLEU (French)": validation.get("bleu", []), "WER": validation.get("wer", [])}
    panels["stage 2, generated validation text"] = (scores, "percent")
    draw_curves(panels, path)


if __name__ == "__main__":
    main()
