"""The page as gradio builds it: its head, its tabs, its endpoints."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from sparqle_fairseq.tools.page import endpoints, tab_batch, tab_compare, tab_look, tab_translate
from sparqle_fairseq.tools.page.form import session_of
from sparqle_fairseq.tools.page.service import Service
from sparqle_fairseq.tools.page.uploads import refuse_urls

TITLE = "SparQLe"
_CLEAN_EVERY = 60  # seconds between two looks for files that are too old


def build_page(service: Service, examples: Sequence[tuple[str, str]] = ()) -> Any:
    """The page, not yet served. `examples` are (label, path) of recordings to try."""
    import gradio as gr

    about, limits = html.escape(str(service.model.about)), html.escape(str(service.limits))
    keep = int(60 * service.limits.keep_minutes)
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(min(_CLEAN_EVERY, keep), keep), fill_width=True
    ) as page:
        gr.HTML(
            f'<header class="sq-head"><h1>{TITLE}: speech into text</h1><span>{about}</span></header>'
            f'<p class="sq-limits">{limits}</p>',
            elem_id="head",
        )
        with gr.Tabs():
            with gr.Tab("Translate" if service.model.can_translate else "Transcribe", id="translate"):
                parts = tab_translate.build(service, examples)
            with gr.Tab("Look inside", id="look") as tab:
                tab_look.build(service, parts, tab)
            if service.model.can_translate or service.rival is not None:
                with gr.Tab("Compare", id="compare"):
                    tab_compare.build(service, parts)
            with gr.Tab("Many files", id="batch"):
                tab_batch.build(service, parts)
        endpoints.build(service)

        def left(request: gr.Request) -> None:
            service.stop(session_of(request))

        left.__annotations__ = {"request": gr.Request}
        page.unload(left)
    refuse_urls(page)
    return page
