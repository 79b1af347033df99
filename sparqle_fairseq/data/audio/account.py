"""What is to be said of a recording after it was read: what was lost, and what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparqle_fairseq.data.audio.errors import DamagedAudioError


@dataclass
class Account:
    """Filled while a recording is read; whole when its last block was read."""

    audio: str
    notes: list[str] = field(default_factory=list)  # what is odd: each a part of a sentence
    faults: list[str] = field(default_factory=list)  # what is lost, the same way
    lost_seconds: float = 0.0
    recordings: int = 1  # that were joined into the file
    cancelling_seconds: float = 0.0  # in which the channels cancel when they are averaged

    def note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)

    def lose(self, seconds: float, why: str) -> None:
        self.lost_seconds += max(0.0, seconds)
        if why not in self.faults:
            self.faults.append(why)

    @property
    def damage(self) -> str | None:
        """What is wrong with the file, as a sentence without a remedy."""
        if not self.faults:
            return None
        return f"{self.audio}: about {shown_seconds(self.lost_seconds)} are lost: {', and '.join(self.faults[:4])}"

    def sentences(self) -> list[str]:
        """All that is to be said, each with the file's name."""
        damage = self.damage
        said = [] if damage is None else [f"{damage}; what is left was read"]
        if self.cancelling_seconds:
            self.note(
                f"its channels cancel when they are averaged, for {shown_seconds(self.cancelling_seconds)} (one is the "
                "other turned over); the louder channel was used"
            )
        return said + [f"{self.audio}: {note}" for note in self.notes]

    def refuse_damage(self) -> None:
        """Raises `DamagedAudioError` where something is lost."""
        damage = self.damage
        if damage is not None:
            raise DamagedAudioError(f"{damage}; copy it again, or give --no-strict-audio to read what is left")


def shown_seconds(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds >= 0.05 else f"{1000 * seconds:.2g} ms"
