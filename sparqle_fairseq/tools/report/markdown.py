"""The report as Markdown: tables to paste into an issue, a README or a wiki."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sparqle_fairseq.tools.report.tables import (
    Table,
    breakdown_tables,
    difference_table,
    flag_table,
    language_tables,
    score_table,
    signatures,
)

_SPECIAL = re.compile(r"([\\|*_`<>\[\]#])")


def markdown(content: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """`pictures`: title -> path beside the file."""
    blocks = ["# Report"]
    for part in content["parts"]:
        blocks.append(table_text(score_table(part, content["baseline"]), "##"))
        others = [difference_table(part, content["baseline"]), *breakdown_tables(part)]
        blocks += [table_text(table, "###") for table in others if table is not None]
        blocks.append(table_text(flag_table(part, content["flags"]), "###"))
        blocks += [f"Note: {_safe(note)}" for note in part["notes"]]
    if content["languages"] is not None:
        blocks += [table_text(table, "##") for table in language_tables(content["languages"])]
    blocks += [f"![{_safe(title)}]({path})" for title, path in pictures.items()]
    blocks.append(
        "## Signatures\n\n" + "\n".join(f"    {line}" for line in signatures(content["parts"], content["settings"]))
    )
    return "\n\n".join(blocks) + "\n"


def score_tables(content: Mapping[str, Any]) -> str:
    """The tables of scores alone, for a README."""
    return "\n\n".join(table_text(score_table(part, content["baseline"]), "") for part in content["parts"]) + "\n"


def table_text(table: Table, level: str = "###") -> str:
    """A table under its title; without a `level` the title is a line of bold text, and an empty one is none."""
    named = f"{level} {_safe(table.title)}" if level else f"**{_safe(table.title)}**"
    title = [named, ""] if table.title else []
    line = "|".join("---" if i in table.texts else "---:" for i in range(len(table.head)))
    rows = [f"| {' | '.join(map(_safe, row))} |" for row in (table.head, *table.rows)]
    note = f"\n\n{_safe(table.note)}" if table.note else ""
    return "\n".join([*title, rows[0], f"|{line}|", *rows[1:]]) + note


def _safe(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
