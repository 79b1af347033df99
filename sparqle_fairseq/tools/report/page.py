"""The report as one HTML file that asks nothing of any server: style and pictures are inside, and a policy says so."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparqle_fairseq.tools.report.tables import (
    BETTER,
    NAMES,
    NO_DIFFERENCE,
    WORSE,
    Table,
    breakdown_tables,
    difference_table,
    flag_table,
    language_tables,
    score_table,
    signatures,
)

_STYLE = """
:root { color-scheme: light dark; --line: #c9ced6; --quiet: #5b6470; --back: #f3f5f8; --mark: #0b6e4f; --bad: #a4262c }
@media (prefers-color-scheme: dark) {
  :root { --line: #454c57; --quiet: #a3adba; --back: #20242b; --mark: #57c7a0; --bad: #f08a8f }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem 1.5rem 4rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 3rem; border-top: 2px solid var(--line); padding-top: 1.2rem }
nav a { margin-right: 1.2rem } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 }
caption { text-align: left; font-weight: 600; padding: .8rem 0 .3rem }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line) }
td, th { vertical-align: top } td, tbody th { white-space: nowrap }
thead th { border-bottom: 2px solid var(--line) } .text { text-align: left }
.note, .id { color: var(--quiet); font-size: .875rem } .better { color: var(--mark); font-weight: 600 }
.worse { color: var(--bad); font-weight: 600 } img { max-width: 100%; background: #fff; border-radius: .3rem }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 }
dl { margin: .3rem 0 .9rem; padding: .5rem .8rem; background: var(--back); border-radius: .3rem }
dt { color: var(--quiet); font-size: .8rem } dd { margin: 0 0 .3rem } pre { white-space: pre-wrap; font-size: .8rem }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(content: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The whole file. `pictures`: title -> SVG."""
    parts = content["parts"]
    links = "".join(f'<a href="#{_anchor(part["name"])}">{_safe(part["title"])}</a>' for part in parts)
    body = [f"<h1>{_safe(' · '.join(content['systems']))}</h1>", f'<nav aria-label="Parts">{links}</nav>']
    if content["languages"] is not None:
        body += [_table(table) for table in language_tables(content["languages"])]
    for part in parts:
        body += _part(part, content, pictures)
    says = "\n".join(signatures(parts, content["settings"]))
    body.append(f"<h2>How it was counted</h2><pre>{_safe(says)}</pre>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Report</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _part(part: Mapping[str, Any], content: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Iterator[str]:
    baseline = content["baseline"]
    yield f'<h2 id="{_anchor(part["name"])}">{_safe(part["title"])}</h2>'
    yield from (f'<p class="note">{_safe(note)}</p>' for note in part["notes"])
    yield _table(score_table(part, baseline), caption="Scores")
    if (differences := difference_table(part, baseline)) is not None:
        yield _table(differences, caption=f"Against {baseline}")
    for title, picture in pictures.items():
        if title.startswith(f"{part['title']}: "):
            data = base64.b64encode(picture).decode("ascii")
            yield f'<p><img alt="{_safe(title)}" src="data:image/svg+xml;base64,{data}"></p>'
    for table in breakdown_tables(part):
        yield _table(table, caption=table.title.removeprefix(f"{part['title']}, ").capitalize())
    yield _table(flag_table(part, content["flags"]), caption="Hypotheses that want a look")
    yield from _flagged(part)
    for system, found in part["examples"].items():
        yield from _examples(part, system, found)
    if part["comet"]:
        yield (
            f"<details><summary>COMET</summary><p>In comet/{_safe(part['name'])}:</p>"
            f"<pre>{_safe(part['comet'])}</pre></details>"
        )


def _flagged(part: Mapping[str, Any]) -> Iterator[str]:
    """The ids, so that the utterances can be found."""
    for system, found in part["flags"].items():
        lines = "".join(
            f"<dt>{_safe(flag)} ({about['count']})</dt><dd>{_safe(', '.join(about['ids']))}"
            f"{' …' if about['count'] > len(about['ids']) else ''}</dd>"
            for flag, about in found["rows"].items()
        )
        if lines:
            yield f"<details><summary>{_safe(system)}: which</summary><dl>{lines}</dl></details>"


def _examples(part: Mapping[str, Any], system: str, found: Mapping[str, Any]) -> Iterator[str]:
    kinds = {
        "worst": f"the worst by {NAMES[found['metric']]}",
        "median": "in the middle",
        "gained": "largest gains over the baseline",
        "lost": "largest losses against the baseline",
    }
    for kind, says in kinds.items():
        if found[kind]:
            shown = "".join(_example(part, each, found["metric"]) for each in found[kind])
            yield f"<details><summary>{_safe(system)}: {_safe(says)}</summary>{shown}</details>"


def _example(part: Mapping[str, Any], example: Mapping[str, Any], metric: str) -> str:
    language = part["language"] or ""
    lines = [("said", "", example["source"]), ("reference", language, example["reference"])]
    lines += [("baseline", language, example["baseline"]), ("hypothesis", language, example["hypothesis"])]
    change = "" if example["change"] is None else f" ({example['change']:+.1f})"
    cells = "".join(
        f'<dt>{name}</dt><dd lang="{_safe(code)}" dir="auto">{_safe(text) or "<em>(no text)</em>"}</dd>'
        for name, code, text in lines
        if text is not None and not (name == "said" and part["task"] == "transcription")
    )
    about = f"{_safe(example['id'])} · {NAMES[metric]} {example['score']:.1f}{change}"
    return f'<dl><div class="id">{about}</div>{cells}</dl>'


def _table(table: Table, caption: str | None = None) -> str:
    head = "".join(f'<th scope="col"{_kind(table, i)}>{_safe(cell)}</th>' for i, cell in enumerate(table.head))
    rows = "".join(f"<tr>{''.join(_cell(table, i, cell) for i, cell in enumerate(row))}</tr>" for row in table.rows)
    note = f'<p class="note">{_safe(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll"><table><caption>{_safe(caption or table.title)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(table: Table, i: int, cell: str) -> str:
    classes = ["text"] if i in table.texts else []
    if cell in (BETTER, WORSE, NO_DIFFERENCE):
        classes.append(cell.replace(" ", "-"))
    named = f' class="{" ".join(classes)}"' if classes else ""
    return f'<th scope="row"{named}>{_safe(cell)}</th>' if i == 0 else f"<td{named}>{_safe(cell)}</td>"


def _kind(table: Table, i: int) -> str:
    return ' class="text"' if i in table.texts else ""


def _anchor(name: str) -> str:
    return re.sub(r"[^\w-]", "-", name)


def _safe(text: str | Sequence[str]) -> str:
    return html.escape(str(text), quote=True)
