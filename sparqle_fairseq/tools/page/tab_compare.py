"""The tab that compares: two checkpoints, or the speech with its transcript."""

from __future__ import annotations

from typing import Any

from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.compare import CHECKPOINTS, TRANSCRIPT, compare
from sparqle_fairseq.tools.page.form import (
    TRANSCRIBE,
    TRANSLATE,
    language_field,
    read_typed,
    sentence,
    session_of,
    settings_of_widgets,
    targets_for,
)
from sparqle_fairseq.tools.page.service import Service, Stopped
from sparqle_fairseq.tools.page.tab_translate import Parts
from sparqle_fairseq.tools.page.uploads import recording_of


def build(service: Service, parts: Parts) -> None:
    import gradio as gr

    model = service.model
    kinds = [("The speech and its typed transcript: what the speech costs", TRANSCRIPT)] if model.can_translate else []
    if service.rival is not None:
        kinds.insert(
            0, (f"Two checkpoints: {model.about.checkpoint} and {service.rival.about.checkpoint}", CHECKPOINTS)
        )
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            gr.HTML(view.status("Takes the recording and the settings of the first tab."))
            kind = gr.Radio(kinds, value=kinds[0][1] if kinds else None, label="Compare", elem_id="kind")
            task = gr.Radio([TRANSLATE, TRANSCRIBE], value=TRANSLATE, label="Task", visible=model.can_translate)
            language = language_field(service, False, "compare-language")
            transcript = gr.Textbox(
                label="Transcript",
                info="what is said, as you would write it",
                elem_id="transcript",
                max_length=2000,
                visible=bool(kinds) and kinds[0][1] == TRANSCRIPT,
            )
            reference = gr.Textbox(
                label="Reference",
                info="a right answer, to score both; may be empty",
                max_length=2000,
                elem_id="reference",
            )
            start = gr.Button("Compare", variant="primary", elem_id="compare")
        with gr.Column(scale=7, min_width=300):
            found = gr.HTML(view.status("The two texts will stand here."), elem_id="compared")

    def run(
        request: gr.Request,
        audio: str | None,
        kind: str | None,
        task: str,
        language: str,
        transcript: str,
        reference: str,
        *more: Any,
    ) -> str:
        try:
            recording = recording_of(audio)
            wanted = task if model.can_translate else TRANSCRIBE
            (target,) = targets_for(service, wanted, [language])
            settings = settings_of_widgets(more)
            with service.session(session_of(request)) as stop:
                return compare(
                    service, recording, target, settings, kind or TRANSCRIPT, transcript, reference, stop
                ).shown()
        except Stopped:
            return view.status("Stopped.")
        except Exception as error:
            return view.failure(sentence(error))

    read_typed(language, found)
    kind.change(
        lambda kind: gr.update(visible=kind == TRANSCRIPT),
        kind,
        transcript,
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    run.__annotations__ = {"request": gr.Request}
    inputs = [parts.audio, kind, task, language, transcript, reference, *parts.settings]
    start.click(run, inputs, found, api_visibility="private", concurrency_limit=None)
