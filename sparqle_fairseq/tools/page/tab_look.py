"""The tab that looks inside: the last recording's segments, and what the model did with one of them."""

from __future__ import annotations

from typing import Any

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.form import sentence, session_of
from sparqle_fairseq.tools.page.look import look_inside, outline
from sparqle_fairseq.tools.page.service import Service, Stopped, part_of
from sparqle_fairseq.tools.page.tab_translate import Last, Parts


def build(service: Service, parts: Parts, tab: Any) -> None:
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            number = gr.Dropdown([], label="Segment", interactive=True, elem_id="segment")
            language = gr.Dropdown([], label="Text", interactive=True, elem_id="look-language")
            start = gr.Button("Look inside", variant="primary", elem_id="look")
            state = gr.HTML(view.status("Translate or transcribe a recording first."), elem_id="look-state")
            answer = gr.HTML(elem_id="look-answer")
        with gr.Column(scale=7, min_width=300):
            wave = gr.HTML(elem_id="wave")
            picture = gr.Image(
                label="Where the queries and the tokens look",
                show_label=False,
                interactive=False,
                buttons=["download", "fullscreen"],
                visible=False,
                elem_id="look-picture",
            )

    def opened(last: Last | None) -> Any:
        if last is None or not last.spans:
            nothing = gr.update(choices=[], value=None)
            return nothing, nothing, "", view.status("Translate or transcribe a recording first.")
        spans = [(f"{i + 1}: {view.clock(a)} to {view.clock(b)}", i) for i, (a, b) in enumerate(last.spans)]
        names = [(target.instruction or language_name(target.language), i) for i, target in enumerate(last.targets)]
        try:
            drawn = outline(last.recording.path, last.spans, 0)
        except SparqleError as error:
            return gr.update(), gr.update(), "", view.failure(sentence(error))
        return (
            gr.update(choices=spans, value=0),
            gr.update(choices=names, value=0),
            drawn,
            view.status("Choose a segment."),
        )

    def look_at_chosen(last: Last | None, number: int | None, place: int | None, request: gr.Request) -> Any:
        try:
            if last is None or number is None or not 0 <= number < len(last.spans):
                raise SparqleError("there is no segment yet; translate or transcribe a recording first")
            segment = part_of(last.recording, *last.spans[number])
            target = last.targets[place or 0]
            with service.session(session_of(request)) as stop:
                inside = service.in_turn(
                    lambda stop: look_inside(service.model, segment, target, last.settings, stop), stop
                )
            drawn = outline(last.recording.path, last.spans, number)
            return drawn, view.status("Done."), inside.answer(), gr.update(value=inside.picture, visible=True)
        except Stopped:
            return gr.update(), view.status("Stopped."), "", gr.update(visible=False)
        except Exception as error:
            return gr.update(), view.failure(sentence(error)), "", gr.update(visible=False)

    look_at_chosen.__annotations__ = {"request": gr.Request}
    for event in (tab.select, parts.ended.then):  # who looks early sees the segments when they are there
        event(
            opened,
            parts.last,
            [number, language, wave, state],
            api_visibility="private",
            show_progress="hidden",
            queue=False,
        )
    start.click(
        look_at_chosen,
        [parts.last, number, language],
        [wave, state, answer, picture],
        api_visibility="private",
        concurrency_limit=None,
    )
