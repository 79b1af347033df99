"""The tab for many files: recordings or a zip in, a zip of texts out, scores where references came with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.batch import Report, run_batch, unpack, uploads
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
from sparqle_fairseq.tools.page.service import Service
from sparqle_fairseq.tools.page.tab_translate import Parts


def build(service: Service, parts: Parts) -> None:
    import gradio as gr

    model, limits = service.model, service.limits
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            files = gr.File(
                file_count="multiple",
                label=f"Recordings, or a zip of up to {limits.files}; a manifest (.tsv) gives scores",
                elem_id="files",
                height=160,
            )
            task = gr.Radio(
                [TRANSLATE, TRANSCRIBE] if model.can_translate else [TRANSCRIBE],
                value=TRANSLATE if model.can_translate else TRANSCRIBE,
                label="Task",
            )
            languages = language_field(service, True, "batch-languages")
            with gr.Row():
                start = gr.Button("Translate all", variant="primary", elem_id="batch", scale=3)
                cancel = gr.Button("Cancel", variant="secondary", scale=1, elem_id="batch-cancel", interactive=False)
        with gr.Column(scale=7, min_width=300):
            state = gr.HTML(
                view.status(f"All recordings together: up to {limits.minutes:g} minutes."), elem_id="batch-state"
            )
            table = gr.HTML(view.batch_hint(), elem_id="batch-table")
            result = gr.DownloadButton("Download texts.zip", visible=False, elem_id="batch-zip")

    def run(
        request: gr.Request, files: list[str] | None, task: str, languages: list[str], *more: Any
    ) -> Iterator[tuple[Any, ...]]:
        yield view.status("Starting …"), "", gr.update(visible=False), gr.update(interactive=True)
        try:
            targets = targets_for(service, task, languages)
            settings = settings_of_widgets(more)
            with service.session(session_of(request)) as stop, tempfile.TemporaryDirectory() as folder:
                place = Path(folder)
                batch = unpack(uploads(files), limits, place)
                count = len(batch.recordings)
                for report in run_batch(service, batch, targets, settings, stop, place):
                    done = len(report.rows) / count
                    if report.file is None:
                        at = view.status(f"{len(report.rows)} of {count}", done)
                        yield at, shown(report), gr.skip(), gr.skip()
                    else:
                        ready = gr.update(value=str(report.file), visible=True)
                        yield view.status("Done."), shown(report), ready, gr.update(interactive=False)
        except Exception as error:
            yield view.failure(sentence(error)), "", gr.skip(), gr.update(interactive=False)

    def cancelled(request: gr.Request) -> str:
        service.stop(session_of(request))
        return view.status("Stopping …")

    read_typed(languages, state)
    run.__annotations__ = cancelled.__annotations__ = {"request": gr.Request}
    inputs = [files, task, languages, *parts.settings]
    start.click(
        run,
        inputs,
        [state, table, result, cancel],
        api_visibility="private",
        concurrency_limit=None,
        show_progress="hidden",
    )
    cancel.click(cancelled, None, state, queue=False, api_visibility="private")


def shown(report: Report) -> str:
    """The report as tables."""
    scores = [
        [language_name(scored.language), name.upper() if name != "chrf" else "chrF", str(value), str(value.n)]
        for scored in report.scores
        for name, value in scored.scores.items()
    ]
    found = view.table(["file", "outcome"], [list(row) for row in report.rows], "Files")
    if scores:
        found += view.table(["language", "score", "% [95 % interval]", "recordings"], scores, "Scores")
    return found
