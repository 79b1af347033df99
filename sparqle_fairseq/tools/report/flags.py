"""Hypotheses that want a look: empty, looping, not heard, cut, in another language, not there at all."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.guard import is_loop
from sparqle_fairseq.generate.remarks import CUT, REPETITION, UNHEARD
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.tools.report.identify import HOW_TO_INSTALL, identifier_there, identify
from sparqle_fairseq.tools.report.parts import Part
from sparqle_fairseq.tools.report.written import Hypothesis

MEANING = {
    "missing": "the system wrote nothing; counted as empty",
    "empty": "no text",
    "loop": "repeats itself, or did and was made again",
    "unheard": "as likely without the speech",
    "cut": "ended at a limit, not by itself",
    "language": "in another language than was asked for",
}


@dataclass(frozen=True)
class Flags:
    """Of one system: flag -> rows. `languages`: what came out in place of the language that was asked for."""

    rows: dict[str, list[int]]
    languages: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """Of a part: flags by system, what a reader must know of them, and whether the language was looked at."""

    flags: dict[str, Flags]
    notes: list[str]
    identified: bool


def check(part: Part) -> Checked:
    """Look at every hypothesis of a part."""
    notes: list[str] = []
    look = part.language is not None and _can_identify(part, notes)
    flags = {}
    for system, texts in part.texts.items():
        rows: dict[str, list[int]] = {flag: [] for flag in MEANING}
        for i, hypothesis in enumerate(texts):
            for flag in _flags_of(hypothesis):
                rows[flag].append(i)
        languages: dict[str, list[int]] = {}
        if look and (found := identify(part.hypotheses(system), part.references, part.language or "")) is not None:
            for row, code in found.wrong.items():
                languages.setdefault(code, []).append(row)
            rows["language"] = sorted(found.wrong)
            mistaken = (
                f"{found.mistaken} of {found.looked} references look like another language to the identifier; such "
                "rows are not judged"
            )
            if found.mistaken and mistaken not in notes:
                notes.append(mistaken)
        flags[system] = Flags(rows, languages)
    return Checked(flags, notes, look)


def _flags_of(hypothesis: Hypothesis) -> list[str]:
    if hypothesis.missing:
        return ["missing"]
    found = [] if normalised(hypothesis.text) else ["empty"]
    if hypothesis.flag == REPETITION or is_loop(hypothesis.text):
        found.append("loop")
    if hypothesis.flag == UNHEARD:
        found.append("unheard")
    if hypothesis.ended in CUT:
        found.append("cut")
    return found


def _can_identify(part: Part, notes: list[str]) -> bool:
    if not identifier_there():
        notes.append(f"the language of the texts was not looked at: {HOW_TO_INSTALL}")
        return False
    try:
        known = identify([], [], part.language or "") is not None
    except SparqleError as error:
        notes.append(str(error))
        return False
    if not known:
        notes.append(f"the language of the texts was not looked at: the identifier does not know {part.language}")
    return known
