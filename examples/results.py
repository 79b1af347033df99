"""Scores of a recipe's generated text: a table, sample lines, and the JSON report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.files import write_text
from sparqle_fairseq.scoring.outputs import read_generation
from sparqle_fairseq.scoring.scores import score


def read_scores(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Split -> scores: `wer` for transcriptions (`asr` in the name), `bleu` and `chrf` for translations."""
    results = {}
    for split, path in files.items():
        rows = read_generation(path)
        references, hypotheses = [row[1] for row in rows], [row[2] for row in rows]
        metrics = ["wer"] if "asr" in split else ["bleu", "chrf"]
        results[split] = {"n": len(rows), **score(references, hypotheses, metrics)}
    return results


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Text table: score with its 95 % interval, and the control with shuffled audio beside it."""
    lines = [f"{'':<16}{'metric':<8}{'score':>7}  {'95 % interval':<16}{'shuffled audio':>15}{'n':>6}"]
    signatures = []
    for split, found in results.items():
        if split.endswith("_shuffled"):
            continue
        control = results.get(f"{split}_shuffled", {})
        for metric in ("wer", "bleu", "chrf"):
            if metric not in found:
                continue
            value = found[metric]
            shuffled = f"{control[metric].value:.1f}" if metric in control else "-"
            interval = f"[{value.low:.1f}, {value.high:.1f}]"
            lines.append(f"{split:<16}{metric:<8}{value.value:>7.1f}  {interval:<16}{shuffled:>15}{found['n']:>6}")
            signatures.append(f"{metric}: {value.signature}")
    return "\n".join([*lines, *dict.fromkeys(signatures)])


def samples(files: Mapping[str, Path], count: int) -> str:
    """The first `count` utterances of each split: reference and hypothesis."""
    lines = []
    for split, path in files.items():
        for row, reference, hypothesis in read_generation(path)[:count]:
            lines += [f"{split} {row:<4} reference   {reference}", f"{'':<{len(split) + 6}}hypothesis  {hypothesis}"]
    return "\n".join(lines)


def report(results: Mapping[str, Mapping[str, Any]], languages: Sequence[str], seconds: float) -> dict[str, Any]:
    """The content of report.json."""

    def value(split: str, metric: str) -> float | None:
        return round(results[split][metric].value, 2) if split in results else None

    translation = {
        language: {
            "bleu": value(f"test_{language}", "bleu"),
            "chrf": value(f"test_{language}", "chrf"),
            "signature": results[f"test_{language}"]["bleu"].signature,
            "shuffled_bleu": value(f"test_{language}_shuffled", "bleu"),
            "n": results[f"test_{language}"]["n"],
        }
        for language in languages
    }
    return {
        "seconds": round(seconds, 1),
        "transcription": {"wer": value("test_asr", "wer"), "shuffled_wer": value("test_asr_shuffled", "wer")},
        "translation": translation,
    }


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
