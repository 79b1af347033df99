"""What a system wrote, read from whatever it wrote it in: fairseq-generate's output, lines, TSV, JSON, JSON lines.

`sparqle translate` writes segments of recordings, in TSV and in JSON; others write a text for each id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import lines_of, read_json, read_lines, read_text
from sparqle_fairseq.generate.remarks import UNHEARD
from sparqle_fairseq.scoring.outputs import Generated, read_generated, read_output

# Names under which others write a text, or whose it is; the first that is there counts.
TEXT_NAMES = ("hypothesis", "text", "translation", "transcription", "prediction", "hyp", "mt", "output")
ID_NAMES = ("id", "utterance", "utt_id", "segment_id", "key")
_FORMS = "give fairseq-generate's output, lines of text, TSV or JSON with id and hypothesis, or sparqle translate's"


@dataclass(frozen=True)
class Hypothesis:
    """A text and what its system said of it."""

    text: str
    ended: str | None = None  # `generate.remarks.Ended`
    flag: str | None = None
    missing: bool = False  # the system wrote nothing for this row


@dataclass(frozen=True)
class Written:
    """All of one file: (whose it is, hypothesis), in its order."""

    path: str
    by: Literal["row", "id", "line", "recording"]
    texts: tuple[tuple[str, Hypothesis], ...]
    generated: Generated | None = None  # with the references, where fairseq-generate wrote it


def read_written(path: str | Path) -> Written:
    """Read a file by what is in it. Raises `SparqleError`, with the line."""
    name = str(path)
    ending = Path(path).suffix.lower()
    text = read_text(path, "file of hypotheses")
    if not text.strip():
        raise SparqleError(f"{path}: found no text; {_FORMS}")
    if ending == ".json" or (ending not in (".tsv", ".jsonl") and text.lstrip()[0] in "[{" and _is_json(text)):
        return _of_json(name, read_json(path, "file of hypotheses"))
    if ending == ".jsonl":
        return _of_records(name, [_record(name, i, line) for i, line in enumerate(lines_of(text), 1) if line.strip()])
    if ending == ".tsv":
        return _of_table(name, read_lines(path))
    if any(line.kind == "D" for line in read_output(path)):
        return _of_generated(name, read_generated(path))
    return Written(name, "line", tuple((str(i), Hypothesis(line)) for i, line in enumerate(lines_of(text))))


def _of_generated(path: str, found: Generated) -> Written:
    texts = []
    for row, text in sorted(found.hypotheses.items()):
        said = found.remarks.get(row, "").split("\t")
        texts.append((str(row), Hypothesis(text, said[0] or None, UNHEARD if said[-1] == UNHEARD else None)))
    return Written(path, "row", tuple(texts), found)


def _of_table(path: str, lines: Sequence[str]) -> Written:
    header = lines[0].split("\t")
    if not set(header) & set(TEXT_NAMES):
        raise SparqleError(
            f"{path}:1: found no column of hypotheses among {', '.join(header)[:80]}; call it {TEXT_NAMES[0]}"
        )
    records = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise SparqleError(
                f"{path}:{number}: found {len(cells)} cells, and the header has {len(header)}; part cells by one tab"
            )
        records.append(dict(zip(header, cells, strict=True)))
    return _of_records(path, records)


def _of_json(path: str, content: Any) -> Written:
    if isinstance(content, Mapping) and "segments" not in content:
        if not all(isinstance(value, str) for value in content.values()):
            raise SparqleError(f"{path}: the JSON holds neither texts by id nor segments; {_FORMS}")
        return Written(path, "id", tuple((str(key), Hypothesis(value)) for key, value in content.items()))
    items = content if isinstance(content, list) else [content]
    if all(isinstance(item, str) for item in items):
        return Written(path, "line", tuple((str(i), Hypothesis(item)) for i, item in enumerate(items)))
    if not all(isinstance(item, Mapping) for item in items):
        raise SparqleError(f"{path}: the JSON holds neither texts nor objects with texts; {_FORMS}")
    if any("segments" in item or "error" in item for item in items):
        return _of_documents(path, items)
    return _of_records(path, items)


def _of_documents(path: str, documents: Sequence[Mapping[str, Any]]) -> Written:
    """What `sparqle translate` writes as JSON: a document a recording."""
    records = []
    for document in documents:
        if "error" in document:
            raise SparqleError(
                f"{path}: {document.get('audio')} was not translated ({document['error']}); translate it again"
            )
        if not isinstance(document.get("segments"), list):
            raise SparqleError(f"{path}: a document has no list of segments; {_FORMS}")
        shared = {"audio": document.get("audio"), "language": document.get("language"), "start": 0}
        records += [{**shared, **segment} for segment in document["segments"]]
        if not document["segments"]:  # nothing was heard in it
            records.append({**shared, "text": ""})
    return _of_records(path, records)


def _of_records(path: str, records: Sequence[Mapping[str, Any]]) -> Written:
    """Texts with an id, or segments with the recording that they are of."""
    if not records:
        raise SparqleError(f"{path}: found no hypothesis; {_FORMS}")
    if len(languages := {str(record["language"]) for record in records if record.get("language")}) > 1:
        raise SparqleError(
            f"{path}: found texts in {', '.join(sorted(languages))}; give the texts of each language in a file of "
            "their own"
        )
    records = [record for record in records if record.get("rank") in (None, "", "1")]  # of --nbest the best ones
    segments = "audio" in records[0] and "start" in records[0]
    owners = ("audio",) if segments else ID_NAMES
    texts = []
    for i, record in enumerate(records, 1):
        text, owner = _first(record, TEXT_NAMES), _first(record, owners)
        if not isinstance(text, str):
            raise SparqleError(f"{path}: record {i} has no text; give each a string called {TEXT_NAMES[0]}")
        if owner is None and not segments and not any(_first(other, owners) for other in records):
            owner = str(i - 1)
        elif owner is None:
            raise SparqleError(f"{path}: record {i} has no {owners[0]}, and others have one; give each its own")
        texts.append((str(owner), Hypothesis(text, record.get("ended") or None, record.get("flag") or None)))
    if segments:
        return Written(path, "recording", tuple(texts))
    named = any(_first(record, owners) is not None for record in records)
    return Written(path, "id" if named else "line", tuple(texts))


def _first(record: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _record(path: str, number: int, line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise SparqleError(f"{path}:{number}: the line is not JSON ({error.msg}); write one object a line") from error
    if not isinstance(record, Mapping):
        raise SparqleError(f"{path}:{number}: the line is no JSON object; write one object a line")
    return record


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
