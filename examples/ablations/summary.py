"""The table and the picture of an ablation: means over the seeds with intervals, every seed, differences of arms."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

# 97.5 % points of Student's t by degrees of freedom: three seeds have two.
STUDENT = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776}


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean, by Student's t; infinite for a single value."""
    if len(values) < 2:
        return float("inf")
    return STUDENT.get(len(values) - 1, 2.571) * stdev(values) / len(values) ** 0.5


def summary(
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    costs: Mapping[str, Sequence[float]],
    seconds: float,
    columns: Mapping[str, str],
    parts: Mapping[str, str] | None = None,
) -> str:
    """Text table of the arms; `columns` are the titles of the scores, `parts` of those in a second table.

    Below it the differences to the first arm. Seeds have corpora and models of their own, which an arm and the first
    share: the differences are taken seed by seed, and spread less than the scores.
    """
    ends = {"": f"{'updates 1/2':>14}{'ms an update 1/2':>18}"}
    for arm, runs in scores.items():
        updates = f"{runs[0]['stage1_updates']:.0f}/{runs[0]['stage2_updates']:.0f}"
        if "end_updates" in runs[0]:  # those of a last part of stage 2
            updates += f"+{runs[0]['end_updates']:.0f}"
        cost = "/".join(f"{1000 * value:.0f}" if value else "-" for value in costs[arm])
        ends[arm] = f"{updates:>14}{cost:>18}"
    lines = _lines(scores, columns, ends)
    if parts:
        lines += ["", *_lines(scores, parts, {}), ""]
    lines.append(
        f"Mean ± half of its 95 % interval over {len(next(iter(scores.values())))} seeds (Student's t), and each seed; "
        f"{seconds:g} CPU seconds of training an arm."
    )
    return "\n".join(lines)


def _lines(
    scores: Mapping[str, Sequence[Mapping[str, float]]], columns: Mapping[str, str], ends: Mapping[str, str]
) -> list[str]:
    """Head, arms, differences to the first; `ends` is what stands behind the scores of an arm (\"\": of the head)."""
    lines = [f"{'':<28}" + "".join(f"{title:>36}" for title in columns.values()) + ends.get("", "")]
    for arm, runs in scores.items():
        cells = [cell([run[column] for run in runs]) for column in columns]
        lines.append(f"{arm:<28}" + "".join(cells) + ends.get(arm, ""))
    (name, first), *others = scores.items()
    if others:
        lines.append(f"Differences to {name}, seed by seed:")
    for arm, runs in others:
        pairs = list(zip(runs, first, strict=True))
        lines.append(f"{arm:<28}" + "".join(cell([run[c] - other[c] for run, other in pairs], "+") for c in columns))
    return lines


def cell(values: Sequence[float], sign: str = "") -> str:
    """The mean, half of its interval where there is one, and each value."""
    each = " ".join(f"{value:{sign}.1f}" for value in values)
    wide = half_width(values)
    spread = f"±{wide:.1f} " if wide != float("inf") else ""
    return f"{f'{mean(values):{sign}.1f} {spread}({each})':>36}"


def draw(scores: Mapping[str, Sequence[Mapping[str, float]]], path: Path, columns: Mapping[str, str]) -> None:
    """Every run as a point, the mean as a line."""
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(columns), figsize=(12, 1 + 0.45 * len(scores)), sharey=True)
    names = list(scores)
    for axis, (column, title) in zip(axes, columns.items(), strict=True):
        for row, name in enumerate(names):
            values = [run[column] for run in scores[name]]
            axis.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.7)
            axis.plot([mean(values)] * 2, [row - 0.3, row + 0.3], color="tab:orange", linewidth=2)
        axis.set_title(title, fontsize="medium")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)  # the first arm on top
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
