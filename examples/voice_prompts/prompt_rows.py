"""Manifest rows: writing them, exchanging their audio for the shuffled control, counting them."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np

from sparqle_fairseq.files import write_text

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Row:
    """One manifest line; the fields are the columns."""

    id: str
    audio: str
    n_frames: int
    src_text: str
    tgt_text: str
    src_lang: str
    tgt_lang: str
    task: str


def write_manifest(path: Path, rows: Sequence[Row]) -> None:
    """Write a TSV with a header line; it appears under its name when it is whole."""
    lines = [
        "\t".join(field.name for field in fields(Row)),
        *("\t".join(map(str, astuple(row))) for row in rows),
    ]
    write_text(path, "\n".join(lines) + "\n")


def derange_audio(rows: Sequence[Row], seed: int) -> list[Row]:
    """The same rows with `audio` and `n_frames` moved along one cycle through all, so that none keeps its own."""
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} row(s) cannot exchange audio; at least 2 are needed.")
    cycle = np.random.default_rng(seed).permutation(len(rows))
    result = list(rows)
    for here, there in zip(cycle, np.roll(cycle, -1), strict=True):
        result[here] = replace(rows[here], audio=rows[there].audio, n_frames=rows[there].n_frames)
    return result


def table(manifests: Mapping[str, Sequence[Row]]) -> str:
    """Rows, clips, minutes of different audio and words of target text of every manifest."""
    lines = [f"{'manifest':<20}{'rows':>6}{'clips':>7}{'minutes':>9}{'words':>7}"]
    for name, rows in manifests.items():
        frames = {row.audio: row.n_frames for row in rows}
        minutes = sum(frames.values()) / SAMPLE_RATE / 60
        count = sum(len(row.tgt_text.split()) for row in rows)
        lines.append(f"{name:<20}{len(rows):>6}{len(frames):>7}{minutes:>9.2f}{count:>7}")
    return "\n".join(lines)
