"""MuST-C: `en-<lang>/data/<split>/` with talks in `wav/`, and their segments and texts line by line in `txt/`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import yaml

from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, folder_of, lines_of, transcription

SPLITS = ("train", "dev", "tst-COMMON", "tst-HE")
SOURCE = "en"
# What the files hold, one segment a line; a real YAML reader takes half a minute and more for a training set.
_SEGMENT = re.compile(r"-\s*\{(.*)\}\s*")
_FIELD = re.compile(r"(\w+):\s*([^,{}\s][^,{}]*?)\s*(?:,|$)")
_NEEDED = ("duration", "offset", "wav")


def read_mustc(
    root: Path, targets: tuple[str, ...], rows: str = "both", splits: tuple[str, ...] = ()
) -> dict[str, list[Utterance]]:
    """`<split>_<lang>` (translation rows) of every target, `<split>_en` (transcription rows) of the first.

    Args:
        root: the folder that holds `en-<lang>`, or for one target that folder itself.
        targets: language codes of the folders.
        rows: translation, transcription or both.
        splits: names out of `SPLITS`; by default those that are there.
    """
    manifests = {}
    for k, target in enumerate(targets):
        itself = len(targets) == 1 and (root / "data").is_dir()
        data = folder_of(
            "MuST-C", root, *([] if itself else [f"{SOURCE}-{target}"]), "data", archive=f"{SOURCE}-{target}"
        )
        found = splits or tuple(split for split in SPLITS if (data / split).is_dir())
        if not found:
            raise CorpusError(f"{data}: found none of the splits {', '.join(SPLITS)}; unpack the archive again")
        for split in found:
            utterances = _read_split(folder_of("MuST-C", data, split), split, target)
            if rows in ("translation", "both"):
                manifests[f"{split}_{target}"] = utterances
            if rows in ("transcription", "both") and k == 0:
                manifests[f"{split}_{SOURCE}"] = [transcription(utterance) for utterance in utterances]
    return manifests


def _read_split(folder: Path, split: str, target: str) -> list[Utterance]:
    table = folder / "txt" / f"{split}.yaml"
    segments = read_segments(table)
    texts = {}
    for lang in (SOURCE, target):
        path = folder / "txt" / f"{split}.{lang}"
        texts[lang] = [line.strip() for line in lines_of(path, f"the {lang} text of {split}")]
        if len(texts[lang]) != len(segments):
            raise CorpusError(
                f"{path}: found {len(texts[lang])} lines for the {len(segments)} segments of {table}; unpack the "
                f"archive again"
            )
    talks = (folder / "wav").absolute()
    count: Counter[str] = Counter()
    utterances = []
    for number, (segment, source, translation) in enumerate(
        zip(segments, texts[SOURCE], texts[target], strict=True), start=1
    ):
        wav = segment["wav"]
        start, duration = (_seconds(table, number, segment, name) for name in ("offset", "duration"))
        utterances.append(
            Utterance(
                id=f"{Path(wav).stem}_{count[wav]}",
                recording=str(talks / wav),
                src_text=source,
                tgt_text=translation,
                src_lang=SOURCE,
                tgt_lang=target,
                speaker=segment.get("speaker_id", ""),
                start=start,
                duration=duration,
            )
        )
        count[wav] += 1
    return utterances


def read_segments(table: Path) -> list[dict[str, str]]:
    """The segments of a `<split>.yaml`, in its order, every value as text."""
    lines = [line for line in lines_of(table, "the table of segments") if line.strip() and not line.startswith("#")]
    segments = []
    for line in lines:
        match = _SEGMENT.fullmatch(line)
        fields = dict(_FIELD.findall(match[1])) if match else {}
        if not all(name in fields for name in _NEEDED) or any(mark in line for mark in "'\"&*"):
            return _read_yaml(table, "\n".join(lines))
        segments.append(fields)
    return segments


def _read_yaml(table: Path, text: str) -> list[dict[str, str]]:
    """The same from any other way of writing it in YAML; base loaders keep every value as text."""
    try:
        segments = yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except yaml.YAMLError as error:
        raise CorpusError(f"{table}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(segments, list):
        raise CorpusError(f"{table}: found no list of segments; unpack the archive again")
    for number, segment in enumerate(segments, start=1):
        missing = [name for name in _NEEDED if not isinstance(segment, dict) or name not in segment]
        if missing:
            raise CorpusError(f"{table}: segment {number} has no {missing[0]}; each needs {', '.join(_NEEDED)}")
    return segments


def _seconds(table: Path, number: int, segment: dict[str, str], name: str) -> float:
    try:
        seconds = float(segment[name])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise CorpusError(f"{table}: segment {number} has the {name} {segment[name]!r}, which is no number of seconds")
    return seconds
