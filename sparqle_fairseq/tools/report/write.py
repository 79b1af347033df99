"""A report's folder: HTML, Markdown, LaTeX, JSON, pictures and COMET's files, all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import folder_written_whole, write_text, written_whole
from sparqle_fairseq.tools.report.comet import can_score, write_inputs
from sparqle_fairseq.tools.report.content import read_content
from sparqle_fairseq.tools.report.latex import latex
from sparqle_fairseq.tools.report.markdown import markdown
from sparqle_fairseq.tools.report.page import page
from sparqle_fairseq.tools.report.parts import Part
from sparqle_fairseq.tools.report.pictures import can_draw, pictures

JSON, HTML, MARKDOWN, LATEX, PICTURES = "report.json", "report.html", "report.md", "report.tex", "pictures"
OUTPUTS = "outputs"


def check_place(folder: Path, force: bool) -> None:
    """Raise `SparqleError` where a report may not be written: before the work, not after it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise SparqleError(f"{folder} is a file; name a folder for the report")
    if not (folder / JSON).is_file():
        raise SparqleError(f"{folder} holds other things than a report, which are left alone; name another folder")
    if not force:
        raise SparqleError(f"{folder} holds a report; name another folder, or replace it with --force")
    read_content(folder / JSON)  # a stranger's report.json is not replaced


def write_report(
    folder: Path,
    content: Mapping[str, Any],
    parts: Sequence[Part],
    force: bool = False,
    outputs: Mapping[str, str] | None = None,
) -> list[str]:
    """Write all files; returns what a reader should know. `outputs`: file name -> what a control wrote.

    Raises `SparqleError`; then the folder is what it was.
    """
    check_place(folder, force)
    drawn = pictures(content) if can_draw() else {}
    notes = [] if drawn else ["without matplotlib there are no pictures: pip install 'sparqle-fairseq[report]'"]
    names = {title: f"{PICTURES}/{i}.svg" for i, title in enumerate(drawn, 1)}
    with folder_written_whole(folder, replace=force) as part_folder:
        if drawn:
            (part_folder / PICTURES).mkdir()
        for title, picture in drawn.items():
            with written_whole(part_folder / names[title]) as file:
                file.write(picture)
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(part_folder / JSON, f"{text}\n")
        write_text(part_folder / HTML, page(content, drawn))
        write_text(part_folder / MARKDOWN, markdown(content, names))
        write_text(part_folder / LATEX, latex(content))
        if outputs:
            (part_folder / OUTPUTS).mkdir()
        for name, texts in (outputs or {}).items():
            write_text(part_folder / OUTPUTS / name, texts)
        for part in parts:
            if part.rows and can_score(part):
                write_inputs(part, part_folder)
    return notes
