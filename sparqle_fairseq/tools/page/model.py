"""What the page asks of a model, and a checkpoint of fairseq-train or an exported folder as such a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.generate.interrupt import Watch
from sparqle_fairseq.tools.page.languages import trained_languages
from sparqle_fairseq.tools.translate.loaded import Loaded, open_model
from sparqle_fairseq.tools.translate.translator import Settings, Target, Text, Translator

if TYPE_CHECKING:
    from sparqle_fairseq.generate.inspection import Look


@dataclass(frozen=True)
class About:
    """What the page says of its model: names, and no paths of the server."""

    checkpoint: str
    encoder: str
    llm: str | None  # None: stage 1
    device: str

    def __str__(self) -> str:
        parts = [self.checkpoint, f"encoder {self.encoder}", f"LLM {self.llm}" if self.llm else "no LLM (stage 1)"]
        return " · ".join([*parts, self.device])


class SpeechModel(Protocol):
    """A model behind the page. It is asked by one request at a time."""

    about: About
    trained: tuple[str, ...]  # codes of the languages that it was trained to translate into; empty: not known
    spoken: str  # code of the language that it was trained to hear
    can_translate: bool

    def wordings(self, task: str, language: str) -> tuple[str, ...]:
        """Ways to ask, as `Target.instruction` takes them; the first is the usual one."""
        ...

    def check(self, settings: Settings) -> None:
        """Raises `SparqleError` where the settings contradict each other."""
        ...

    def translate(
        self, segments: Sequence[Segment], targets: Sequence[Target], settings: Settings, watch: Watch
    ) -> list[list[Text]]:
        """Texts of each segment, one for each target. `watch` is called before each token and may raise."""
        ...

    def read(self, transcript: str, seconds: float, target: Target, settings: Settings, watch: Watch) -> Text:
        """What its LLM makes of a transcript in the place of the speech."""
        ...

    def look(self, segment: Segment, target: Target, settings: Settings, watch: Watch) -> Look:
        """The hypothesis of one segment, looked into."""
        ...


class CheckpointModel:
    """A checkpoint of stage 1 or 2, or an exported folder.

    `trained` overrules what the training's manifest says, which may have moved.
    """

    def __init__(self, loaded: Loaded, checkpoint: str | Path, trained: Sequence[str] = ()) -> None:
        self.loaded = loaded
        encoder, llm = loaded.parts
        self.can_translate = Translator(loaded, Settings()).can_translate
        self.about = About(
            _short(checkpoint),
            _short(encoder),
            _short(llm) if llm and self.can_translate else None,
            loaded.device.type.replace("cuda", "GPU").replace("cpu", "CPU"),
        )
        self.trained = tuple(trained or (trained_languages(checkpoint) if self.can_translate else ()))
        self.spoken = loaded.spoken
        language_name(self.spoken)

    def _translator(self, settings: Settings) -> Translator:
        return Translator(self.loaded, settings)

    def wordings(self, task: str, language: str) -> tuple[str, ...]:
        return self._translator(Settings()).wordings(task, language)

    def check(self, settings: Settings) -> None:
        self._translator(settings)

    def translate(
        self, segments: Sequence[Segment], targets: Sequence[Target], settings: Settings, watch: Watch
    ) -> list[list[Text]]:
        return self._translator(settings)(segments, targets, watch)

    def read(self, transcript: str, seconds: float, target: Target, settings: Settings, watch: Watch) -> Text:
        return self._translator(settings).read(transcript, seconds, target, watch)

    def look(self, segment: Segment, target: Target, settings: Settings, watch: Watch) -> Look:
        return self._translator(settings).look(segment, target, watch)


def load_checkpoint(checkpoint: str, languages: Sequence[str] = (), **places: Any) -> CheckpointModel:
    """A model of a checkpoint or an exported folder; `places` as for `open_model`. Raises `SparqleError`."""
    return CheckpointModel(open_model(checkpoint, **places), checkpoint, languages)


def told_apart(one: str, other: str) -> tuple[str, str]:
    """Short names of two places that differ, unless the places do not."""
    longest = max(len(Path(one).parts), len(Path(other).parts))
    names = ((_short(one, count), _short(other, count)) for count in range(2, longest + 1))
    return next((pair for pair in names if pair[0] != pair[1]), (_short(one), _short(other)))


def _short(place: object, count: int = 2) -> str:
    """The last names of a path: `stage2/checkpoint_last.pt`; a hub's `owner/name` as it is."""
    return "/".join(Path(str(place)).parts[-count:])
