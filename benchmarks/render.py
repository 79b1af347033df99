"""docs/performance.md and its pictures, from what benchmarks wrote: the last step of `make bench`.

The document has one block a benchmark, between two comments:

    <!-- benchmark NAME -->
    <!-- end of benchmark -->

A block is replaced where `build/bench/NAME.json` is there and else left as it is, so that a benchmark may be run alone.
A file without a block gets one at the end. Everything outside blocks is left. What grows is drawn to
`docs/performance_NAME.png`.

    python benchmarks/render.py
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_text, write_text, written_whole

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- benchmark ([\w-]+) -->\n).*?(<!-- end of benchmark -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    render(read_results(options.results), options.document, print)


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """What `benchmarks/alternate.py` describes, by name. Raises `SparqleError` naming a file that is none."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found = json.loads(read_text(path))
            results[str(found["name"])] = found
            block(found)
        except (ValueError, KeyError, TypeError) as error:
            raise SparqleError(f"{path} is no result of a benchmark ({reason(error)}); run it again") from error
    return results


def render(results: Mapping[str, Mapping[str, Any]], document: Path, say: Callable[[str], object]) -> None:
    """Renew the blocks of `document`, and draw what grows beside it."""
    text = read_text(document)
    seen = set()

    def renewed(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        seen.add(name)
        if name not in results:
            say(f"{name}: not measured now, so its table stays as it is")
            return match[0]
        return begin + _shown(results[name], document) + end

    new = _BLOCK.sub(renewed, text)
    for name in sorted(results.keys() - seen):
        begin, end = f"<!-- benchmark {name} -->\n", "<!-- end of benchmark -->\n"
        new = f"{new.rstrip()}\n\n{begin}{_shown(results[name], document)}{end}"
    for name, result in sorted(results.items()):
        if result["growth"]:
            draw(result["growth"], _picture(document, name))
        say(f"{name}: {len(result['rows'])} rows")
    if new != text:
        write_text(document, new)


def _shown(result: Mapping[str, Any], document: Path) -> str:
    shown = f"\n{block(result)}\n"
    if result["growth"]:
        of = "; ".join(f"{panel['of']} over {panel['over']}" for panel in result["growth"])
        shown += f"\n![{of}]({_picture(document, result['name']).name})\n"
    return shown + "\n"


def _picture(document: Path, name: str) -> Path:
    return document.with_name(f"{document.stem}_{name}.png")


def block(result: Mapping[str, Any]) -> str:
    """Markdown of one benchmark: its question, its rows, and on what they were measured."""
    machine = result["machine"]
    lines = [f"**{result['question']}** Against: {result['against']}.", ""]
    lines += ["| case | measured | figure | quartiles | goal | |", "|---|---|---|---|---|---|"]
    lines += [_row(row) for row in result["rows"]]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    where = machine["cpu"] if machine["device"] == "CPU" else f"{machine['device']} beside {machine['cpu']}"
    lines += [
        "",
        f"`{result['command']}` on {where}, {machine['cores']} cores, {threads}, torch {machine['torch']}, "
        f"{machine['gemm_gflops']:.0f} GFLOP/s in a matrix product of fp32.",
    ]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> str:
    value, low, high, goal = row["value"], row["low"], row["high"], row["goal"]
    aim, reached = "", ""
    if goal is not None:
        aim = f"{'≥' if row['at_least'] else '≤'} {_number(goal)}"
        reached = "reached" if (value >= goal if row["at_least"] else value <= goal) else "**not reached**"
    quartiles = "" if low is None else f"{_number(low)} to {_number(high)}"
    cells = (
        row["case"],
        row["measure"],
        _number(value),
        quartiles,
        aim,
        "; ".join(filter(None, (reached, row["note"]))),
    )
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


def _number(value: float) -> str:
    """Three digits that count, no exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}"


def draw(panels: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Cost over size, one panel an entry, both axes logarithmic, with what grows linearly as a grey line.

    The sizes that were measured are those that stand at the axis.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4.4 * len(panels), 3.6), layout="constrained", squeeze=False
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        lines = {name: sorted(map(tuple, points)) for name, points in panel["lines"].items()}
        for name, points in lines.items():
            axis.plot(*zip(*points, strict=True), label=name, marker="o", linewidth=1.6)
        (x, y), (last, _) = next(iter(lines.values()))[0], next(iter(lines.values()))[-1]
        axis.plot([x, last], [y, y * last / x], color="0.6", linewidth=1, linestyle="--", label="linear")
        axis.set(title=panel["of"], xlabel=panel["over"], ylabel=panel["unit"], xscale="log", yscale="log")
        axis.set_xticks(sorted({x for points in lines.values() for x, _ in points}))
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x == int(x) else f"{x:g}")
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=100, format="png")
    pyplot.close(figure)


if __name__ == "__main__":
    main()
