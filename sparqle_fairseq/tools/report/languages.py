"""Languages that were trained on beside those that were not: each one's scores, and the means of both kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import langcodes

from sparqle_fairseq.errors import SparqleError

SEEN, ZERO_SHOT = "seen", "zero-shot"


def language_summary(parts: Sequence[Mapping[str, Any]], systems: Sequence[str], seen: Sequence[str]) -> dict[str, Any]:
    """Of the parts that are translations into a known language, best first by the first metric of the first system.

    Raises `SparqleError` for a code that is none.
    """
    trained = {_standard(code) for code in seen}
    rows = [part for part in parts if part["task"] == "translation" and part["language"]]
    metrics = [name for name in (rows[0]["metrics"] if rows else {}) if all(name in part["metrics"] for part in rows)]
    listed = [
        {
            "language": part["language"],
            "kind": SEEN if _standard(part["language"]) in trained else ZERO_SHOT,
            "n": part["n"],
            "others": _others(part, systems[0]),
            "scores": {system: {name: part["scores"][system][name]["value"] for name in metrics} for system in systems},
        }
        for part in rows
    ]
    if metrics:
        first = systems[0], metrics[0]
        sign = -1 if rows[0]["metrics"][metrics[0]]["higher_is_better"] else 1
        listed.sort(key=lambda row: sign * row["scores"][first[0]][first[1]])
    means = []
    for kind in (SEEN, ZERO_SHOT):
        own = [row["scores"] for row in listed if row["kind"] == kind]
        if own:
            scores = {
                system: {name: sum(found[system][name] for found in own) / len(own) for name in metrics}
                for system in systems
            }
            means.append({"kind": kind, "languages": len(own), "scores": scores})
    return {"metrics": metrics, "rows": listed, "means": means}


def _others(part: Mapping[str, Any], system: str) -> dict[str, int] | None:
    """How many texts of a system came out in which other language, the commonest first; None: not looked at."""
    if not part.get("identified"):
        return None
    counts = {code: about["count"] for code, about in part["flags"][system]["languages"].items()}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _standard(code: str) -> str:
    try:
        language = langcodes.Language.get(code)
        if language.is_valid():
            return str(language)
    except ValueError:
        pass
    raise SparqleError(f"--seen: {code!r} is no language code; write for example fr,pt-BR")
