"""COMET (Rei et al., 2020) beside the other scores, from an environment of its own: its package does not go with ours.

The report writes the files that `comet-score` reads, with the command. What `--to_json` wrote is read back, and each of
its texts is held against the system's: scores of an older output are refused.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_json, write_text
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.scoring.scores import Measured
from sparqle_fairseq.tools.report.parts import Part

FOLDER, SCORES = "comet", "scores.json"
# torchmetrics, as unbabel-comet 2.2.7 asks for it, imports pkg_resources, which newer setuptools have no more.
INSTALL = "pip install unbabel-comet 'setuptools<81'"
MODEL = "Unbabel/wmt22-comet-da"
SIGNATURE = "mean of comet-score's utterances times 100; name the model"


@dataclass(frozen=True)
class Comet:
    """The mean of the utterances' scores, times 100 as in other tables. Counts: the score, and one."""

    name: str = "comet"
    higher_is_better: bool = True

    def value(self, sums: np.ndarray) -> float:
        return float(100 * sums[0] / sums[1])

    def values(self, sums: np.ndarray) -> np.ndarray:
        return 100 * sums[:, 0] / sums[:, 1]


def can_score(part: Part) -> bool:
    """Whether COMET has what it reads: it scores translations with their source."""
    return part.task == "translation" and all(normalised(row.source) for row in part.rows)


def file_name(system: str) -> str:
    """Of a system's texts: its name, with a sign in place of what a file system or shell would read otherwise."""
    return re.sub(r"[^\w.+-]", "_", system) + ".txt"


def write_inputs(part: Part, folder: Path) -> None:
    """What comet-score reads, and the command, in `folder/comet/PART`. Texts on one line each."""
    own = folder / FOLDER / part.name
    own.mkdir(parents=True)
    files: dict[str, Sequence[str | None]] = {
        "src.txt": [row.source for row in part.rows],
        "ref.txt": part.references,
        **{file_name(system): part.hypotheses(system) for system in part.texts},
    }
    for name, texts in files.items():
        write_text(own / name, "".join(f"{normalised(text)}\n" for text in texts))
    write_text(own / "run.sh", f"#!/bin/sh\n# In an environment of its own: {INSTALL}\n{command(part)}\n")


def command(part: Part) -> str:
    """To be run in the folder of `write_inputs`."""
    systems = [file_name(system) for system in part.texts]
    words = ["comet-score", "-s", "src.txt", "-r", "ref.txt", "-t", *systems, "--model", MODEL, "--to_json", SCORES]
    return shlex.join(words)


def read_scores(part: Part, folder: Path) -> dict[str, dict[str, Measured]]:
    """By system, from what `run.sh` wrote into an earlier report's folder `comet`.

    Raises:
        SparqleError: the scores of a system are missing, not numbers, or of other texts.
    """
    path = folder / part.name / SCORES
    content = read_json(path, "file of COMET's scores")
    if not isinstance(content, Mapping):
        raise SparqleError(f"{path}: found no scores by file; give what comet-score --to_json wrote")
    by_file = {Path(str(name)).name: records for name, records in content.items()}
    found = {}
    for system in part.texts:
        name = file_name(system)
        if not isinstance(by_file.get(name), list):
            raise SparqleError(f"{path} has no scores of {name}; run {folder / part.name / 'run.sh'} for this report")
        records = by_file[name]
        if len(records) != len(part.rows):
            raise SparqleError(f"{path} has {len(records)} scores of {name}, and there are {len(part.rows)} utterances")
        scores = [
            _score(path, name, i, record, text)
            for i, (record, text) in enumerate(zip(records, part.hypotheses(system), strict=True))
        ]
        table = np.stack([np.array(scores), np.ones(len(scores))], axis=1)
        metric = Comet()
        found[system] = {metric.name: Measured(metric, table, SIGNATURE)}
    return found


def _score(path: Path, name: str, i: int, record: Any, text: str) -> float:
    score = record.get("COMET") if isinstance(record, Mapping) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise SparqleError(f"{path}: the score {i} of {name} is {score!r}, which is no number; run comet-score again")
    if normalised(record.get("mt")) != normalised(text):
        raise SparqleError(
            f"{path}: the score {i} of {name} is of the text {str(record.get('mt'))[:40]!r}, and the system wrote "
            f"{text[:40]!r}; run comet-score on the files of this report"
        )
    return float(score)
