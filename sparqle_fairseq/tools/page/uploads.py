"""Recordings as gradio hands them over: files of an upload, never URLs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate.recordings import Recording

_URL = re.compile(r"^\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def recording_of(path: str | None) -> Recording:
    """The recording of an upload, called as the person called it. Raises `SparqleError` where none came."""
    if not path:
        raise SparqleError("no recording came; upload one, or record with the microphone")
    name = Path(path).name
    return Recording(path, name, Path(name).stem or "recording")


def refuse_urls(blocks: Any) -> None:
    """Have every part of a page refuse a URL where a file is meant: gradio would have the server fetch it."""
    import gradio as gr

    def guarded(usual: Any) -> Any:
        async def move(path: Any, *more: Any, **named: Any) -> Any:
            if path is not None and _URL.match(str(path)):
                raise gr.Error("This page fetches nothing from a URL; upload the file itself.", print_exception=False)
            return await usual(path, *more, **named)

        return move

    for block in blocks.blocks.values():
        block.async_move_resource_to_block_cache = guarded(block.async_move_resource_to_block_cache)
