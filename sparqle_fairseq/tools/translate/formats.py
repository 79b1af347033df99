"""Texts with times as plain text, SubRip, WebVTT, a table or JSON: each a header, one piece per segment, an end."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

from sparqle_fairseq.tools.translate.cues import Cue, CueRule, cues_of

FORMATS = ("txt", "srt", "vtt", "tsv", "json")
ONE_TEXT = ("srt", "vtt")  # where a time has one text


@dataclass(frozen=True)
class Line:
    """The text of one segment in one language. Times in seconds."""

    start: float
    end: float
    text: str
    score: float
    ended: str = "end"  # `generate.remarks.Ended`
    flag: str | None = None
    rivals: tuple[Line, ...] = ()  # other texts of the same segment, best first

    def cells(self) -> dict[str, Any]:
        """What programs get of it: `rivals`, with text, score and ended, where there are any."""
        found = {name: getattr(self, name) for name in ("start", "end", "text", "score", "ended", "flag")}
        found |= {"start": round(self.start, 3), "end": round(self.end, 3), "score": round(self.score, 4)}
        if self.rivals:
            found["rivals"] = [
                {"text": rival.text, "score": round(rival.score, 4), "ended": rival.ended} for rival in self.rivals
            ]
        return found


@dataclass(frozen=True)
class About:
    """What the lines of one document have in common."""

    audio: str
    language: str
    task: str


class Format(Protocol):
    """Turns a document into text piece by piece."""

    def head(self, about: About) -> str: ...

    def line(self, line: Line) -> str: ...

    def tail(self) -> str: ...


class Plain:
    """A line per segment; with rivals a numbered line for each text."""

    def head(self, about: About) -> str:
        return ""

    def line(self, line: Line) -> str:
        texts = [_in_one_line(one.text) for one in (line, *line.rivals)]
        if not line.rivals:
            return f"{texts[0]}\n"
        return "".join(f"{rank}. {text}\n" for rank, text in enumerate(texts, 1))

    def tail(self) -> str:
        return ""


class SubRip:
    """SubRip, the .srt of most players. Without a rule a segment is one cue of one line."""

    def __init__(self, rule: CueRule | None = None) -> None:
        self.rule = rule
        self.count = 0

    def head(self, about: About) -> str:
        return ""

    def line(self, line: Line) -> str:
        written = ""
        for cue in _cues(line, self.rule):
            self.count += 1
            span = f"{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}"
            written += f"{self.count}\n{span}\n" + "\n".join(cue.lines) + "\n\n"
        return written

    def tail(self) -> str:
        return ""


class WebVTT:
    """WebVTT, the subtitles of browsers (https://www.w3.org/TR/webvtt1/). Without a rule as `SubRip`."""

    def __init__(self, rule: CueRule | None = None) -> None:
        self.rule = rule

    def head(self, about: About) -> str:
        return "WEBVTT\n\n"

    def line(self, line: Line) -> str:
        written = ""
        for cue in _cues(line, self.rule):
            text = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            written += f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n\n"
        return written

    def tail(self) -> str:
        return ""


class Table:
    """Tab-separated values with a header line; without one where the table goes on. A row for each text."""

    COLUMNS = ("audio", "start", "end", "language", "text", "score", "ended", "flag", "rank")

    def __init__(self, header: bool = True) -> None:
        self.header = header
        self.about = About("", "", "")

    def head(self, about: About) -> str:
        self.about = about
        return "\t".join(self.COLUMNS) + "\n" if self.header else ""

    def line(self, line: Line) -> str:
        return "".join(self._row(one, rank) for rank, one in enumerate((line, *line.rivals), 1))

    def _row(self, line: Line, rank: int) -> str:
        where = (self.about.audio, f"{line.start:.3f}", f"{line.end:.3f}", self.about.language)
        what = (line.text, f"{line.score:.4f}", line.ended, line.flag or "", str(rank))
        return "\t".join(map(_in_one_line, (*where, *what))) + "\n"

    def tail(self) -> str:
        return ""


class Json:
    """One object a document: audio, language, task, and the segments."""

    def __init__(self) -> None:
        self.separator = ""

    def head(self, about: About) -> str:
        fields = [f"{_json(name)}: {_json(value)}" for name, value in vars(about).items()]
        return "{" + ", ".join(fields) + ', "segments": ['

    def line(self, line: Line) -> str:
        text = f"{self.separator}\n  {_json(line.cells())}"
        self.separator = ","
        return text

    def tail(self) -> str:
        return "]}\n"


def open_format(name: str, rule: CueRule | None = None) -> Format:
    """A new document of the format `name`; `rule` says how large the cues of subtitles may be."""
    if name in ("srt", "vtt"):
        return SubRip(rule) if name == "srt" else WebVTT(rule)
    kinds: dict[str, type[Format]] = {"txt": Plain, "tsv": Table, "json": Json}
    return kinds[name]()


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"


def _cues(line: Line, rule: CueRule | None) -> list[Cue]:
    """The cues of a segment, in text that no reader takes for a time line or, by an empty line, for the cue's end."""
    text = _in_one_line(line.text, keep="\u00a0\u202f").replace("-->", "→")
    if not text:
        return []
    return [Cue(line.start, line.end, (text,))] if rule is None else cues_of(text, line.start, line.end, rule)


def _in_one_line(text: str, keep: str = "") -> str:
    """`text` with single spaces for all white space but that of `keep`."""
    return re.sub(rf"[^\S{keep}]+", " ", text).strip()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
