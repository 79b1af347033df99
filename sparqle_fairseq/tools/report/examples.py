"""Utterances to read: the worst and the median ones of each system, and those that differ most from the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.tools.report.measure import Counted

WORST, MEDIAN, CHANGED = 8, 4, 5


@dataclass(frozen=True)
class Example:
    id: str
    score: float
    reference: str
    hypothesis: str
    source: str | None = None
    baseline: str | None = None  # the baseline's text, in `gained` and `lost`
    change: float | None = None


@dataclass(frozen=True)
class Examples:
    """`metric` puts utterances in order. `gained` and `lost` are against the baseline; of itself there are none."""

    metric: str
    worst: list[Example]
    median: list[Example]
    gained: list[Example]
    lost: list[Example]


def examples(counted: Counted, baseline: str) -> dict[str, Examples]:
    """By system. Of equals the longest reference comes first: it shows more."""
    return {system: _of_system(counted, system, baseline) for system in counted.part.texts}


def _of_system(counted: Counted, system: str, baseline: str) -> Examples:
    part, metric = counted.part, counted.order[system].metric
    scores, theirs = counted.by_utterance(system), counted.by_utterance(baseline)
    lengths = np.array([len(text) for text in part.references])
    sign = 1 if metric.higher_is_better else -1
    order = np.lexsort((-lengths, sign * scores))  # worst first
    middle = max(0, len(order) // 2 - MEDIAN // 2)
    gain = sign * (scores - theirs)
    by_gain = np.lexsort((-lengths, -gain))

    def shown(i: int, change: float | None = None) -> Example:
        return Example(
            part.rows[i].id,
            float(scores[i]),
            part.references[i],
            part.texts[system][i].text,
            part.rows[i].source,
            None if change is None else part.texts[baseline][i].text,
            change,
        )

    return Examples(
        metric.name,
        [shown(int(i)) for i in order[:WORST]],
        [shown(int(i)) for i in order[middle : middle + MEDIAN]],
        [shown(int(i), float(gain[i])) for i in by_gain[:CHANGED] if gain[i] > 0],
        [shown(int(i), float(gain[i])) for i in by_gain[::-1][:CHANGED] if gain[i] < 0],
    )
