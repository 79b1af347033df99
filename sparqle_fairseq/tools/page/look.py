"""Pictures of a recording and of one of its segments, and the same in numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.data.audio import stream_audio
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.generate.figures import pixels, require_matplotlib, utterance_figure
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.model import SpeechModel
from sparqle_fairseq.tools.page.service import Stop
from sparqle_fairseq.tools.translate.translator import Settings, Target

_WIDTH, _HEIGHT = 1000, 90
RIVALS = 5


@dataclass(frozen=True)
class Inside:
    picture: np.ndarray  # (height, width, 3) uint8
    rivals: list[tuple[str, float]]  # the best first
    heard_bits: float | None  # bits a token that the speech adds; None where the model cannot tell
    ended: str

    def answer(self) -> str:
        """In words, whether the speech was heard and why the text ended."""
        if self.heard_bits is None:
            heard = "This model cannot be asked without its speech."
        else:
            verdict = "Yes" if self.heard_bits >= 0.5 else "Hardly"
            heard = f"{verdict}: the speech adds {self.heard_bits:.2f} bits a token (below 0.5 it may be made up)."
        return view.table(
            ["question", "answer"],
            [["Was the speech heard?", heard], ["Why did the text end?", f"{view.ENDINGS[self.ended]}"]],
            "This segment",
        ) + view.table(
            ["", "text", "score"],
            [[str(i + 1), text, f"{score:.3f}"] for i, (text, score) in enumerate(self.rivals)],
            "Texts that the search found, by mean log-probability of a token",
        )


def look_inside(model: SpeechModel, segment: Segment, target: Target, settings: Settings, stop: Stop) -> Inside:
    """Raises `SparqleError`: no matplotlib, or a model whose text cannot be followed back to the speech."""
    from dataclasses import replace

    require_matplotlib()
    several = max(settings.beam, RIVALS)
    asked = replace(settings, beam=several, nbest=RIVALS, flag_unheard=model.can_translate)
    ((text,),) = model.translate([segment], [target], asked, stop.watch)
    look = model.look(segment, target, asked, stop.watch)
    return Inside(
        pixels(utterance_figure(look)),
        [(text.text, text.score), *((rival.text, rival.score) for rival in text.rivals)],
        text.heard_bits,
        text.ended,
    )


def outline(path: str, spans: Sequence[tuple[float, float]], chosen: int | None) -> str:
    """The waveform with its segments of speech as an SVG, which takes the page's colours. Raises `AudioError`."""
    blocks = [np.abs(block) for block in stream_audio(path)]
    wave = np.concatenate(blocks) if blocks else np.zeros(1, np.float32)
    seconds = len(wave) / 16000
    hop = max(1, len(wave) // _WIDTH)
    peaks = wave[: len(wave) // hop * hop].reshape(-1, hop).max(axis=1)
    peaks = peaks / max(float(peaks.max()), 1e-6)
    x = np.arange(len(peaks)) * _WIDTH / len(peaks)
    middle = _HEIGHT / 2
    line = "".join(f"M{a:.1f} {middle - b * 40:.1f}V{middle + b * 40:.1f}" for a, b in zip(x, peaks, strict=True))
    boxes = "".join(
        f'<rect class="{"sq-chosen" if i == chosen else "sq-segment"}" x="{start / seconds * _WIDTH:.1f}" y="0" '
        f'width="{max(end - start, 0) / seconds * _WIDTH:.1f}" height="{_HEIGHT}"><title>segment {i + 1}</title></rect>'
        for i, (start, end) in enumerate(spans)
    )
    said = html.escape(f"waveform of {seconds:.1f} seconds with {len(spans)} segments of speech")
    return (
        f'<svg class="sq-wave" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{said}">{boxes}<path d="{line}"/></svg>'
    )
