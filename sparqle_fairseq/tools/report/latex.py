"""The report's tables of scores and of differences for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sparqle_fairseq.tools.report.tables import (
    DOWN,
    MARK,
    UP,
    Table,
    difference_table,
    language_tables,
    score_table,
    signatures,
)

_COMMANDS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
    "|": r"\textbar{}", UP: r"$\uparrow$", DOWN: r"$\downarrow$", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip
_SPECIAL = re.compile("|".join(map(re.escape, _COMMANDS)))
# What pdfLaTeX does not know: all but Latin letters and the usual dashes and quotation marks.
_BEYOND_LATIN = re.compile("[^\n -\u017f\u2013\u2014\u2018-\u201e\u2026]")
_INTERVAL = re.compile(r"^(\S+) (\[[^\]]*\])(\*?)$")


def latex(content: Mapping[str, Any]) -> str:
    """Tables for `\\input`, with booktabs and T1 fonts; other scripts than Latin need XeLaTeX or LuaLaTeX."""
    tables = []
    for part in content["parts"]:
        tables.append((f"scores-{part['name']}", score_table(part, content["baseline"])))
        if (differences := difference_table(part, content["baseline"])) is not None:
            tables.append((f"differences-{part['name']}", differences))
    if content["languages"] is not None:
        tables += [(f"languages-{i}", table) for i, table in enumerate(language_tables(content["languages"]), 1)]
    shown = [_table(label, table) for label, table in tables]
    lines = ["% Made by sparqle report. \\usepackage[T1]{fontenc} \\usepackage{booktabs}"]
    if strange := sorted(set(_BEYOND_LATIN.findall("".join(shown)))):
        lines.append(f"% For XeLaTeX or LuaLaTeX, with a font that has {' '.join(strange[:20])}")
    lines += [f"% {line}" for line in signatures(content["parts"], content["settings"])]
    return "\n".join([*lines, *shown]) + "\n"


def _table(label: str, table: Table) -> str:
    columns = "".join("l" if i in table.texts else "r" for i in range(len(table.head)))
    rows = [" & ".join(map(_cell, row)) + r" \\" for row in table.rows]
    caption = _safe(f"{table.title}. {table.note}".strip())
    return "\n".join(
        [
            "",
            r"\begin{table}[t]",
            r"\centering",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_safe, table.head)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]', '-', label)}}}",
            r"\end{table}",
        ]
    )


def _cell(text: str) -> str:
    """A score with its interval in small print, and the mark raised."""
    match = _INTERVAL.match(text)
    if match is None:
        return _safe(text)
    value, span, mark = match.groups()
    raised = rf"\rlap{{$^{{{MARK}}}$}}" if mark else ""
    return rf"{_minus(value)}{raised} {{\scriptsize {_minus(span)}}}"


def _minus(text: str) -> str:
    """Numbers in text mode have a hyphen for a minus."""
    return re.sub(r"-(?=\d)", "$-$", text)


def _safe(text: str) -> str:
    """A bracket or asterisk at the beginning is put in braces: behind the end of a row it would belong to that."""
    safe = _SPECIAL.sub(lambda match: _COMMANDS[match[0]], text)
    return f"{{{safe[0]}}}{safe[1:]}" if safe.startswith(("[", "*")) else safe
