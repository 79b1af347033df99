"""Cuts a stream of samples into segments of bounded length: by voice activity, at fixed times, or not at all.

Samples are 16 kHz. Each way of cutting takes blocks and yields segments as soon as they are complete, and holds no
more audio than the segment that it is working on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from sparqle_fairseq.data.audio import SAMPLE_RATE

FRAME = 512  # samples; what the voice detector hears at a time
HYSTERESIS = 0.15  # speech goes on until the probability is this far below the threshold
# What no one hears is not speech, whatever way of cutting: -60 dB of full scale.
SILENCE_PEAK = 1e-3
SHORTEST = 0.1  # seconds; less than a syllable

Detector = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Segment:
    """A piece of a recording."""

    start: int  # first sample
    samples: np.ndarray  # (S,) float32

    @property
    def start_seconds(self) -> float:
        return self.start / SAMPLE_RATE

    @property
    def end_seconds(self) -> float:
        return (self.start + len(self.samples)) / SAMPLE_RATE

    @property
    def is_audible(self) -> bool:
        return len(self.samples) >= SHORTEST * SAMPLE_RATE and float(np.abs(self.samples).max()) >= SILENCE_PEAK


class Span(NamedTuple):
    """Samples from `start` up to and without `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class SpeechRule:
    """When speech begins, and where it is cut. Times in seconds."""

    threshold: float = 0.5  # probability of speech at which it begins
    pause: float = 0.5  # silence that ends a segment; shorter ones are bridged
    longest: float = 30.0  # longest segment
    shortest_speech: float = 0.25  # less than this is a click or a cough
    margin: float = 0.1  # kept before and after the speech


@dataclass
class SpeechSpans:
    """Turns a detector's probabilities, frame by frame, into spans of speech.

    A span ends at a pause of at least `rule.pause`. One that grows longer than `rule.longest` is cut in its longest
    pause, in its second half if there is one there; without any pause, at the frame that is least like speech.
    """

    rule: SpeechRule
    now: int = 0  # samples heard
    start: int | None = None  # where the span that is open begins
    speech_end: int = 0  # where the last frame of speech ended
    pauses: list[Span] = field(default_factory=list)  # silences inside the open span
    frames: list[float] = field(default_factory=list)  # probabilities since `start`
    given: int = 0  # no span begins before this sample

    @property
    def needed_from(self) -> int:
        """The first sample that a span to come may hold."""
        if self.start is not None:
            return self._begin(self.start)
        return max(self.given, self.now - self._margin)

    @property
    def _margin(self) -> int:
        return int(min(self.rule.margin, self.rule.pause / 2) * SAMPLE_RATE)

    def feed(self, probability: float) -> list[Span]:
        """The spans that are complete after one more frame."""
        frame = Span(self.now, self.now + FRAME)
        self.now = frame.end
        speaking = self.start is not None and self.speech_end == frame.start
        is_speech = probability >= self.rule.threshold - (HYSTERESIS if speaking else 0)
        if self.start is None:
            if is_speech:
                self._open(frame.start, frame.end, [], [probability])
            return []
        self.frames.append(probability)
        if not is_speech:
            if self.now - self.speech_end < self.rule.pause * SAMPLE_RATE:
                return []
            return self._close(self.now)
        if not speaking:
            self.pauses.append(Span(self.speech_end, frame.start))
        self.speech_end = frame.end
        if self.now - self.start + 2 * self._margin <= self.rule.longest * SAMPLE_RATE:
            return []
        return self._cut()

    def finish(self, length: int) -> list[Span]:
        """The span that the recording's end, at sample `length`, completes."""
        return [] if self.start is None else self._close(length)

    def _open(self, start: int, speech_end: int, pauses: list[Span], frames: list[float]) -> None:
        self.start, self.speech_end, self.pauses, self.frames = start, speech_end, pauses, frames

    def _begin(self, start: int) -> int:
        return max(self.given, start - self._margin)

    def _close(self, limit: int) -> list[Span]:
        """The open span, its margin no longer than to sample `limit`."""
        assert self.start is not None
        span = Span(self._begin(self.start), min(self.speech_end + self._margin, limit))
        silent = sum(pause.end - pause.start for pause in self.pauses)
        spoken = min(self.speech_end, limit) - self.start - silent
        self.start, self.given = None, span.end
        return [span] if spoken >= self.rule.shortest_speech * SAMPLE_RATE else []

    def _cut(self) -> list[Span]:
        """The first part of an open span that is too long; the rest stays open."""
        assert self.start is not None
        speech_end, frames, start = self.speech_end, self.frames, self.start
        middle = start + (self.now - start) // 2
        choice = [pause for pause in self.pauses if pause.end > middle] or self.pauses
        if choice:
            pause = max(choice, key=lambda pause: pause.end - pause.start)
        else:
            later = len(frames) // 2
            # Not the frame just heard: the rest must hold something.
            least = later + int(np.argmin(frames[later:-1])) if len(frames) - later > 1 else later
            pause = Span(start + least * FRAME, start + least * FRAME)
        rest = [other for other in self.pauses if other.start > pause.start]
        self.pauses = [other for other in self.pauses if other.end < pause.start]
        self.speech_end = pause.start
        # Margins of the two parts meet in the middle of a short pause.
        spans = self._close((pause.start + pause.end) // 2)
        self._open(pause.end, speech_end, rest, frames[(pause.end - start) // FRAME :])
        return spans


class _Held:
    """The samples that a segment to come may need."""

    def __init__(self) -> None:
        self.start = 0
        self.blocks: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        self.blocks.append(block)

    def take(self, span: Span) -> Segment:
        samples = np.concatenate(self.blocks)[span.start - self.start : span.end - self.start]
        return Segment(span.start, samples.copy())

    def forget_before(self, sample: int) -> None:
        while self.blocks and self.start + len(self.blocks[0]) <= sample:
            self.start += len(self.blocks.pop(0))


def cut_at_pauses(blocks: Iterable[np.ndarray], detector: Detector, rule: SpeechRule) -> Iterator[Segment]:
    """Segments of speech. `detector` gives the probability of speech of one frame after the other."""
    spans, held, rest = SpeechSpans(rule), _Held(), np.zeros(0, np.float32)
    length = 0
    for block in blocks:
        held.add(block)
        length += len(block)
        rest = np.concatenate([rest, block])
        whole = len(rest) // FRAME * FRAME
        for frame in rest[:whole].reshape(-1, FRAME):
            yield from map(held.take, spans.feed(detector(frame)))
        rest = rest[whole:]
        held.forget_before(spans.needed_from)
    complete = spans.feed(detector(np.pad(rest, (0, FRAME - len(rest))))) if len(rest) else []
    yield from map(held.take, [*complete, *spans.finish(length)])


def cut_at_times(blocks: Iterable[np.ndarray], seconds: float) -> Iterator[Segment]:
    """Segments of `seconds` one after the other, the last one shorter; those that hold only silence are left out."""
    size = int(seconds * SAMPLE_RATE)
    held, start, length = _Held(), 0, 0
    for block in blocks:
        held.add(block)
        length += len(block)
        while length - start >= size:
            yield from _audible(held.take(Span(start, start + size)))
            start += size
            held.forget_before(start)
    if length > start:
        yield from _audible(held.take(Span(start, length)))


def cut_nowhere(blocks: Iterable[np.ndarray]) -> Iterator[Segment]:
    """The whole recording as one segment, or nothing where it is silent."""
    samples = np.concatenate([np.zeros(0, np.float32), *blocks])
    yield from _audible(Segment(0, samples))


def _audible(segment: Segment) -> list[Segment]:
    return [segment] if segment.is_audible else []
