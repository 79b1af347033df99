"""Two answers side by side: of two checkpoints, or of the speech and of its typed transcript."""

from __future__ import annotations

from dataclasses import dataclass

from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.languages import choose_tokenizers
from sparqle_fairseq.scoring.scores import measure
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.limits import check_text
from sparqle_fairseq.tools.page.model import SpeechModel
from sparqle_fairseq.tools.page.service import BATCH_SECONDS, Service, Stop
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.run import batches
from sparqle_fairseq.tools.translate.translator import Settings, Target

CHECKPOINTS, TRANSCRIPT = "checkpoints", "transcript"


@dataclass(frozen=True)
class Comparison:
    names: tuple[str, str]
    texts: tuple[str, str]
    language: str
    reference: str

    def scores(self) -> list[tuple[str, float]]:
        """chrF of each against the reference, or of the second against the first where there is none."""
        if self.reference:
            return [
                (f"chrF of {name}", _chrf(self.reference, text, self.language))
                for name, text in zip(self.names, self.texts, strict=True)
            ]
        return [("chrF between the two", _chrf(*self.texts, self.language))] if self.texts[0].strip() else []

    def shown(self) -> str:
        rows = [list(pair) for pair in zip(self.names, self.texts, strict=True)]
        scores = [[name, f"{value:.1f}"] for name, value in self.scores()]
        return view.table(["", "text"], rows, "Side by side") + (
            view.table(["score", "%"], scores, "How near they are") if scores else ""
        )


def compare(
    service: Service,
    recording: Recording,
    target: Target,
    settings: Settings,
    kind: str,
    transcript: str | None,
    reference: str | None,
    stop: Stop,
) -> Comparison:
    """The two answers, when it is this request's turn.

    Raises:
        SparqleError: there is no second checkpoint, no transcript was typed, or the recording cannot be used.
    """
    transcript, reference = check_text(transcript, "the transcript"), check_text(reference, "the reference")
    seconds = service.limits.seconds_of(recording)
    if kind == CHECKPOINTS and service.rival is None:
        raise SparqleError("the page was started with one checkpoint; give it a second one with --compare-with")
    if kind == TRANSCRIPT and not transcript:
        raise SparqleError("no transcript was typed; write down what is said in the recording")
    if kind not in (CHECKPOINTS, TRANSCRIPT):
        raise SparqleError(f"{kind!r} cannot be compared; choose {CHECKPOINTS} or {TRANSCRIPT}")

    def work(stop: Stop) -> Comparison:
        segments = list(service.segments(recording, "vad"))
        first = _text(service.model, segments, target, settings, stop)
        if kind == CHECKPOINTS:
            assert service.rival is not None
            second = _text(service.rival, segments, target, settings, stop)
            return Comparison(
                (service.model.about.checkpoint, service.rival.about.checkpoint),
                (first, second),
                target.language,
                reference,
            )
        read = service.model.read(transcript, seconds, target, settings, stop.watch)
        return Comparison(("from the speech", "from the transcript"), (first, read.text), target.language, reference)

    return service.in_turn(work, stop)


def _text(model: SpeechModel, segments: list[Segment], target: Target, settings: Settings, stop: Stop) -> str:
    found = []
    for part in batches(iter(segments), BATCH_SECONDS):
        some = [event for event in part if isinstance(event, Segment)]
        found += [row[0].text.strip() for row in model.translate(some, [target], settings, stop.watch)]
    return " ".join(filter(None, found))


def _chrf(reference: str, text: str, language: str) -> float:
    return measure([reference], [text], "chrf", choose_tokenizers([reference], language)).value
