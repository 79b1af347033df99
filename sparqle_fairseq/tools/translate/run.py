"""`sparqle translate`: recordings into texts, in batches that may hold segments of several recordings."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sparqle_fairseq.data.audio import SAMPLE_RATE, Account, AudioError, recording_seconds, stream_audio
from sparqle_fairseq.data.segments import Segment, SpeechRule, cut_at_pauses, cut_at_times, cut_nowhere
from sparqle_fairseq.data.voice import VoiceDetector
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate import microphone, outputs
from sparqle_fairseq.tools.translate.cues import CueRule
from sparqle_fairseq.tools.translate.formats import ONE_TEXT, Line
from sparqle_fairseq.tools.translate.languages import parse_languages
from sparqle_fairseq.tools.translate.loaded import open_folder, open_model
from sparqle_fairseq.tools.translate.recordings import STANDARD_INPUT, Recording, find_recordings
from sparqle_fairseq.tools.translate.translator import Settings, Target, Text, Translator

Cut = Callable[[Iterable[np.ndarray]], Iterator[Segment]]
Translate = Callable[[Sequence[Segment]], list[list[Text]]]


class Begin(NamedTuple):
    recording: Recording


class End(NamedTuple):
    error: str | None
    notes: tuple[str, ...] = ()  # what is to be said of the recording


Event = Begin | Segment | End


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    audio: Sequence[str]
    model: str  # a checkpoint or an exported folder
    to: str | None = None
    task: str = "translate"
    spoken: str | None = None  # language of the recordings
    form: str | None = None
    output: Path | None = None
    cues: CueRule | None = field(default_factory=CueRule)  # of subtitles; None: a segment is one cue of one line
    force: bool = False
    segment: str = "vad"
    rule: SpeechRule = field(default_factory=SpeechRule)
    batch_seconds: float = 120.0
    settings: Settings = field(default_factory=Settings)
    wording: int | None = None  # number, from 1, of the wording that asks
    instruction: str | None = None  # what asks in place of any wording
    speech_encoder: str | None = None
    llm: str | None = None
    text_tokenizer: str | None = None
    without_lora: bool = False
    prompt_templates: str | None = None
    strict_audio: bool = False  # a recording of which a part is lost is not translated
    microphone: bool = False
    seconds: float | None = None
    progress: bool | None = None
    cpu: bool = False
    hf: str | None = None  # an exported folder or its hub id, in place of `model`


class Console:
    """Notes and progress on stderr, results on stdout, none across another."""

    def __init__(self, seconds: float, progress: bool) -> None:
        self.seconds = seconds
        self.bar = tqdm(
            total=seconds,
            unit="s",
            disable=not progress,
            file=sys.stderr,
            bar_format="{percentage:3.0f}% |{bar}| {n:.0f} of {total:.0f} s of audio [{elapsed} < {remaining}]",
        )

    def advance(self, to: float) -> None:
        """The bar to this second of all recordings together."""
        self.bar.update(max(0.0, min(to, self.seconds) - self.bar.n))

    def note(self, text: str) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            print(text, file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            sys.stdout.write(text)
            sys.stdout.flush()


def run(request: Request) -> int:
    """Do what the request asks for; returns how many recordings failed.

    Raises:
        SparqleError: nothing can be done: a wrong option, no checkpoint, no recording that can be read.
    """
    languages = _languages(request)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparqle-")))
        recordings, notes = _recordings(request, scratch)
        form = outputs.format_of(request.output, request.form)
        if request.settings.nbest > 1 and form in ONE_TEXT:
            raise SparqleError(f"{form} shows one text at a time; leave out --nbest, or choose txt, tsv or json")
        paths = _paths(request, recordings, languages, form)
        lengths = _lengths(recordings)
        place, opened = (request.model, open_model) if request.hf is None else (request.hf, open_folder)
        loaded = opened(
            place,
            speech_encoder=request.speech_encoder,
            llm=request.llm,
            text_tokenizer=request.text_tokenizer,
            without_lora=request.without_lora,
            cpu=request.cpu,
        )
        if request.prompt_templates:
            loaded.use_templates(request.prompt_templates)
        translator = Translator(loaded, request.settings)
        targets = [_asked(request, translator, target) for target in _targets(request, translator, languages)]
        if request.task == "transcribe":
            paths = _paths(request, recordings, [targets[0].language], form)
        console = Console(sum(lengths.values()), sys.stderr.isatty() if request.progress is None else request.progress)
        stack.callback(console.bar.close)
        for note in notes:
            console.note(note)
        output: outputs.Output
        if paths is not None:
            output = outputs.FileOutput(paths, targets, form, request.cues)
        elif form == "json":
            output = outputs.JsonOutput(console.write, targets)
            stack.callback(output.close)
        elif form == "txt":
            output = outputs.TextOutput(console.write, targets, name_recordings=len(recordings) > 1)
        else:
            output = outputs.StreamOutput(console.write, targets, form, request.cues)
        return deliver(
            events(recordings, cut_of(request.segment, request.rule), request.strict_audio),
            lambda segments: translator(segments, targets),
            targets,
            output,
            console,
            request.batch_seconds,
            lengths,
        )


def events(recordings: Iterable[Recording], cut: Cut, strict: bool = False) -> Iterator[Event]:
    """The segments of each recording between its begin and its end; an end names what is wrong with the recording."""
    for recording in recordings:
        yield Begin(recording)
        error = None
        account = Account(recording.path)
        try:
            yield from cut(stream_audio(recording.path, strict=strict, account=account))
        except AudioError as found:
            error = named(str(found), recording)
        yield End(error, tuple(named(sentence, recording) for sentence in account.sentences()))


def named(sentence: str, recording: Recording) -> str:
    """What is said of a recording, with its name in place of the file that it is kept in."""
    return sentence.replace(recording.path, recording.name)


def batches(stream: Iterable[Event], seconds: float) -> Iterator[list[Event]]:
    """Parts of the stream; in each, the longest segment times their number is at most `seconds`, or there is one."""
    part: list[Event] = []
    count, longest = 0, 0
    for event in stream:
        if isinstance(event, Segment):
            if count and max(longest, len(event.samples)) * (count + 1) > seconds * SAMPLE_RATE:
                yield part
                part, count, longest = [], 0, 0
            count, longest = count + 1, max(longest, len(event.samples))
        part.append(event)
    if part:
        yield part


def deliver(
    stream: Iterable[Event],
    translate: Translate,
    targets: Sequence[Target],
    output: outputs.Output,
    console: Console,
    batch_seconds: float,
    lengths: dict[str, float],
) -> int:
    """Translate the stream and hand it to the output in its order; returns how many recordings failed."""
    failed = heard = 0
    done = 0.0  # seconds of the recordings that ended
    recording: Recording | None = None
    try:
        for part in batches(stream, batch_seconds):
            segments = [event for event in part if isinstance(event, Segment)]
            texts = iter(translate(segments) if segments else [])
            for event in part:
                if isinstance(event, Begin):
                    recording, heard = event.recording, 0
                    output.begin(recording)
                elif isinstance(event, Segment):
                    assert recording is not None
                    lines = [line_of(event, text) for text in next(texts)]
                    output.add(lines)
                    heard += 1
                    _note_flags(console, recording, targets, lines)
                    console.advance(done + event.end_seconds)
                elif recording is not None:
                    for note in event.notes:
                        console.note(note)
                    if event.error is None:
                        output.end()
                        if not heard:
                            console.note(f"{recording.name}: no speech was found")
                    else:
                        failed += 1
                        kept = output.fail(event.error)
                        console.note(f"error: {event.error}{_where(kept)}")
                    done += lengths.get(recording.path, 0.0)
                    console.advance(done)
                    recording = None
    except BaseException:
        if recording is not None:
            kept = output.fail("it was not finished")
            if kept:
                console.note(f"{recording.name}: it was not finished{_where(kept)}")
        raise
    return failed


def _where(kept: str | None) -> str:
    return f"; what was done until then is in {kept}" if kept else ""


def line_of(segment: Segment, text: Text) -> Line:
    start, end = segment.start_seconds, segment.end_seconds
    rivals = tuple(Line(start, end, rival.text, rival.score, rival.ended) for rival in text.rivals)
    return Line(start, end, text.text, text.score, text.ended, text.flag, rivals)


_NOTES = {
    "repetition": "the text repeated itself and was made again without repetition; look at it",
    "unheard": "the text is as likely without the recording; the model may have made it up",
    "length": "the text was cut at its longest length; raise --tokens-per-second if its end is missing",
    "room": "the text was cut where the model's room for tokens ended; lower --max-segment-seconds",
}


def _note_flags(console: Console, recording: Recording, targets: Sequence[Target], lines: Sequence[Line]) -> None:
    for target, line in zip(targets, lines, strict=True):
        where = f"{recording.name}, {line.start:.1f} to {line.end:.1f} seconds, {target.language}"
        for note in filter(None, (_NOTES.get(line.ended), _NOTES.get(line.flag or ""))):
            console.note(f"{where}: {note}")


# ---- what the request means


def _languages(request: Request) -> list[str]:
    if request.task == "transcribe":
        if request.to:
            raise SparqleError("--to names languages to translate into; leave it out with --task transcribe")
        return []
    if not request.to:
        raise SparqleError("no target language was named; write for example --to fr, or --task transcribe")
    return parse_languages(request.to)


def _recordings(request: Request, scratch: Path) -> tuple[list[Recording], list[str]]:
    if not request.microphone:
        if request.seconds is not None:
            raise SparqleError("--seconds says how long to record; it needs --microphone")
        if not request.audio:
            raise SparqleError("no audio was named; give files or folders, - for standard input, or --microphone")
        return find_recordings(request.audio, scratch)
    if request.audio:
        raise SparqleError("--microphone takes the place of files; leave one of the two out")
    return [
        microphone.record(scratch, request.seconds, lambda message: print(message, file=sys.stderr, flush=True))
    ], []


def _paths(
    request: Request, recordings: Sequence[Recording], languages: Sequence[str], form: str
) -> dict[tuple[str, str], Path] | None:
    """Output files; None for standard output."""
    if request.output is None:
        if form in ("srt", "vtt") and len(recordings) * len(languages) > 1:
            raise SparqleError(f"one {form} holds one recording in one language; name a folder with --output")
        return None
    folder = len(recordings) > 1 or request.output.is_dir() or any(map(_is_folder, request.audio))
    targets = [Target(request.task, language) for language in languages]
    return outputs.output_paths(recordings, targets, request.output, folder, form, request.force)


def _is_folder(argument: str) -> bool:
    return argument != STANDARD_INPUT and Path(argument).is_dir()


def _lengths(recordings: Sequence[Recording]) -> dict[str, float]:
    """Seconds of each recording whose header can be read. Raises the first error where none can."""
    lengths, first = {}, None
    for recording in recordings:
        try:
            lengths[recording.path] = recording_seconds(recording.path)
        except AudioError as error:
            first = first or AudioError(named(str(error), recording))
    if not lengths and first:
        raise first
    return lengths


def _targets(request: Request, translator: Translator, languages: Sequence[str]) -> list[Target]:
    if request.task == "translate":
        if not translator.can_translate:
            raise SparqleError(
                f"{request.model} is a checkpoint of stage 1, which transcribes only; give one of stage 2, or "
                "--task transcribe"
            )
        return [Target("translation", language) for language in languages]
    return [Target("transcription", parse_languages(request.spoken or translator.spoken)[0])]


def _asked(request: Request, translator: Translator, target: Target) -> Target:
    """The target with the words that ask for it, where the command line names any."""
    if request.instruction is not None:
        if request.wording is not None:
            raise SparqleError("--wording and --instruction both say in which words to ask; give one of the two")
        return replace(target, instruction=request.instruction)
    if request.wording is None:
        return target
    wordings = translator.wordings(target.task, target.language)
    if not wordings:
        raise SparqleError("--wording chooses an instruction, and a checkpoint of stage 1 reads none; leave it out")
    if request.wording > len(wordings):
        raise SparqleError(f"--wording {request.wording}: the templates have {len(wordings)} wordings of this")
    return replace(target, instruction=wordings[request.wording - 1])


def cut_of(segment: str, rule: SpeechRule) -> Cut:
    """How a recording is cut: "vad" at pauses, "fixed" at fixed times, "none" nowhere. One recording at a time."""
    if segment == "vad":
        detector = VoiceDetector()

        def cut(blocks: Iterable[np.ndarray]) -> Iterator[Segment]:
            detector.reset()
            return cut_at_pauses(blocks, detector, rule)

        return cut
    if segment == "fixed":
        return lambda blocks: cut_at_times(blocks, rule.longest)
    return cut_nowhere
