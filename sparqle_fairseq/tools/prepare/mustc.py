"""MuST-C and its like: `en-fr/data/<split>/`, talks in `wav/`, segments and texts line by line in `txt/`.

mTEDx (`es-en`, flac, `valid` and `test`) and test sets of IWSLT have this layout too.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import yaml

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.errors import reason
from sparqle_fairseq.tools.prepare.common import (
    CorpusError,
    Manifests,
    Utterance,
    folder_of,
    lines_of,
    other_ending,
    transcription,
)
from sparqle_fairseq.tools.prepare.languages import language_code
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.splits import spelled

SPLITS = ("train", "dev", "tst-COMMON", "tst-HE")  # of MuST-C; other corpora have others
# What the files hold, one segment a line; a real YAML reader takes half a minute and more for a training set.
_SEGMENT = re.compile(r"-\s*\{(.*)\}\s*")
_FIELD = re.compile(r"(\w+):\s*([^,{}\s][^,{}]*?)\s*(?:,|$)")
_NEEDED = ("duration", "offset", "wav")
_PAIR = re.compile(r"([A-Za-z]{2,3})-([A-Za-z]{2,3}(?:-[A-Za-z]{2,4})?)")


def read_mustc(
    root: Path,
    targets: tuple[str, ...],
    rows: str = "both",
    splits: tuple[str, ...] = (),
    source: str | None = None,
    ledger: Ledger | None = None,
) -> Manifests:
    """`<split>_<lang>` (translation rows) of every target, `<split>_<source>` (transcription rows) of the first.

    Args:
        root: the folder that holds `<source>-<target>`, or for one target that folder itself.
        targets: language codes of the folders. The spoken language itself asks for its transcripts (`es-es`).
        rows: translation, transcription or both.
        splits: their names; by default those that are there.
        source: the spoken language, where folders of several have the same target.
        ledger: told of talks that no segment names.

    Raises:
        CorpusError: a folder, table or text that is missing, cannot be read, or does not fit the others.
    """
    ledger = ledger if ledger is not None else Ledger()
    manifests: Manifests = {}
    transcribed = set()
    for target in targets:
        pair, spoken = _pair(root, target, source, alone=len(targets) == 1)
        data = folder_of("MuST-C", pair, "data", archive=f"{spoken}-{target}")
        for split in _splits(data, splits):
            utterances = _read_split(folder_of("MuST-C", data, split), split, spoken, target, ledger)
            if rows in ("translation", "both") and target != spoken:
                manifests[f"{split}_{target}"] = utterances
            if rows in ("transcription", "both") and (spoken, split) not in transcribed:
                manifests[f"{split}_{spoken}"] = [transcription(utterance) for utterance in utterances]
        transcribed |= {(spoken, split) for split in _splits(data, splits)}
    if not manifests:
        raise CorpusError(f"{root}: holds transcripts only, no translation into {', '.join(targets)}")
    return manifests


def _pair(root: Path, target: str, source: str | None, alone: bool) -> tuple[Path, str]:
    """The folder of a pair of languages, and the language that is spoken in it."""
    if alone and (root / "data").is_dir() and not (root / f"{source}-{target}").is_dir():
        return root, source or _spoken(root, target)
    if source is not None:
        return folder_of("MuST-C", root, f"{source}-{target}", archive=f"{source}-{target}"), source
    there = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = [match[1] for path in there if (match := _PAIR.fullmatch(path.name)) and match[2] == target]
    found = [language for language in found if language_code(language)]
    if len(found) > 1 and target in found:  # es-en and en-en: the translation
        found.remove(target)
    if len(found) > 1:
        folders = ", ".join(f"{language}-{target}" for language in found)
        raise CorpusError(f"{root}: found {folders}; say which language is spoken with --src-lang")
    spoken = found[0] if found else "en"
    return folder_of("MuST-C", root, f"{spoken}-{target}", archive=f"{spoken}-{target}"), spoken


def _spoken(pair: Path, target: str) -> str:
    """The spoken language of a folder that is the pair itself: by its name, or else by the texts that it has."""
    match = _PAIR.fullmatch(pair.absolute().name)
    if match and match[2] == target:
        return match[1]
    if match and language_code(match[1]) and language_code(match[2]):
        raise CorpusError(
            f"{pair}: holds {match[1]} with texts in {match[2]}, none in {target}; give --tgt-lang {match[2]}"
        )
    suffixes = {path.suffix[1:] for path in pair.glob("data/*/txt/*") if path.is_file()}
    languages = sorted(code for code in suffixes if language_code(code) and code not in ("yaml", "txt", target))
    if len(languages) != 1:
        found = ", ".join(languages) or "none"
        raise CorpusError(f"{pair}: found texts in {found} beside {target}; say which is spoken with --src-lang")
    return languages[0]


def _splits(data: Path, wanted: tuple[str, ...]) -> list[str]:
    """The names of the folders of the splits: those of MuST-C first."""
    there = [path.name for path in sorted(data.iterdir()) if (path / "txt").is_dir()]
    there.sort(key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))
    if not there:
        raise CorpusError(f"{data}: found no folder <split>/txt; unpack the archive again")
    if not wanted:
        return there
    found = []
    for name in wanted:
        split = spelled(name, there)
        if split is None:
            folder_of("MuST-C", data, name)
            raise CorpusError(f"{data}: there is no split {name!r}; there are {', '.join(there)}")
        found.append(split)
    return found


def _read_split(folder: Path, split: str, source: str, target: str, ledger: Ledger) -> list[Utterance]:
    table = _table(folder, split)
    segments = read_segments(table)
    texts = {}
    for lang in dict.fromkeys((source, target)):
        path = table.with_suffix(f".{lang}")
        texts[lang] = [line.strip() for line in lines_of(path, f"the {lang} text of {split}")]
        if len(texts[lang]) != len(segments):
            raise CorpusError(
                f"{path}: found {len(texts[lang])} lines for the {len(segments)} segments of {table}; unpack the "
                f"archive again"
            )
    talks = next(
        (folder / name for name in ("wav", "wavs", "flac") if (folder / name).is_dir()), folder / "wav"
    ).absolute()
    files = {wav: other_ending(talks / wav) for wav in dict.fromkeys(segment["wav"] for segment in segments)}
    used = set(files.values())
    for path in sorted(talks.iterdir()) if talks.is_dir() else ():
        if is_audio(path) and path not in used:
            ledger.leave(path, "talk without a segment")
    count: Counter[str] = Counter()
    utterances = []
    for number, (segment, said, translation) in enumerate(
        zip(segments, texts[source], texts[target], strict=True), start=1
    ):
        wav = segment["wav"]
        start, duration = (_seconds(table, number, segment, name) for name in ("offset", "duration"))
        utterances.append(
            Utterance(
                id=f"{Path(wav).stem}_{count[wav]}",
                recording=str(files[wav]),
                src_text=said,
                tgt_text=translation,
                src_lang=source,
                tgt_lang=target,
                speaker=segment.get("speaker_id", ""),
                start=start,
                duration=duration,
                where=f"{table}, segment {number}",
            )
        )
        count[wav] += 1
    return utterances


def _table(folder: Path, split: str) -> Path:
    """The segments: `txt/<split>.yaml`, or the only yaml file there."""
    table = folder / "txt" / f"{split}.yaml"
    others = sorted((folder / "txt").glob("*.yaml"))
    return others[0] if not table.is_file() and len(others) == 1 else table


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
        raise CorpusError(f"{table}: cannot be read as YAML ({reason(error)})") from None
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
