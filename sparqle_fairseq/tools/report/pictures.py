"""The report's pictures: scores with intervals, and how they go with length and duration. SVG, letters as shapes."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sparqle_fairseq.tools.report.tables import NAMES, heading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 8.0  # inches
# Okabe and Ito's colours, which people who see few colours can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
MOST_SYSTEMS = len(COLOURS)


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def pictures(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Title -> SVG; the same bytes for the same report."""
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it describes every font to a log that wants details
    found = {}
    # A "$" in a name is a dollar; the salt makes the names inside the file, which are random otherwise.
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "report", "font.size": 9}):
        for part in content["parts"]:
            found[f"{part['title']}: scores"] = _svg(_scores(part))
            ranges = [each for each in part["breakdowns"] if each["unit"]]
            if ranges:
                by = " and ".join(each["by"] for each in ranges)
                found[f"{part['title']}: by {by}"] = _svg(_ranges(part, ranges))
    return found


def _scores(part: Mapping[str, Any]) -> Figure:
    """A panel a metric: systems below one another, dots with intervals."""
    metrics, systems = list(part["metrics"]), list(part["scores"])
    columns = min(len(metrics), 3)
    rows = -(-len(metrics) // columns)
    figure = _figure(rows * (0.9 + 0.28 * len(systems)))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    for axis, name in zip(axes[: len(metrics)], metrics, strict=True):
        for place, system in enumerate(systems):
            score = part["scores"][system][name]
            colour, marker = _look(place)
            axis.plot([score["low"], score["high"]], [place, place], color=colour, linewidth=2)
            axis.plot(score["value"], place, marker, color=colour, markersize=6)
        axis.set_title(heading(name, part["metrics"][name]["higher_is_better"]), fontsize=10)
        axis.set_yticks(range(len(systems)), [_short(system) for system in systems])
        axis.set_ylim(len(systems) - 0.5, -0.5)
        axis.grid(axis="x", alpha=0.3)
        axis.margins(x=0.08)
    return figure


def _ranges(part: Mapping[str, Any], ranges: list[Mapping[str, Any]]) -> Figure:
    """The first metric in quarters of the utterances, a panel for length and one for duration."""
    name, systems = next(iter(part["metrics"])), list(part["scores"])
    figure = _figure(3.2)
    for axis, found in zip(figure.subplots(1, len(ranges), squeeze=False, sharey=True)[0], ranges, strict=True):
        groups = found["groups"]
        width = 0.5 / max(len(systems), 1)
        for place, system in enumerate(systems):
            scores = [group["scores"][system][name] for group in groups]
            at = [i + (place - (len(systems) - 1) / 2) * width for i in range(len(groups))]
            colour, marker = _look(place)
            low = [score["value"] - score["low"] for score in scores]
            high = [max(score["high"] - score["value"], 0) for score in scores]
            values = [score["value"] for score in scores]
            axis.errorbar(at, values, [[max(x, 0) for x in low], high], fmt=marker, color=colour, markersize=5,
                          linewidth=1.4, label=_short(system))  # fmt: skip
        axis.set_xticks(range(len(groups)), [f"{group['name']}\nn={group['n']}" for group in groups], fontsize=8)
        axis.set_xlabel(f"{found['by']} ({found['unit']})")
        axis.grid(axis="y", alpha=0.3)
    axes = figure.axes
    axes[0].set_ylabel(NAMES[name])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(systems), 4), fontsize=8, frameon=False)
    return figure


def _look(place: int) -> tuple[str, str]:
    return COLOURS[place % MOST_SYSTEMS], MARKERS[place % MOST_SYSTEMS]


def _short(name: str, length: int = 24) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
