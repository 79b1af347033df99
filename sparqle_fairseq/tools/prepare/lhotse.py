"""Lhotse's manifests as JSON lines, packed or not: cuts, or supervisions with their recordings.

What is followed: the fields that lhotse's `to_dict` writes. lhotse itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, one_line
from sparqle_fairseq.tools.prepare.languages import language_code, required_code, serves
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.recordings import Recordings
from sparqle_fairseq.tools.prepare.splits import Item
from sparqle_fairseq.tools.prepare.table_rows import Languages
from sparqle_fairseq.tools.prepare.tables import Row, Table

CUTS, RECORDINGS, SUPERVISIONS = "cuts", "recordings", "supervisions"
_TRANSLATIONS = ("translated_text", "translation", "translations", "tgt_text")  # of a supervision's own fields
_CUTS = ("MonoCut", "MultiCut", "Cut")
_SAME_LENGTH = 0.01  # seconds; a part that is as long as its recording is all of it


def kind_of(table: Table) -> str | None:
    """Which of lhotse's manifests a table is; None for any other table."""
    first = table.rows[0].cells if table.rows else {}
    if "supervisions" in first or str(first.get("type", "")).endswith("Cut"):
        return CUTS
    if "sources" in first and "sampling_rate" in first:
        return RECORDINGS
    return SUPERVISIONS if {"recording_id", "start", "duration"} <= first.keys() else None


def items_of_cuts(
    table: Table, recordings: Recordings, languages: Languages, ledger: Ledger, split: str = ""
) -> list[Item]:
    """One item for each supervision of every cut.

    Raises:
        CorpusError: a cut that is mixed or changed, one channel of several, a recording that is no file.
    """
    items: list[Item] = []
    for row in table.rows:
        where, cut = table.where(row), row.cells
        kind = str(cut.get("type", "MonoCut"))
        if kind not in _CUTS:
            raise CorpusError(f"{where}: found a {kind}, which is no part of one recording; save its mix to a file")
        recording = cut.get("recording")
        if not isinstance(recording, dict):
            raise CorpusError(f"{where}: found a cut without a recording; write the manifest with its recordings")
        start = _number(where, cut, "start")
        spans = cut.get("supervisions") or []
        if not isinstance(spans, list):
            raise CorpusError(f"{where}: found no list of supervisions; write the manifest again")
        if not spans:
            ledger.leave(f"{where} ({cut.get('id')})", "cut without a supervision")
        for span in spans:
            name = str(cut.get("id") if len(spans) == 1 else span.get("id"))
            part = {**span, "start": start + _number(where, span, "start", least=float("-inf"))}
            if len(spans) == 1 and abs(part["start"] - start) <= _SAME_LENGTH:
                part |= {"start": start, "duration": cut.get("duration", span.get("duration"))}
            items += _items(
                where, name, part, recording, cut.get("channel"), table, recordings, languages, ledger, split
            )
    return items


def items_of_supervisions(
    table: Table,
    sources: list[Table],
    recordings: Recordings,
    languages: Languages,
    ledger: Ledger,
    split: str = "",
) -> list[Item]:
    """One item for each supervision; `sources` are the tables of their recordings."""
    known = {str(row.cells.get("id")): row.cells for source in sources for row in source.rows}
    items: list[Item] = []
    for row in table.rows:
        where, span = table.where(row), row.cells
        recording = known.get(str(span.get("recording_id")))
        if recording is None:
            raise CorpusError(
                f"{where}: found the recording {span.get('recording_id')!r}, which no manifest of recordings has; give "
                f"that manifest too"
            )
        channel = span.get("channel")
        items += _items(
            where, str(span.get("id")), span, recording, channel, table, recordings, languages, ledger, split
        )
    used = {str(row.cells.get("recording_id")) for row in table.rows}
    for source in sources:
        for row in source.rows:
            if len(sources) == 1 and str(row.cells.get("id")) not in used:
                ledger.leave(f"{source.where(row)} ({row.cells.get('id')})", "recording without a supervision")
    return items


def _items(
    where: str,
    name: str,
    span: Mapping[str, Any],
    recording: Mapping[str, Any],
    channel: Any,
    table: Table,
    recordings: Recordings,
    languages: Languages,
    ledger: Ledger,
    split: str,
) -> Iterator[Item]:
    file = _file(where, recording, channel)
    lasts = float(recording.get("duration") or 0) or None
    start, duration = _number(where, span, "start"), _number(where, span, "duration")
    whole = lasts is not None and start <= _SAME_LENGTH and abs(duration - lasts) <= _SAME_LENGTH
    cells = Table(table.path, (), [])
    text = one_line(cells.text(Row(_line(where), dict(span)), "text"))
    source = languages.source
    if span.get("language"):
        source = _spoken(where, str(span["language"]))
    made = Utterance(
        id=name,
        recording=recordings.find(where, file, table.path.parent),
        src_text=text,
        tgt_text="",
        src_lang=source,
        tgt_lang="",
        speaker=one_line(str(span.get("speaker") or "")),
        start=None if whole else start,
        duration=None if whole else duration,
        stated=lasts if whole else None,
        where=where,
    )
    found = False
    for language, translation in _translations(where, span, languages):
        if languages.target is not None and not serves(language, languages.target):
            ledger.leave(f"{where} ({name})", f"text in {language}, not in {languages.target}")
            continue
        found = True
        yield Item(_with(made, one_line(translation), languages.target or language), split)
    if not found and text:
        yield Item(made, split)
    elif not found:
        ledger.leave(f"{where} ({name})", "supervision without a text")


def _with(utterance: Utterance, text: str, language: str) -> Utterance:
    return replace(utterance, tgt_text=text, tgt_lang=language)


def _translations(where: str, span: Mapping[str, Any], languages: Languages) -> Iterator[tuple[str, str]]:
    custom = span.get("custom")
    fields = {**(custom if isinstance(custom, dict) else {}), **span}
    for name in _TRANSLATIONS:
        value = fields.get(name)
        if isinstance(value, dict):
            for language, text in value.items():
                if isinstance(text, str) and text.strip():
                    yield required_code(where, str(language)), text
        elif isinstance(value, str) and value.strip():
            target = fields.get("tgt_lang") or fields.get("target_lang") or languages.target
            if not target:
                raise CorpusError(f"{where}: found a translation of no language; give --tgt-lang")
            yield required_code(where, str(target)), value


def _spoken(where: str, language: str) -> str:
    """Lhotse's recipes write codes and English names."""
    code = language_code(language)
    if code is not None:
        return code
    import langcodes

    try:
        return langcodes.find(language).to_tag()
    except LookupError:
        return required_code(where, language)


def _file(where: str, recording: Mapping[str, Any], channel: Any) -> str:
    sources = recording.get("sources")
    if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
        count = len(sources) if isinstance(sources, list) else 0
        raise CorpusError(f"{where}: found a recording of {count} files; write its channels to one file")
    source = sources[0]
    if source.get("type") != "file" or not isinstance(source.get("source"), str):
        raise CorpusError(
            f"{where}: found a recording that is a {source.get('type')!r} and no file; save it to a file (lhotse: "
            f"save_audios)"
        )
    if recording.get("transforms"):
        kinds = {
            str(each.get("name", each)) if isinstance(each, dict) else str(each) for each in recording["transforms"]
        }
        if kinds - {"Resample"}:
            raise CorpusError(
                f"{where}: found a recording that is changed as it is read ({', '.join(sorted(kinds))}); "
                f"save it to a file"
            )
    there = source.get("channels") or [0]
    wanted = channel if isinstance(channel, list) else [channel]
    if channel is not None and set(wanted) != set(there):
        raise CorpusError(
            f"{where}: found channel {', '.join(map(str, wanted))} of a recording with {len(there)}, and channels are "
            f"averaged when a file is read; write the channel to a file of its own"
        )
    return str(source["source"])


def _number(where: str, cells: Mapping[str, Any], name: str, least: float = 0.0) -> float:
    value = cells.get(name) if isinstance(cells, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < float("inf"):
        raise CorpusError(f"{where}: found {value!r} in {name}; a number of seconds stands there")
    return float(value)


def _line(where: str) -> int:
    return int(where.rpartition(":")[2])


def sources_of(tables: list[Table]) -> list[Path]:
    """Where manifests of recordings are among tables."""
    return [table.path for table in tables if kind_of(table) == RECORDINGS]
