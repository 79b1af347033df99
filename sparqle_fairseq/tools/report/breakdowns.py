"""A part's scores by length, duration, speaker, corpus and any column of the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.error_rates import words
from sparqle_fairseq.tools.report.expected import CORPUS
from sparqle_fairseq.tools.report.measure import Counted, Rules, Value
from sparqle_fairseq.tools.report.parts import Part

LENGTH, DURATION = "length", "duration"
QUARTERS = 4
MOST_GROUPS = 20  # of a column; the rest is one group
OTHERS, NONE = "(others)", "(none)"
FEWEST = 20  # utterances; the intervals of fewer say little


@dataclass(frozen=True)
class Group:
    name: str
    n: int
    scores: dict[str, dict[str, Value]]  # by system and metric


@dataclass(frozen=True)
class Breakdown:
    by: str
    unit: str
    groups: list[Group]


def breakdowns(counted: Counted, rules: Rules, columns: Sequence[str] = ()) -> list[Breakdown]:
    """By length and duration, by corpus and speaker where there are several, by `columns`.

    Raises `SparqleError` where no row has a column.
    """
    part = counted.part
    for column in columns:
        if not any(column in row.columns for row in part.rows):
            raise SparqleError(f"--by {column}: the manifest has no such column; it has {', '.join(_columns(part))}")
    found = [
        (LENGTH, "words of the reference", _ranges([float(len(words(text))) for text in part.references], "{:.0f}"))
    ]
    seconds = [row.seconds for row in part.rows]
    if all(value is not None for value in seconds):
        found.append((DURATION, "seconds", _ranges([value or 0.0 for value in seconds], "{:.1f}")))
    wanted = dict.fromkeys((*(name for name in (CORPUS, "speaker") if len(_values(part, name)) > 1), *columns))
    found += [(column, "", _by_column(part, column)) for column in wanted]
    return [
        Breakdown(by, unit, [Group(name, len(rows), counted.scores(rules, rows)) for name, rows in groups])
        for by, unit, groups in found
        if len(groups) > 1 or by in columns
    ]


def _ranges(values: Sequence[float], form: str) -> list[tuple[str, list[int]]]:
    """Quarters of the utterances; fewer where many have the same value."""
    array = np.array(values)
    inner = np.unique(np.quantile(array, np.arange(1, QUARTERS) / QUARTERS))
    places = np.searchsorted(inner, array)  # a value on a bound belongs below it
    groups = []
    for place in np.unique(places):
        rows = np.flatnonzero(places == place)
        low, high = (form.format(bound) for bound in (array[rows].min(), array[rows].max()))
        groups.append((low if low == high else f"{low} to {high}", rows.tolist()))
    return groups


def _by_column(part: Part, column: str) -> list[tuple[str, list[int]]]:
    """The commonest values, most utterances first."""
    values = [row.columns.get(column) or NONE for row in part.rows]
    kept = [value for value, _ in Counter(values).most_common(MOST_GROUPS)]
    names = [value if value in kept else OTHERS for value in values]
    order = [*kept, *([OTHERS] if OTHERS in names else [])]
    return [(name, [i for i, own in enumerate(names) if own == name]) for name in order]


def _values(part: Part, column: str) -> set[str]:
    return {row.columns[column] for row in part.rows if row.columns.get(column)}


def _columns(part: Part) -> list[str]:
    return list(dict.fromkeys(name for row in part.rows for name in row.columns))
