"""The whole report as plain values: what report.json holds, and what every table and page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_json
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.scoring.scores import Measured
from sparqle_fairseq.tools.report.breakdowns import breakdowns
from sparqle_fairseq.tools.report.comet import can_score, command
from sparqle_fairseq.tools.report.examples import examples
from sparqle_fairseq.tools.report.flags import MEANING, Checked, check
from sparqle_fairseq.tools.report.languages import language_summary
from sparqle_fairseq.tools.report.measure import Counted, Rules, count
from sparqle_fairseq.tools.report.parts import Part

VERSION = 1
KIND = "sparqle report"
MOST_IDS = 50  # of a flag; the count is that of all


def content_of(
    parts: Sequence[Part],
    baseline: str,
    rules: Rules,
    columns: Sequence[str] = (),
    seen: Sequence[str] | None = None,
    comet: Mapping[str, Mapping[str, Mapping[str, Measured]]] | None = None,
) -> dict[str, Any]:
    """The report's content.

    Args:
        columns: of the manifest, to break scores down by.
        seen: languages that were trained on; all others are zero-shot.
        comet: by part and system, COMET's scores.

    Raises:
        SparqleError: nothing can be scored.
    """
    scored = [part for part in parts if part.rows]
    if not scored:
        raise SparqleError("no utterance has a reference, so there is nothing to report; give references")
    systems = list(scored[0].texts)
    shown = [_part(part, baseline, rules, columns, (comet or {}).get(part.name)) for part in scored]
    return {
        "kind": KIND,
        "version": VERSION,
        "systems": systems,
        "baseline": baseline,
        "settings": {"draws": rules.draws, "trials": rules.trials, "seed": rules.seed, "normaliser": rules.normaliser},
        "flags": MEANING,
        "parts": shown,
        "languages": None if seen is None else language_summary(shown, systems, seen),
    }


def read_content(path: str | Path) -> dict[str, Any]:
    """What a report.json holds. Raises `SparqleError` where it is none, or of another version."""
    content = read_json(path, "report")
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise SparqleError(f"{path} is no report; give the report.json that sparqle report wrote")
    if content.get("version") != VERSION:
        raise SparqleError(f"{path} is a report of version {content.get('version')}; make it again")
    return content


def _part(
    part: Part,
    baseline: str,
    rules: Rules,
    columns: Sequence[str],
    comet: Mapping[str, Mapping[str, Measured]] | None,
) -> dict[str, Any]:
    counted = count(part, rules, comet)
    checked = check(part)
    notes = [*counted.notes, *checked.notes]
    if part.without_reference:
        notes.insert(0, f"{part.without_reference} utterances have no reference and are not scored")
    silent = sum(not normalised(row.source) for row in part.rows)
    if part.task == "translation" and 0 < silent < len(part.rows):
        notes.append(f"{silent} utterances have no transcript, so there are no files for COMET")
    return {
        "name": part.name,
        "title": part.title,
        "task": part.task,
        "language": part.language,
        "n": len(part.rows),
        "without_reference": part.without_reference,
        "notes": notes,
        "metrics": {
            name: {"signature": counted.signatures[name], "higher_is_better": _higher(counted, name)}
            for name in counted.metrics
        },
        "scores": _plain(counted.scores(rules)),
        "differences": _plain(counted.differences(baseline, rules)) if len(part.texts) > 1 else {},
        "breakdowns": [_plain(asdict(found)) for found in breakdowns(counted, rules, columns)],
        "flags": _flags(part, checked),
        "identified": checked.identified,
        "examples": {system: asdict(found) for system, found in examples(counted, baseline).items()},
        "comet": command(part) if can_score(part) else None,
    }


def _higher(counted: Counted, name: str) -> bool:
    return next(iter(counted.tables.values()))[name].metric.higher_is_better


def _flags(part: Part, checked: Checked) -> dict[str, Any]:
    def shown(rows: Sequence[int]) -> dict[str, Any]:
        return {"count": len(rows), "ids": [part.rows[i].id for i in rows[:MOST_IDS]]}

    return {
        system: {
            "rows": {flag: shown(rows) for flag, rows in found.rows.items() if rows},
            "languages": {code: shown(rows) for code, rows in sorted(found.languages.items())},
        }
        for system, found in checked.flags.items()
    }


def _plain(value: Any) -> Any:
    """Plain values of dataclasses in dictionaries and lists."""
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_plain(own) for own in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
