"""LibriSpeech (openslr.org/12): `<split>/<speaker>/<chapter>/*.flac`, transcripts in one `.trans.txt` a chapter."""

from __future__ import annotations

import re
from pathlib import Path

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.tools.prepare.common import CorpusError, Manifests, Utterance, folder_of, lines_of
from sparqle_fairseq.tools.prepare.ledger import Ledger

SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
CASES = ("lower", "keep", "sentence")
_I = re.compile(r"\bi\b(?!-)")


def read_librispeech(
    root: Path, splits: tuple[str, ...] = (), case: str = "lower", ledger: Ledger | None = None
) -> Manifests:
    """Transcription rows by split; without `splits`, of every split that is unpacked.

    Args:
        root: the folder `LibriSpeech`, or the one it lies in.
        splits: names out of `SPLITS`.
        case: what becomes of the transcripts, which are upper case: see `in_case`.
        ledger: told of recordings that no transcript names.

    Raises:
        CorpusError: a folder or table that is missing or cannot be read.
    """
    ledger = ledger if ledger is not None else Ledger()
    corpus = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    found = splits or tuple(split for split in SPLITS if (corpus / split).is_dir())
    if not found:
        folder_of("LibriSpeech", root, "LibriSpeech", archive="-clean")
    return {split: _read_split(_folder(root, corpus, split), case, ledger) for split in found}


def _folder(root: Path, corpus: Path, split: str) -> Path:
    """A split's folder; the archive lies where `LibriSpeech` does."""
    return corpus / split if (corpus / split).is_dir() else folder_of("LibriSpeech", root, split)


def _read_split(folder: Path, case: str, ledger: Ledger) -> list[Utterance]:
    tables = sorted(folder.glob("*/*/*.trans.txt"))
    if not tables:
        raise CorpusError(f"{folder}: found no <speaker>/<chapter>/*.trans.txt; unpack the archive of this split again")
    utterances = []
    for table in tables:
        said = set()
        for number, line in enumerate(lines_of(table, "the transcripts of a chapter"), start=1):
            name, space, text = line.partition(" ")
            if not space or len(name.split("-")) != 3:
                raise CorpusError(
                    f"{table}:{number}: found {line[:60]!r} where '<speaker>-<chapter>-<number> TEXT' stands"
                )
            text = in_case(text.strip(), case)
            said.add(name)
            recording, where = str((table.parent / f"{name}.flac").absolute()), f"{table}:{number}"
            utterances.append(Utterance(name, recording, text, text, "en", "en", name.split("-")[0], where=where))
        for path in sorted(table.parent.iterdir()):
            if is_audio(path) and path.stem not in said:
                ledger.leave(path, "recording without a transcript")
    return utterances


def in_case(text: str, case: str) -> str:
    """`HE SAID I'LL GO` kept; or lower: `he said i'll go`; or as a sentence begins: `He said I'll go`."""
    if case == "keep":
        return text
    text = text.lower()
    return text if case == "lower" else _I.sub("I", text[:1].upper() + text[1:])
