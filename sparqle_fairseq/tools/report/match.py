"""Hypotheses to the utterances that they are of, by row, id, line or recording; nothing is left out in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.tools.report.expected import Split
from sparqle_fairseq.tools.report.resegment import resegmented
from sparqle_fairseq.tools.report.written import Hypothesis, Written


def matched(written: Written, split: Split, missing_as_empty: bool = False) -> list[Hypothesis]:
    """The hypothesis of every row of `split`.

    Args:
        missing_as_empty: a row without a hypothesis gets an empty one, which is marked.

    Raises:
        SparqleError: a row has no hypothesis or two, a hypothesis no row, fairseq-generate printed other references,
            or segments of a talk cannot be cut anew.
    """
    if written.by == "line" and len(written.texts) != len(split.rows):
        raise SparqleError(
            f"{written.path} has {len(written.texts)} texts and {split.name} {len(split.rows)} utterances; line k must "
            "be the text of row k"
        )
    if written.by == "recording":
        texts: Mapping[str, Hypothesis] = _of_recordings(written, split)
        keys = [row.id for row in split.rows]
    else:
        keys = [row.id for row in split.rows] if written.by == "id" else [str(i) for i in range(len(split.rows))]
        if written.by == "id" and not split.named:
            raise SparqleError(f"{written.path} has texts by id, and {split.name} has no ids; give its --manifest")
        _check_once([key for key, _ in written.texts], written.path)
        texts = dict(written.texts)
    if strangers := sorted(set(texts) - set(keys)):
        raise SparqleError(
            f"{written.path}: {len(strangers)} of {len(texts)} hypotheses are of no utterance of {split.name} (the "
            f"first is {strangers[0]!r}); give the output for this test set"
        )
    if missing := [i for i, key in enumerate(keys) if key not in texts]:
        if not missing_as_empty:
            raise SparqleError(
                f"{written.path}: {len(missing)} of {len(keys)} utterances have no hypothesis, the first is "
                f"{split.where(missing[0])}; run the system for them, or count them as empty with --missing-as-empty"
            )
        texts = {**texts, **{keys[i]: Hypothesis("", missing=True) for i in missing}}
    if written.generated is not None:
        _check_references(written, split)
    return [texts[key] for key in keys]


def _check_once(keys: Sequence[str], path: str) -> None:
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise SparqleError(f"{path}: found {twice!r} twice; leave one hypothesis for each utterance")


def _check_references(written: Written, split: Split) -> None:
    assert written.generated is not None
    for i, printed in written.generated.references.items():
        expected = split.rows[i].reference if i < len(split.rows) else None
        if normalised(printed) != normalised(expected):
            raise SparqleError(
                f"{written.path}: the reference of row {i} is {printed[:40]!r}, but {split.where(i)} asks for "
                f"{(expected or '')[:40]!r}; is it the output for another test set?"
            )


def _of_recordings(written: Written, split: Split) -> dict[str, Hypothesis]:
    """By id. Where a recording has one row, its segments are joined; where it has several, they are cut anew."""
    if any(row.audio is None for row in split.rows):
        raise SparqleError(f"{written.path} has texts of recordings, and {split.name} names none; give its --manifest")
    rows: dict[str, list[int]] = {}
    for i, row in enumerate(split.rows):
        rows.setdefault(_recording(row.audio or ""), []).append(i)
    names = _names(list(rows))
    segments: dict[str, list[Hypothesis]] = {}
    for audio, hypothesis in written.texts:
        found = names.get(os.path.realpath(audio)) or names.get(Path(audio).name) or names.get(Path(audio).stem)
        if found is None:
            raise SparqleError(f"{written.path}: found {audio}, which is no recording of {split.name}; leave it out")
        segments.setdefault(found, []).append(hypothesis)
    joined = {recording: _joined(parts) for recording, parts in segments.items()}
    found_texts = {split.rows[rows[name][0]].id: text for name, text in joined.items() if len(rows[name]) == 1}
    talks = [name for name in rows if len(rows[name]) > 1]
    if talks:
        if absent := [name for name in talks if name not in joined]:
            raise SparqleError(f"{written.path} has no text of {absent[0]}; translate it, too")
        references = [[split.rows[i].reference or "" for i in rows[name]] for name in talks]
        language = split.rows[rows[talks[0]][0]].language
        cut = resegmented([joined[name].text for name in talks], references, language)
        for name, texts in zip(talks, cut, strict=True):
            found_texts |= {split.rows[i].id: Hypothesis(text) for i, text in zip(rows[name], texts, strict=True)}
    return found_texts


def _joined(parts: Sequence[Hypothesis]) -> Hypothesis:
    """Segments as one text. It ended and is flagged as the first of them that is out of the ordinary."""
    ended = next((part.ended for part in parts if part.ended not in (None, "end")), parts[0].ended)
    flag = next((part.flag for part in parts if part.flag), None)
    return Hypothesis(" ".join(filter(None, (part.text.strip() for part in parts))), ended, flag)


def _recording(audio: str) -> str:
    """The file of a row's audio, without the place of a slice in it (`talk.wav:0:16000`)."""
    whole = os.path.realpath(audio)
    if os.path.exists(whole):
        return whole
    path, *place = audio.rsplit(":", 2)
    return os.path.realpath(path) if len(place) == 2 and all(part.isdigit() for part in place) else whole


def _names(recordings: Sequence[str]) -> dict[str, str]:
    """Whole path, name, or name without ending -> recording; names that several have name none."""
    found: dict[str, str] = {}
    for shorten in (lambda path: Path(path).stem, lambda path: Path(path).name, str):
        counts = Counter(map(shorten, recordings))
        found |= {shorten(path): path for path in recordings if counts[shorten(path)] == 1}
    return found
