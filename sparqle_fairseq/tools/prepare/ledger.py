"""What became of all that a corpus holds: what was left out is counted and named, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

NAMED = 5  # of what was left out this much is named on the screen; a list names everything


@dataclass
class Ledger:
    """What one step left out and what else it has to say."""

    left_out: list[tuple[str, str]] = field(default_factory=list)  # what (file, `file:line` or utterance), reason
    notes: list[str] = field(default_factory=list)  # sentences

    def leave(self, what: object, reason: str) -> None:
        """Something is not in any manifest."""
        self.left_out.append((str(what), reason))

    def note(self, sentence: str) -> None:
        """Something that was read in one of two ways."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def reasons(self) -> Counter[str]:
        """How many were left out for each reason."""
        return Counter(reason for _, reason in self.left_out)

    def named(self) -> list[str]:
        """The first of what was left out, one of every reason before two of any, each with its reason."""
        return [f"{what} ({reason})" for what, reason in _mixed(self.left_out)]

    def sentence(self) -> str:
        """`3 text without a recording, 1 …: a.txt (text without a recording), …`; empty where all was used."""
        if not self.left_out:
            return ""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons().items())
        more = ", …" if len(self.left_out) > NAMED else ""
        return f"left out {reasons}: {', '.join(self.named())}{more}"


def _mixed(left_out: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first `NAMED`, one of every reason before two of any, in their order."""
    seen: Counter[str] = Counter()
    ranked = []
    for k, (what, reason) in enumerate(left_out):
        if seen[reason] < NAMED:
            ranked.append((seen[reason], k, (what, reason)))
        seen[reason] += 1
    return [entry for _, _, entry in sorted(sorted(ranked)[:NAMED], key=lambda each: each[1])]
