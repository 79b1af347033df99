"""The tab that most people come for: a recording in, texts out, as they are found."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.form import (
    ALL_WORDINGS,
    TRANSCRIBE,
    TRANSLATE,
    language_field,
    read_typed,
    sentence,
    session_of,
    settings_of_widgets,
    settings_widgets,
    targets_for,
)
from sparqle_fairseq.tools.page.limits import counted
from sparqle_fairseq.tools.page.service import Begun, Over, Request, Said, Service, Waiting
from sparqle_fairseq.tools.page.texts import DOWNLOADS, Texts, write_downloads
from sparqle_fairseq.tools.page.uploads import recording_of
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.translator import Settings, Target


@dataclass(frozen=True)
class Last:
    """What the other tabs know of the last request of this session."""

    recording: Recording
    targets: tuple[Target, ...]
    settings: Settings
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Parts:
    """Widgets that other tabs read."""

    audio: Any
    languages: Any
    settings: list[Any]
    last: Any
    ended: Any  # the event of a request that has ended


def build(service: Service, examples: Sequence[tuple[str, str]]) -> Parts:
    """The widgets of the tab and what they do. `examples` are (label, path)."""
    import gradio as gr

    model = service.model
    last = gr.State(None, time_to_live=60 * service.limits.keep_minutes)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            audio = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="Recording",
                buttons=["download"],
                elem_id="recording",
                waveform_options=gr.WaveformOptions(waveform_color="#64748b", waveform_progress_color="#0f766e"),
            )
            if examples:
                with gr.Column(elem_id="examples", min_width=0):
                    gr.HTML("Or try an example:", padding=False)
                    for label, path in examples:
                        button = gr.Button(label, size="sm", variant="secondary")
                        button.click(lambda path=path: path, None, audio, queue=False, api_visibility="private")
            task = gr.Radio(
                [TRANSLATE, TRANSCRIBE] if model.can_translate else [TRANSCRIBE],
                value=TRANSLATE if model.can_translate else TRANSCRIBE,
                label="Task",
                elem_id="task",
                visible=model.can_translate,
            )
            languages = language_field(service, True, "languages")
            with gr.Row():
                start = gr.Button(
                    TRANSLATE if model.can_translate else TRANSCRIBE, variant="primary", elem_id="start", scale=3
                )
                cancel = gr.Button("Cancel", variant="secondary", elem_id="cancel", scale=1, interactive=False)
        with gr.Column(scale=7, min_width=300):
            state = gr.HTML(view.status("Ready."), elem_id="state")
            texts = gr.HTML(view.hint(bool(examples)), elem_id="texts")
            subtitles = gr.Radio([], label="Subtitles of the recording", visible=False, elem_id="subtitles")
            with gr.Row(elem_id="downloads", visible=False) as offered:
                downloads = [
                    gr.DownloadButton(f"{what} .{form}", size="sm", elem_id=f"download-{form}")
                    for form, what in DOWNLOADS.items()
                ]
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        count = len(model.wordings("translation" if model.can_translate else "transcription", "fr"))
        with gr.Row(elem_classes="sq-asked"):
            wording = gr.Dropdown(
                [str(i + 1) for i in range(count)] + [ALL_WORDINGS],
                value="1",
                label="Wording of the instruction",
                info="1 is the usual one",
                visible=count > 0,
                min_width=260,
                elem_id="wording",
            )
            instruction = gr.Textbox(
                "",
                label="Own instruction",
                info="in place of a wording; {speech} stands for the speech, {language} for the language",
                visible=count > 0,
                min_width=260,
                elem_id="instruction",
            )
        knobs = settings_widgets()
    read_typed(languages, state)

    spoken = gr.State([], time_to_live=60 * service.limits.keep_minutes)

    def run(
        request: gr.Request,
        recorded: str | None,
        task: str,
        languages: list[str],
        wording: str,
        instruction: str,
        *values: Any,
    ) -> Iterator[dict[Any, Any]]:
        said: list[Said] = []
        yield {
            state: view.status("Starting …"),
            texts: "",
            cancel: gr.update(interactive=True),
            subtitles: gr.update(visible=False),
            last: None,
            offered: gr.update(visible=False),
        }
        try:
            recording = recording_of(recorded)
            targets = targets_for(service, task, languages, wording, instruction)
            settings = settings_of_widgets(values)
            captions = _captions(targets)
            seconds = 0.0
            with service.session(session_of(request)) as stop, tempfile.TemporaryDirectory() as folder:
                stopped = False
                notes: tuple[str, ...] = ()
                for event in service.stream(Request(recording, targets, settings), stop):
                    if isinstance(event, Waiting):
                        yield {state: view.status(f"Waiting: {event.before} before you.")}
                    elif isinstance(event, Begun):
                        seconds = event.seconds
                        yield {state: view.status(f"Listening to {view.clock(seconds)} …", 0)}
                    elif isinstance(event, Said):
                        said.append(event)
                        share = event.end / seconds if seconds else None
                        at = f"{view.clock(event.end)} of {view.clock(seconds)}"
                        yield {state: view.status(at, share), texts: view.texts(said, targets, captions)}
                    elif isinstance(event, Over):
                        stopped, notes = event.stopped, event.notes
                found = Texts(recording.name, recording.stem, targets, said)
                written = zip(downloads, write_downloads(found, Path(folder)), strict=True) if said else ()
                yield {
                    state: view.status(_outcome(said, stopped, notes)),
                    cancel: gr.update(interactive=False),
                    last: Last(recording, targets, settings, tuple((s.start, s.end) for s in said)),
                    subtitles: _subtitle_choice(captions, bool(said)),
                    **{button: gr.update(value=str(path)) for button, path in written},
                    offered: gr.update(visible=bool(said)),
                    audio: gr.update(subtitles=_subtitles(said, 0)) if said else gr.update(),
                    spoken: said,
                }
        except Exception as error:
            yield {state: view.failure(sentence(error)), cancel: gr.update(interactive=False)}

    def _subtitle_choice(captions: Sequence[str], any_text: bool) -> Any:
        several = any_text and len(captions) > 1
        return gr.update(choices=[(text, i) for i, text in enumerate(captions)], value=0, visible=several)

    # gradio reads this type to know that it is to give the request; it cannot read it from text.
    run.__annotations__ = {"request": gr.Request}
    ended = start.click(
        run,
        [audio, task, languages, wording, instruction, *knobs],
        [state, texts, last, subtitles, audio, spoken, cancel, offered, *downloads],
        api_visibility="private",
        concurrency_limit=None,
        show_progress="hidden",
    )

    def cancelled(request: gr.Request) -> Any:
        service.stop(session_of(request))
        return view.status("Stopping …")

    cancelled.__annotations__ = {"request": gr.Request}
    cancel.click(cancelled, None, state, queue=False, api_visibility="private", show_progress="hidden")
    task.change(
        lambda task: (gr.update(visible=task == TRANSLATE), gr.update(value=task)),
        task,
        [languages, start],
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    subtitles.change(
        lambda said, place: gr.update(subtitles=_subtitles(said, place or 0)) if said else gr.update(),
        [spoken, subtitles],
        audio,
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    return Parts(audio, languages, knobs, last, ended)


def _captions(targets: Sequence[Target]) -> list[str]:
    """What tells the texts of a segment apart: the language, or the wording where one language was asked in several."""
    if len({target.language for target in targets}) == len(targets):
        return [language_name(target.language) for target in targets]
    return [target.instruction or language_name(target.language) for target in targets]


def _subtitles(said: Sequence[Said], place: int) -> list[dict[str, Any]]:
    return [
        {"text": event.lines[place].text, "timestamp": [event.start, event.end]}
        for event in said
        if place < len(event.lines) and event.lines[place].text.strip()
    ]


def _outcome(said: Sequence[Said], stopped: bool, notes: Sequence[str]) -> str:
    count = counted(len(said), "segment")
    if stopped:
        return f"Stopped after {count}." if said else "Stopped."
    first = f"Done: {count}." if said else "No speech was found in the recording."
    return " ".join([first, *map(view.written, notes)])
