"""Training curves of fairseq logs, as lists and as a picture."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

Curve = list[tuple[int, float]]


def read_curves(log: Path) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """(training, validation): metric -> [(update, value)] of a log written with --log-format simple."""
    training: dict[str, Curve] = {}
    validation: dict[str, Curve] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        inner, valid = "train_inner" in line, "valid on '" in line
        if not inner and not valid:
            continue
        values = {name: float(value) for name, value in re.findall(r"(\w+)[= ](-?\d+(?:\.\d+)?)(?=[,| ]|$)", line)}
        update = int(values.pop("num_updates", -1))
        if update < 0:
            continue
        for name, value in values.items():
            (training if inner else validation).setdefault(name, []).append((update, value))
    return training, validation


def draw_curves(panels: Mapping[str, tuple[Mapping[str, Curve], str]], path: Path) -> None:
    """One panel for each entry: title -> (curves, label of the y axis). Written as a PNG."""
    # fairseq wants details in every log, and matplotlib has many: where it lies, each font, when it is imported.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 3.4), layout="constrained", squeeze=False
    )
    for axis, (title, (curves, label)) in zip(axes[0], panels.items(), strict=True):
        for name, curve in curves.items():
            updates, values = zip(*curve, strict=True) if curve else ((), ())
            axis.plot(updates, values, label=name, marker="o" if len(curve) < 8 else None, linewidth=1.6)
        axis.set_title(title)
        axis.set_xlabel("update")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
