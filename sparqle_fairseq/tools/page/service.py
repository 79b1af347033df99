"""What the page does, without the page: a recording into a stream of events, by one request at a time."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from sparqle_fairseq.data.audio import SAMPLE_RATE, Account, AudioError, stream_audio
from sparqle_fairseq.data.segments import Segment, SpeechRule
from sparqle_fairseq.tools.page.limits import Limits
from sparqle_fairseq.tools.page.model import SpeechModel
from sparqle_fairseq.tools.page.turns import Turn, Turns
from sparqle_fairseq.tools.translate.formats import Line
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.run import batches, cut_of, line_of, named
from sparqle_fairseq.tools.translate.translator import Settings, Target

BATCH_SECONDS = 10.0  # of speech between two looks of the person at new text
_LOOK = 0.2  # seconds between two looks at whether somebody has stopped

Found = TypeVar("Found")


class Stopped(Exception):
    """Somebody asked for an end; no error."""


class Stop:
    """Set by whoever wants a request to end."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        self._set.set()

    def watch(self) -> None:
        """Raises `Stopped` once it is set."""
        if self._set.is_set():
            raise Stopped


@dataclass(frozen=True)
class Request:
    recording: Recording
    targets: tuple[Target, ...]
    settings: Settings = field(default_factory=Settings)
    segment: str = "vad"


@dataclass(frozen=True)
class Waiting:
    before: int


@dataclass(frozen=True)
class Begun:
    seconds: float


@dataclass(frozen=True)
class Said:
    """A segment with its texts, one for each target."""

    start: float
    end: float
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Over:
    stopped: bool
    notes: tuple[str, ...] = ()  # what of the file could not be read


Event = Waiting | Begun | Said | Over


class Service:
    """A model, its limits and the line before it. `rival` is a second model to compare with."""

    def __init__(self, model: SpeechModel, limits: Limits | None = None, rival: SpeechModel | None = None) -> None:
        self.model, self.rival = model, rival
        self.limits = limits or Limits()
        self.turns = Turns(self.limits.waiting)
        # All work is done in one thread: the C library keeps memory for each thread that ever asked for much.
        self._hand = ThreadPoolExecutor(1, "model")
        self._stops: dict[str, set[Stop]] = defaultdict(set)
        self._lock = threading.Lock()

    # ---- who asks, and how they end it

    @contextmanager
    def session(self, name: str) -> Iterator[Stop]:
        """A stop for one request of a session, which `stop(name)` sets."""
        stop = Stop()
        with self._lock:
            self._stops[name].add(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._stops[name].discard(stop)
                if not self._stops[name]:
                    del self._stops[name]

    def stop(self, name: str) -> int:
        """End all requests of a session; returns how many there were."""
        with self._lock:
            stops = list(self._stops.get(name, ()))
        for stop in stops:
            stop.set()
        return len(stops)

    # ---- work

    def stream(self, request: Request, stop: Stop, model: SpeechModel | None = None) -> Iterator[Event]:
        """The events of one request: waiting, its begin, each segment with its texts, its end.

        Raises:
            SparqleError: the recording or what was asked cannot be used, too many wait, or no memory is left.
        """
        seconds = self.limits.seconds_of(request.recording)
        self.limits.check_languages([target.language for target in request.targets])
        (model or self.model).check(request.settings)
        with self.turns.enter() as turn:
            try:
                yield from self._wait(turn, stop)
                yield Begun(seconds)
                account = Account(request.recording.path)
                yield from self._by_hand(self._texts(request, stop, model or self.model, account))
                notes = tuple(named(sentence, request.recording) for sentence in account.sentences())
                yield Over(stopped=False, notes=notes)
            except Stopped:
                yield Over(stopped=True)
            finally:
                _free_memory()

    def in_turn(self, work: Callable[[Stop], Found], stop: Stop) -> Found:
        """What `work` gives, when its turn has come. Raises `Stopped`, `Busy` and what the work raises."""
        with self.turns.enter() as turn:
            try:
                for _ in self._wait(turn, stop):
                    pass
                return self._hand.submit(work, stop).result()
            finally:
                _free_memory()

    def segments(self, recording: Recording, segment: str, account: Account | None = None) -> Iterator[Segment]:
        """The segments of a recording. Raises `AudioError` with its name."""
        blocks = self.limits.within(stream_audio(recording.path, account=account), recording)
        try:
            yield from cut_of(segment, SpeechRule())(blocks)
        except AudioError as error:
            raise AudioError(named(str(error), recording)) from error

    def _by_hand(self, events: Generator[Event, None, None]) -> Iterator[Event]:
        """The same events, each of them made by the one thread that works."""
        try:
            while (event := self._hand.submit(_next_of, events).result()) is not None:
                yield event
        finally:
            events.close()

    def _texts(
        self, request: Request, stop: Stop, model: SpeechModel, account: Account
    ) -> Generator[Event, None, None]:
        stream: Iterator[Segment] = self.segments(request.recording, request.segment, account)
        for part in batches(_watched(stream, stop), BATCH_SECONDS):
            segments = [event for event in part if isinstance(event, Segment)]
            rows = model.translate(segments, request.targets, request.settings, stop.watch)
            for segment, texts in zip(segments, rows, strict=True):
                yield Said(segment.start_seconds, segment.end_seconds, tuple(line_of(segment, text) for text in texts))

    def _wait(self, turn: Turn, stop: Stop) -> Iterator[Event]:
        told = 0
        while before := turn.before(_LOOK):
            stop.watch()
            if before != told:
                told = before
                yield Waiting(before)
        stop.watch()


def part_of(recording: Recording, start: float, end: float) -> Segment:
    """The samples of a recording between two times in seconds. Raises `AudioError`."""
    first, last = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
    kept: list[np.ndarray] = []
    done = 0
    try:
        for block in stream_audio(recording.path):
            if done + len(block) > first:
                kept.append(block[max(0, first - done) : last - done])
            done += len(block)
            if done >= last:
                break
    except AudioError as error:
        raise AudioError(named(str(error), recording)) from error
    samples = np.concatenate(kept) if kept else np.zeros(0, np.float32)
    if not len(samples):
        raise AudioError(f"{recording.name} has nothing from {start:.1f} to {end:.1f} seconds; choose a segment of it")
    return Segment(first, samples)


def joined(said: Sequence[Said], place: int) -> str:
    """The text of all segments in the language at `place`."""
    return " ".join(filter(None, (event.lines[place].text.strip() for event in said)))


def _watched(stream: Iterator[Segment], stop: Stop) -> Iterator[Segment]:
    for segment in stream:
        stop.watch()
        yield segment


def _next_of(events: Iterator[Event]) -> Event | None:
    return next(events, None)


def _free_memory() -> None:
    """What a request held goes with it, and what failed with it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
