"""The test sets in parts that have scores of their own: one for each task and language of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.tools.report.expected import Expected, Split
from sparqle_fairseq.tools.report.written import Hypothesis


@dataclass(frozen=True)
class Part:
    """Utterances of one task and language that have a reference, and what every system wrote for them."""

    task: str
    language: str | None
    rows: tuple[Expected, ...]
    texts: Mapping[str, tuple[Hypothesis, ...]]  # by system
    without_reference: int = 0

    @property
    def name(self) -> str:
        """Of files: `translation_fr`."""
        return f"{self.task}_{self.language}" if self.language else self.task

    @property
    def title(self) -> str:
        spoken = {row.source_language for row in self.rows}
        languages = [language_name(self.language)] if self.language else []
        if self.task == "translation" and len(spoken) == 1 and (code := next(iter(spoken))) and languages:
            languages.insert(0, language_name(code))
        return f"{self.task.capitalize()}: {' to '.join(languages)}" if languages else self.task.capitalize()

    @property
    def references(self) -> list[str]:
        return [row.reference or "" for row in self.rows]

    def hypotheses(self, system: str) -> list[str]:
        return [hypothesis.text for hypothesis in self.texts[system]]


def parts_of(splits: Sequence[Split], texts: Mapping[str, Sequence[Sequence[Hypothesis]]]) -> list[Part]:
    """Parts in the order in which they come. `texts`: of each system, of each split, a hypothesis for every row."""
    rows = [row for split in splits for row in split.rows]
    flat = {name: [hypothesis for split in own for hypothesis in split] for name, own in texts.items()}
    members: dict[tuple[str, str | None], list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault((row.task, row.language), []).append(i)
    parts = []
    for (task, language), places in members.items():
        kept = [i for i in places if normalised(rows[i].reference)]
        own = {name: tuple(found[i] for i in kept) for name, found in flat.items()}
        parts.append(Part(task, language, tuple(rows[i] for i in kept), own, len(places) - len(kept)))
    return parts
